"""Write ``docs/parts.cdx.json``: what an installation consists of, in CycloneDX, from ``requirements.lock``.

    python tools/parts_list.py

Both are made by ``make lock``; a test holds that they fit each other and ``setup.cfg``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
LOCK = PROJECT / "requirements.lock"
PARTS = PROJECT / "docs" / "parts.cdx.json"


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """Read a lock file: for each package its version and the SHA-256 digests of its files."""
    found = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        name, version = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", entry).groups()  # type: ignore[union-attr]
        found[name] = version, re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    return found


def parts(text: str, version: str) -> dict[str, Any]:
    """The parts list of a lock file; the same bytes each time."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": "document-vault",
                "version": version,
                "bom-ref": "vault",
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}@{number}",
                "name": name,
                "version": number,
                "purl": f"pkg:pypi/{name}@{number}",
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests],
            }
            for name, (number, digests) in locked(text).items()
        ],
    }


def release() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (PROJECT / "vault" / "__init__.py").read_text(), re.M)
    if found is None:
        raise LookupError("vault/__init__.py has no version")
    return found.group(1)


if __name__ == "__main__":
    PARTS.write_text(json.dumps(parts(LOCK.read_text(), release()), indent=1) + "\n", encoding="utf-8")
