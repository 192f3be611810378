"""Write ``docs/security-tests.md``: every attack, fault and requirement with the tests that bear its id.

    python -m tools.security_tests

A test bears an id in its name (``test_k1_...``, ``test_f2_f4_...``, ``test_41_...``, ``test_checklist_17_...``) or by
``@pytest.mark.requirement(17)``. ``tests/attacks/test_catalogue.py`` holds that the page is up to date, and that every
row has a test or a reason here.
"""

from __future__ import annotations

import ast
import logging
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "security-tests.md"

GROUPS = {
    "K": "Key material and identity",
    "W": "Wrapped keys and the registry",
    "C": "Ciphertext",
    "M": "Metadata, structure, deletion",
    "P": "Passphrases, sessions, master key",
    "A": "Sharing endpoints",
    "X": "Web surface",
}

ATTACKS = {
    "K1": "a user's locked private or account key is overwritten with the attacker's",
    "K2": "a public key is replaced, and somebody shares with its owner",
    "K3": "a private key that does not belong to the public one",
    "K4": "malformed key bytes that leak by the error they cause",
    "K5": "weak, odd or enormous public keys",
    "K6": "the rows of two users are exchanged wholesale",
    "K7": "a name used again inherits what its former owner had",
    "K8": "an invited, disabled, locked or deleted account acts as a full one",
    "K9": "recovery is used twice, or widens its own rights",
    "W1": "the wrapped keys of two readers are exchanged",
    "W2": "a grant is moved to another document or version",
    "W3": "a planted document looks like somebody's own",
    "W4": "two readers of one version see two different contents",
    "W5": "the permission or the end of a grant is raised",
    "W6": "a revoked grant is put back from a backup",
    "W7": "a revoked reader kept the old key",
    "W8": "a reader is added without an act of the owner",
    "W9": "two different rows or contexts have the same encoding",
    "W10": "the address of an upload opens or changes it",
    "C1": "bits of a blob are flipped",
    "C2": "chunks and blobs are exchanged, doubled, dropped",
    "C3": "a blob is cut at a chunk, or bytes are appended",
    "C4": "an older or other format is announced",
    "C5": "an older version's blob under the current row, and the reverse",
    "C6": "a key and nonce are used twice, after a retry, resume or fork",
    "C7": "weak randomness",
    "C8": "answers and times that tell why something does not open",
    "C9": "compression before encryption, or on the way",
    "C10": "finding out who has a file that one has oneself",
    "M1": "the names of two documents are exchanged",
    "M2": "size, time, type, owner or any other column is changed",
    "M3": "folders or files are planted",
    "M4": "rows or blobs are removed silently",
    "M5": "the audit log is cut, edited or reordered",
    "M6": "a whole older snapshot is put back",
    "M7": "plaintext in the database, blobs, logs, temporary files, environment, core files",
    "M8": "what remains readable is not admitted",
    "M9": "an edited or stale row is sealed anew by the vault itself",
    "M10": "a hostile database: dropped unique keys, triggers, views, logged parameters",
    "P1": "the cost of the passphrase is lowered, or raised to exhaust memory",
    "P2": "one ciphertext tests many passphrases",
    "P3": "guessing, spraying, and the lockout as a weapon",
    "P4": "very long, odd and differently composed passphrases",
    "P5": "finding out which user names exist",
    "P6": "sessions and tokens that are replayed, exchanged, lengthened, forged",
    "P7": "a session that outlives logout, change, disabling, revocation",
    "P8": "session fixation and requests from another site",
    "P9": "a missing, short, default, foreign or readable master key",
    "A1": "a secondary verb or address that forgets to ask who is asking",
    "A2": "foreign and missing are told apart",
    "A3": "a right is avoided by another spelling of the address",
    "A4": "fields that nobody asked for are taken from a request",
    "A5": "races: share against revoke, double acceptance, quotas",
    "A6": "limits avoided by what a header claims",
    "X1": "scripts in uploaded content run in the vault's origin",
    "X2": "a Content-Security-Policy that does nothing",
    "X3": "hostile names: control characters, direction marks, paths, devices",
    "X4": "forged lines in logs, formulas in exports",
    "X5": "paths in upload ids, metadata and headers",
    "X6": "a client writes outside of its folder or follows links",
    "X7": "the server is made to fetch an address",
    "X8": "previewers and parsers are attacked",
    "X9": "bombs: zip, gzip, nested",
    "X10": "forms made to cost time or memory",
    "X11": "a cache shows one person's page to another",
    "X12": "requests read in two ways, headers of a proxy made up",
    "X13": "framing, open redirects, referrers, embedding",
}

FAULTS = {
    "F1": "kill -9 during a PATCH",
    "F2": "kill -9 during the completion of an upload",
    "F3": "kill -9 during a share with 1,000 users",
    "F4": "kill -9 during revoke, replace, delete",
    "F5": "kill -9 during a change of passphrase",
    "F6": "kill -9 during the rotation of the master key",
    "F7": "an object store that refuses, errs or is not there",
    "F8": "an object store that is slow or hangs",
    "F9": "an object store that answers with other bytes",
    "F10": "a put whose answer is lost",
    "F11": "a locked, restarted, exhausted database",
    "F12": "full disks",
    "F13": "errors of read, write and fsync",
    "F14": "power cut",
    "F15": "clocks that jump",
    "F16": "duplicate, reordered and parallel pieces of an upload",
    "F17": "share, revoke, replace, delete at once on one document",
    "F18": "a master key that is missing, wrong or another one on one worker",
    "F19": "orphaned blobs and expired uploads",
    "F20": "deletion during a download",
    "F21": "10,000 documents",
    "F22": "1,000 readers of one document",
    "F23": "10 GiB in one file",
    "F24": "files exactly at the limits",
    "F25": "clients that disconnect at any byte",
    "F26": "clients that send or read slowly",
    "F27": "100 logins at once",
    "F28": "reloads under load, migrations killed half way",
    "F29": "a backup taken live and restored elsewhere",
    "F30": "a watched folder that changes under the agent",
    "F31": "an agent that lost its state",
    "F32": "an audit sink or anchor that cannot be written",
    "F33": "garbage in any column",
}

REQUIREMENTS = {
    1: "user keys are RSA-2048 by default, 3072 and 4096 by a setting, e = 65537, own generator",
    2: "OAEP with SHA-256 and a label; PKCS#1 v1.5 nowhere",
    3: "Argon2id at 64 MiB, 3 iterations, 4 lanes, salt of 16 random bytes, at least",
    4: "costs outside floor and ceiling are refused before they run, and raised at the next login",
    5: "so many Argon2id runs at once and no more; the rest waits, then 503",
    6: "each key has one purpose, listed in one file",
    7: "keys, salts, ids and tokens from the operating system, 128 bits or more; no UUID as a secret",
    8: "a fresh key and salt for each version and each attempt",
    9: "no (key, nonce) pair is used twice",
    10: "no GCM message is too long; tags of 128 bits, nonces of 96",
    11: "random nonces under one key stay below 2^32",
    12: "segment and offset are in the context of each part; purposes never share a context",
    13: "lengths at every edge of chunk and part come back, and have the size of the formula",
    14: "manifest, first and last chunk are checked before the first byte of an answer",
    15: "every failure to verify is one exception, one status, one body",
    16: "secrets are compared in constant time only",
    17: "an inventory of keys and algorithms that is compared with the code",
    18: "rotation of the master key re-seals all rows, resumable, the old key refused afterwards",
    19: "passphrases of 15 characters to 1,024 bytes, any characters, never cut",
    20: "one's own passphrase has strength: zxcvbn 4 and 10^12 guesses, without the user's name",
    21: "a change needs the present passphrase, rewrites one row and ends other sessions",
    22: "failed logins are limited by account and address, across workers",
    23: "one answer and one work for unknown user and wrong passphrase",
    24: "no default account or secret",
    25: "tokens of exactly one algorithm, verified before their claims",
    26: "exp, nbf, iat, iss, aud and typ are checked",
    27: "a token holds ids and the client's half of keys, no name",
    28: "cookies `__Host-`, Secure, HttpOnly, SameSite, Path=/, small",
    29: "the key of a session is two halves, and either alone opens nothing",
    30: "a new session at each login; idle and absolute limits",
    31: "logout, disabling, passphrase change and ending sessions count at the next request in every worker",
    32: "users see and end their sessions; a logout clears what the browser kept",
    33: "what endangers an account asks for the passphrase again",
    34: "no secret in an address, log, audit row or error",
    35: "every route stands in the matrix of roles",
    36: "every object that is read or written is checked for the caller's right",
    37: "a grant never exceeds the granter's right",
    38: "a revocation counts at once, also for a running download",
    39: "an administrator reads, lists and deletes no document",
    40: "a recipient's key is shown as a fingerprint; a changed one blocks sharing until it is confirmed",
    41: "limits on file, bytes and open uploads, on stored bytes",
    42: "every MUST of tus 1.0 and its extensions",
    43: "upload ids are the server's, and bound to their user",
    44: "names never reach a path, object key, header or page unencoded",
    45: "downloads are attachments that no browser runs or keeps",
    46: "ranges verify each chunk that is served, and absurd ones are 416",
    47: "a failure in mid-stream never looks like a whole answer",
    48: "no plaintext on disk during a large upload and download",
    49: "nothing uploaded is unpacked, executed or rendered",
    50: "no scanner and no rendering on the server exists",
    51: "strict policies and headers on every response",
    52: "changes only by POST, PUT, PATCH and DELETE, with token and Origin check",
    53: "no debug mode, no version banner, unused methods 405",
    54: "sizes of pools, timeouts and retries are set, documented and hit",
    55: "dependencies pinned with hashes, a list of parts, a check for known vulnerabilities",
    56: "one audit event for each act that counts",
    57: "an event commits with its effect; failures survive the rollback",
    58: "log and audit chain show tampering, verified by a command",
    59: "an unknown error is a page with an id; details only in the log",
    60: "several steps are one transaction or resumable; check and use in one step",
}

WHY_NOT: dict[str, str] = {
    "F30": "`docvault watch` does not exist yet; that nothing watches a folder is held by X6",
    "F31": "as F30: there is no agent that keeps a state",
}
"""What has no test, and why."""

NOTES: dict[str, str] = {
    "55": "known vulnerabilities are looked up by `make audit`, which asks a public service, and so by no test",
}
"""What a row's tests leave out."""

NAMED = re.compile(r"(?:checklist_)?(?:([kwcmpaxf]\d{1,2})|(\d{1,2}))_")


@dataclass(frozen=True)
class Proof:
    """A test function and the ids that it bears."""

    file: str
    name: str
    ids: frozenset[str]


def find_tests(folder: Path = PROJECT / "tests") -> Iterator[Proof]:
    """Read every test below a folder that bears an id, without running or importing it."""
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        of_file = frozenset(
            number
            for node in tree.body
            if isinstance(node, ast.Assign) and [ast.unparse(name) for name in node.targets] == ["pytestmark"]
            for number in _marked(node.value)
        )
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                ids = of_file | frozenset(named(node.name))
                for decorator in node.decorator_list:
                    ids |= frozenset(_marked(decorator))
                if ids:
                    yield Proof(path.relative_to(folder.parent).as_posix(), node.name, ids)


def named(name: str) -> Iterator[str]:
    """The ids at the beginning of a test's name."""
    rest = name.removeprefix("test_")
    while found := NAMED.match(rest):
        yield found.group(1).upper() if found.group(1) else str(int(found.group(2)))
        rest = rest[found.end() :]


def _marked(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.requirement":
            yield from (str(ast.literal_eval(number)) for number in node.args)


def by_id(found: list[Proof]) -> dict[str, list[Proof]]:
    rows: dict[str, list[Proof]] = defaultdict(list)
    for test in found:
        for each in test.ids:
            rows[each].append(test)
    return dict(rows)


def render(found: list[Proof], detections: Mapping[str, int]) -> str:
    """The whole page."""
    rows = by_id(found)
    kinds = {
        "attack rows": list(ATTACKS),
        "faults": list(FAULTS),
        "requirements": [str(number) for number in REQUIREMENTS],
    }
    lines = [
        "# What the tests prove, row by row",
        "",
        "Made by `make security-tests` from the names of the tests; a test holds that it is up to date. Each attack,",
        "fault and requirement of the catalogue has the tests that bear its id, or a line that says why there is none.",
        "",
        "| | rows | with tests | tests |",
        "|---|---|---|---|",
    ]
    for kind, ids in kinds.items():
        tested = [each for each in ids if each in rows]
        bearing = {(test.file, test.name) for each in tested for test in rows[each]}
        lines.append(f"| {kind} | {len(ids)} | {len(tested)} | {len(bearing)} |")
    lines += [
        "",
        "A test is a function; most run with several parameters.",
        "",
        "## Detections",
        "",
        "`tests/attacks/test_generated.py` makes every tampering that the schema admits, over a vault that has lived,",
        "and asserts of each that it is refused, or told by `docvault check`:",
        "",
        "| tampering | detected |",
        "|---|---|",
        *[f"| {what} | {number:,} |" for what, number in detections.items()],
        f"| together | {sum(detections.values()):,} |",
    ]
    for letter, title in GROUPS.items():
        of_group = {each: what for each, what in ATTACKS.items() if each[0] == letter}
        lines += _section(f"Attacks {letter}: {title}", of_group, rows)
    lines += _section("Faults", FAULTS, rows)
    lines += _section("Requirements", {str(number): what for number, what in REQUIREMENTS.items()}, rows)
    return "\n".join(lines) + "\n"


def _section(title: str, wanted: Mapping[str, str], rows: Mapping[str, list[Proof]]) -> list[str]:
    lines = ["", f"## {title}", ""]
    for each, what in wanted.items():
        lines.append(f"**{each}** {what}")
        if each not in rows:
            lines.append(f"- no test: {WHY_NOT[each]}")
        if each in NOTES:
            lines.append(f"- {NOTES[each]}")
        files: dict[str, list[str]] = defaultdict(list)
        for test in rows.get(each, []):
            files[test.file].append(test.name)
        lines += [f"- `{file}`: {', '.join(f'`{name}`' for name in names)}" for file, names in files.items()]
        lines.append("")
    return lines[:-1]


def count_detections() -> dict[str, int]:
    """Let a vault live, and count the tamperings that the generated tests make with it."""
    from tests.attacks.generated import count, state_of
    from tests.attacks.history import live_through
    from tests.cast import register_cast

    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        vault = register_cast(Path(folder))
        live_through(vault)
        counted = count(state_of(vault))
        vault.close()
    return counted


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    PAGE.write_text(render(list(find_tests()), count_detections()), encoding="utf-8")
    print(PAGE.relative_to(PROJECT))
