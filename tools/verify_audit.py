"""Verify an export of the audit chain, with nothing but Python's standard library: no vault, no database, no key.

    python3 verify_audit.py EXPORT [--anchor FILE]...

``EXPORT`` is what ``docvault audit export`` wrote. Each entry's hash is computed anew from what the entry says and the
hash before it, so nothing can be changed, taken out or put in between without its position being named here. An
anchor file, kept somewhere else, shows whether the end is still the end. Exit code 0: whole. 2: something is not.
"""

import argparse
import hashlib
import json
import re
import sys

ABSENT = b"\xff\xff\xff\xff"
FIELDS = (
    ("at", "time"),
    ("actor", "bytes"),
    ("action", "text"),
    ("object_kind", "text"),
    ("object", "bytes"),
    ("subject", "bytes"),
    ("succeeded", "flag"),
    ("detail", "text"),
    ("request", "bytes"),
    ("touched", "bytes"),
)
ANCHOR_LINE = re.compile(
    r"1 ([1-9][0-9]{0,17}) ([0-9a-f]{64}) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ( accepted)?", re.ASCII
)


def item(data):
    """Prefix bytes with their length."""
    return len(data).to_bytes(4, "big") + data


def tagged(value, kind):
    """Encode one field: a tag, then the value."""
    if value is None:
        return item(b"n") + ABSENT
    if kind == "time":
        return item(b"t") + item(value.to_bytes(8, "big", signed=True))
    if kind == "flag":
        return item(b"i") + item(int(value).to_bytes(8, "big", signed=True))
    if kind == "bytes":
        return item(b"y") + item(bytes.fromhex(value))
    return item(b"s") + item(value.encode())


def entry_hash(entry):
    """Compute the hash that an entry must have."""
    fields = b"".join(tagged(entry[name], kind) for name, kind in FIELDS)
    message = item(b"docvault/v1/audit") + item(bytes.fromhex(entry["previous_hash"]))
    message += item(entry["sequence"].to_bytes(8, "big")) + item(fields)
    return hashlib.sha256(message).hexdigest()


def faults(lines, anchored):
    """Yield what is wrong, with its position; ``anchored`` is a list of (sequence, hash) that must be in the chain."""
    header = json.loads(next(lines, "null"))
    if (
        not isinstance(header, dict)
        or header.get("format") != "docvault-audit-export"
        or header.get("version") != 1
    ):
        yield 0, "this is no export of an audit chain"
        return
    previous, expected, seen = "00" * 32, 1, {}
    wanted = {sequence for sequence, _ in anchored}
    for text in lines:
        try:
            entry = json.loads(text)
            sequence, found = entry["sequence"], entry["entry_hash"]
            computed = entry_hash(entry)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            yield expected, "the entry cannot be read"
            previous, expected = None, expected + 1
            continue
        if sequence != expected:
            yield expected, "the entry is missing" if sequence > expected else f"entry {sequence} stands here"
            previous = None
        if previous is not None and entry["previous_hash"] != previous:
            yield sequence, "the entry does not follow the one before it"
        if computed != found:
            yield sequence, "the entry was changed: its hash does not fit"
        if sequence in wanted:
            seen[sequence] = computed
        previous, expected = found, sequence + 1
    end = header["end"]
    if end["sequence"] != expected - 1:
        yield expected, f"the export ends here; it should go on to position {end['sequence']}"
    elif previous is not None and end["entry_hash"] != previous:
        yield expected - 1, "the last entry is not the one that the export begins with"
    for sequence, known in anchored:
        if sequence not in seen:
            yield sequence, "an anchor knows this position, the chain does not: an older state was put back"
        elif seen[sequence] != known:
            yield sequence, "the entry is not the one that an anchor knows"


def anchor_lines(path):
    """Read the lines of an anchor file that bind: those since an older state was last accepted."""
    with open(path, encoding="ascii", errors="replace") as file:
        found = [line for line in map(ANCHOR_LINE.fullmatch, file.read().split("\n")) if line]
    accepted = [number for number, line in enumerate(found) if line[3]]
    return [(int(line[1]), line[2]) for line in found[accepted[-1] if accepted else 0 :]]


def main():
    parser = argparse.ArgumentParser(description="Verify an export of the audit chain of Document Vault.")
    parser.add_argument("export", help="what `docvault audit export` wrote; - is standard input")
    parser.add_argument("--anchor", action="append", default=[], help="an anchor file that must fit")
    asked = parser.parse_args()
    anchored = [line for path in asked.anchor for line in anchor_lines(path)]
    wrong = 0
    with open(0 if asked.export == "-" else asked.export, encoding="ascii", errors="replace") as file:
        for position, text in faults(iter(file), anchored):
            wrong += 1
            print(f"position {position}: {text}")
    print(f"{wrong} faults." if wrong else f"The chain is whole; {len(anchored)} lines of anchors fit.")
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
