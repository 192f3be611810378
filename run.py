#!/usr/bin/env python3
"""Start Document Vault with nothing but Python 3.11 or newer on the machine.

    python3 run.py [--port 8123 ...]    install what is missing into .venv, then `docvault serve` with these words
    python3 run.py test [...]           the same with the tests' packages, then pytest with these words
    python3 run.py check                formatting, lint and types

Only the standard library is used here. The packages come from the index that pip (or uv) is set to; this file names
none. Where the machine's Python brings no pip, one is taken from the system's own packages, or from the index that
PIP_INDEX_URL or a pip.conf names.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Document Vault needs Python 3.11 or newer; this is Python %d.%d. Install a newer one and start this file "
        "with it, for example: python3.11 run.py" % sys.version_info[:2]
    )

import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / "python"
STAMP = VENV / "document-vault.json"
WHAT_TO_INSTALL = (
    "This Python cannot make a virtual environment with pip in it. Install that part of it and try again:\n"
    "    sudo apt-get install -y python3-venv"
)


class CannotInstall(Exception):
    """The text is for the person at the terminal and says what to do."""


def main(words: list[str]) -> NoReturn:
    command, rest = ("serve", words) if not words or words[0].startswith("-") else (words[0], words[1:])
    if words[:1] in (["-h"], ["--help"]):
        print((__doc__ or "").strip())
        sys.exit(0)
    if command not in {"serve", "test", "check"}:
        sys.exit(
            f"run.py knows serve, test and check, not {command}. Other commands: {SCRIPTS / 'docvault'} --help"
        )
    try:
        install({"test"} if command in {"test", "check"} else extras_for_serving())
    except CannotInstall as error:
        sys.exit(str(error))
    if command == "serve":
        become([str(SCRIPTS / "docvault"), "serve", *rest])
    os.chdir(ROOT)
    if command == "test":
        become([str(PYTHON), "-m", "pytest", *rest])
    check()


def check() -> NoReturn:
    """Run every check even when an earlier one fails, so that one run shows all there is to mend."""
    tools = [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]]
    failed = [
        tool[0] for tool in tools if subprocess.run([str(PYTHON), "-m", *tool], check=False).returncode != 0
    ]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def become(command: list[str]) -> NoReturn:
    """Turn this process into the command, so that signals reach it and its exit code is ours."""
    sys.stdout.flush()
    if os.name == "nt":
        sys.exit(subprocess.run(command, check=False).returncode)
    os.execv(command[0], command)


def install(extras: set[str]) -> None:
    """Bring the virtual environment up to date; does nothing when it was made from these same files before."""
    stamp = read_stamp()
    if stamp.get("digest") == digest() and extras <= set(stamp["extras"]) and PYTHON.exists():
        return
    extras = extras | set(stamp.get("extras", []))
    if stamp and stamp.get("root") != str(ROOT):
        shutil.rmtree(VENV)  # its scripts hold the old path
    print("Installing into .venv; this takes a minute or two the first time.", flush=True)
    STAMP.unlink(missing_ok=True)
    uv = shutil.which("uv")
    if not works(PYTHON, "import sys; sys.exit(sys.version_info < (3, 11))"):
        make_environment(uv)
    project = "." + (f"[{','.join(sorted(extras))}]" if extras else "")
    if uv:
        command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--editable", project]
    else:
        if not works(PYTHON, "import pip"):
            install_pip()
        command = [
            str(PYTHON),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--editable",
            project,
        ]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise CannotInstall(
            "The packages could not be installed; the lines above say why. Run this again to go on."
        )
    STAMP.write_text(
        json.dumps({"digest": digest(), "extras": sorted(extras), "root": str(ROOT)}), encoding="utf-8"
    )


def extras_for_serving() -> set[str]:
    """Ask for the PostgreSQL driver where the configuration names such a database."""
    url = os.environ.get("DOCVAULT_DATABASE_URL", "")
    if not url and (ROOT / ".env").is_file():
        found = re.findall(
            r"^\s*(?:export\s+)?DOCVAULT_DATABASE_URL\s*=\s*[\"']?(.*)$",
            (ROOT / ".env").read_text("utf-8"),
            re.M,
        )
        url = found[-1] if found else ""
    return {"postgresql"} if url.startswith("postgres") else set()


def digest() -> str:
    """Name the state of what decides about the installed packages, this Python included."""
    state = [
        sys.version,
        str(ROOT),
        *((ROOT / name).read_text("utf-8") for name in ("setup.cfg", "pyproject.toml")),
    ]
    return hashlib.sha256("\0".join(state).encode()).hexdigest()


def read_stamp() -> dict[str, Any]:
    try:
        stamp = json.loads(STAMP.read_text("utf-8"))
        return stamp if isinstance(stamp["extras"], list) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def works(python: Path, statement: str) -> bool:
    try:
        return (
            subprocess.run([str(python), "-c", statement], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def make_environment(uv: str | None) -> None:
    """Make .venv by the first way that works here: uv, venv with pip, venv without."""
    venv = [sys.executable, "-m", "venv", "--clear"]
    ways = [[*venv, str(VENV)], [*venv, "--without-pip", str(VENV)]]
    if uv:
        ways.insert(0, [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
    if not any(run(way) for way in ways):
        raise CannotInstall(WHAT_TO_INSTALL)


def run(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def install_pip() -> None:
    """Put pip into an environment that was made without it; a wheel of pip can install itself."""
    if run([str(PYTHON), "-m", "ensurepip", "--default-pip"]):
        return
    with tempfile.TemporaryDirectory() as folder:
        for find in (find_system_wheel, fetch_system_wheel, download_wheel):
            wheel = find(Path(folder))
            if wheel and run(
                [str(PYTHON), f"{wheel}/pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
            ):
                return
    raise CannotInstall(WHAT_TO_INSTALL)


def find_system_wheel(folder: Path) -> Path | None:
    """Return the wheel of pip that the system keeps for virtual environments, where it is installed."""
    kept = sysconfig.get_config_var("WHEEL_PKG_DIR")
    return newest(Path(kept)) if kept else None


def fetch_system_wheel(folder: Path) -> Path | None:
    """Have Debian's or Ubuntu's package with that wheel fetched and unpacked; this needs no root, and apt checks it."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    subprocess.run(
        ["apt-get", "download", "--quiet", "python3-pip-whl"], cwd=folder, capture_output=True, check=False
    )
    for package in folder.glob("python3-pip-whl_*.deb"):
        if run(["dpkg-deb", "--extract", str(package), str(folder)]):
            return newest(folder)
    return None


def download_wheel(folder: Path) -> Path | None:
    """Download pip from the index that pip's own settings name; None where none is named, or it is not reached."""
    index = configured_index()
    if index is None:
        return None
    page_url = f"{index.rstrip('/')}/pip/"
    try:
        page = fetch(page_url).decode("utf-8", errors="replace")
        links = re.findall(
            r"href=[\"']([^\"'#]*/?pip-([0-9.]+)-py3-none-any\.whl)#sha256=([0-9a-f]{64})[\"']", page
        )
        link, version, expected = max(links, key=lambda found: [int(n) for n in found[1].split(".")])
        data = fetch(urllib.parse.urljoin(page_url, link))
    except (OSError, ValueError):
        return None
    if hashlib.sha256(data).hexdigest() != expected:
        return None
    wheel = folder / f"pip-{version}-py3-none-any.whl"
    wheel.write_bytes(data)
    return wheel


def configured_index() -> str | None:
    """Return PIP_INDEX_URL, or index-url from the first pip.conf that has one, as pip itself would read them."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    home = Path.home()
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [settings / "pip" / "pip.conf", home / ".pip" / "pip.conf", Path("/etc/pip.conf")]
    if os.environ.get("PIP_CONFIG_FILE"):
        files.insert(0, Path(os.environ["PIP_CONFIG_FILE"]))
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
            url = parser.get("global", "index-url", fallback=None)
        except configparser.Error:
            continue
        if url:
            return url
    return None


def fetch(url: str) -> bytes:
    """Return what is at an https address, or at one on this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError("refusing to download a program over a plain connection")
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
        data: bytes = answer.read()
    return data


def newest(folder: Path) -> Path | None:
    """Return the newest wheel of pip in a folder, however deep."""
    found = sorted(
        folder.rglob("pip-*-py3-none-any.whl"),
        key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)],
    )
    return found[-1] if found else None


if __name__ == "__main__":
    main(sys.argv[1:])
