"""``run.py`` on a small project of its own: a real virtual environment and a real pip, with no network."""

from __future__ import annotations

import ast
import ensurepip
import functools
import hashlib
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
BACKEND = '''
"""Builds an editable wheel with one command, which prints the words it was given."""
import base64, hashlib, pathlib, zipfile

NAME = "document_vault-1.0"

def build_editable(folder, config_settings=None, metadata_directory=None):
    with open("installed.log", "a") as log:
        log.write("installed\\n")
    files = {
        "docvault_stub.py": "import sys\\ndef main():\\n    print('docvault', *sys.argv[1:])\\n",
        f"{NAME}.dist-info/METADATA": "Metadata-Version: 2.1\\nName: document-vault\\nVersion: 1.0\\n"
        "Provides-Extra: test\\nProvides-Extra: postgresql\\n",
        f"{NAME}.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{NAME}.dist-info/entry_points.txt": "[console_scripts]\\ndocvault = docvault_stub:main\\n",
    }
    record = "".join(f"{name},,\\n" for name in files) + f"{NAME}.dist-info/RECORD,,\\n"
    wheel = f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / wheel, "w") as out:
        for name, text in {**files, f"{NAME}.dist-info/RECORD": record}.items():
            out.writestr(name, text)
    return wheel

def get_requires_for_build_editable(config_settings=None):
    return []
'''


def make_project(folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(ROOT / "run.py", folder)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "setup.cfg").write_text("[metadata]\nname = document-vault\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return folder


def run(
    project: Path, *words: str, python: str | Path = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``run.py`` as on a machine with this Python, a shell's tools, and no uv or package index."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "DOCVAULT_"))
    }
    kept |= {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "HOME": str(project), **environment}
    return subprocess.run(
        [str(python), str(project / "run.py"), *words],
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def installs(project: Path) -> int:
    log = project / "installed.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("run") / "project")
    done = run(project, "--port", "8123")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "docvault serve --port 8123"), done.stderr
    return project


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_py", ROOT / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_installs_once_and_serves(installed: Path) -> None:
    before = installs(installed)
    for words in ([], ["serve"], ["--host", "127.0.0.1"], ["serve", "--workers", "3"]):
        done = run(installed, *words)
        assert (
            done.stdout == "docvault serve" + "".join(f" {word}" for word in words if word != "serve") + "\n"
        )
    assert installs(installed) == before


def test_installs_again_only_when_its_files_change(installed: Path) -> None:
    before = installs(installed)
    with (installed / "setup.cfg").open("a") as file:
        file.write("version = 2\n")

    assert run(installed).returncode == 0
    assert run(installed).returncode == 0
    assert installs(installed) == before + 1


def test_installs_the_tests_packages_when_asked_and_keeps_them(installed: Path) -> None:
    done = run(installed, "test", "--version")
    assert "No module named pytest" in done.stderr  # this small project has none: pytest was started, then
    stamp = json.loads((installed / ".venv" / "document-vault.json").read_text())
    assert stamp["extras"] == ["test"]
    before = installs(installed)

    assert run(installed).returncode == 0
    assert installs(installed) == before


def test_brings_the_driver_that_the_configuration_needs(installed: Path) -> None:
    (installed / ".env").write_text("DOCVAULT_PORT=1\nDOCVAULT_DATABASE_URL='postgresql://x/y'\n")
    try:
        assert run(installed).returncode == 0
    finally:
        (installed / ".env").unlink()

    stamp = json.loads((installed / ".venv" / "document-vault.json").read_text())
    assert "postgresql" in stamp["extras"]


def test_makes_the_environment_anew_where_the_project_was_moved(installed: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(installed, moved, symlinks=True)

    done = run(moved)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "docvault serve"), done.stderr
    assert str(moved) in (moved / ".venv" / "bin" / "docvault").read_text()


def test_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """An environment whose making was cut short has a Python and no pip."""
    project = make_project(tmp_path / "project")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True)

    done = run(project)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "docvault serve"), done.stderr


class Index(http.server.SimpleHTTPRequestHandler):
    """A package index in a folder, which writes down beside it what was asked for."""

    def log_message(self, format: str, *args: object) -> None:
        with Path(self.directory).with_suffix(".log").open("a") as log:
            log.write(f"{format % args}\n")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """Serve the wheel of pip that Python carries, as a package index would."""
    wheel = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    page = tmp_path / "index" / "pip"
    page.mkdir(parents=True)
    shutil.copy(wheel, page)
    older = wheel.name.replace(wheel.name.split("-")[1], "9.0.3")
    (page / "index.html").write_text(
        f'<a href="../pip/{older}#sha256={"0" * 64}">{older}</a>\n<a href="x.tar.gz">x</a>\n'
        f'<a href="../pip/{wheel.name}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>\n'
    )
    handler = functools.partial(Index, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def bare(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run with a Python like Debian's without python3-venv, on a system without apt: this one, less ``ensurepip``."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = tmp_path / "bare" / "lib" / version
    library.mkdir(parents=True)
    for entry in Path(sysconfig.get_path("stdlib")).iterdir():
        if entry.name not in {"ensurepip", "site-packages", "dist-packages", "__pycache__"}:
            (library / entry.name).symlink_to(entry)
    python = tmp_path / "bare" / "bin" / version
    python.parent.mkdir()
    shutil.copy(os.path.realpath(sys.executable), python)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "import sysconfig\n"
        "real = sysconfig.get_config_var\n"
        "sysconfig.get_config_var = lambda name: None if name == 'WHEEL_PKG_DIR' else real(name)\n"
    )
    (tmp_path / "empty").mkdir()
    machine = {"PYTHONPATH": str(tmp_path / "hidden"), "PATH": str(tmp_path / "empty")}

    def run_bare(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return run(project, python=python, **machine, **environment)

    return run_bare


def test_downloads_pip_where_python_has_none(
    tmp_path: Path, index: str, bare: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    project = make_project(tmp_path / "project")
    (project / "pip.conf").write_text(f"[global]\nindex-url = {index}\n")

    done = bare(project, PIP_CONFIG_FILE=str(project / "pip.conf"))

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "docvault serve"), done.stderr
    assert "GET /pip/pip-" in (tmp_path / "index.log").read_text()


def test_refuses_a_pip_that_is_not_the_one_the_index_names(
    tmp_path: Path, index: str, bare: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    wheel = next((tmp_path / "index" / "pip").glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"more")

    done = bare(make_project(tmp_path / "project"), PIP_INDEX_URL=index)

    assert "GET /pip/pip-" in (tmp_path / "index.log").read_text()
    assert done.returncode == 1
    assert "sudo apt-get install -y python3-venv" in done.stderr


def test_says_what_to_install_where_nothing_helps(
    tmp_path: Path, bare: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = bare(make_project(tmp_path / "project"))

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].strip() == "sudo apt-get install -y python3-venv"
    assert "Traceback" not in done.stderr


def test_refuses_a_plain_download(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="plain connection"):
        module.fetch("http://packages.example/pip/")
    with pytest.raises(ValueError, match="plain connection"):
        module.fetch("file:///etc/hostname")


def test_unknown_words_are_explained(tmp_path: Path) -> None:
    done = run(make_project(tmp_path / "project"), "sevre")

    assert done.returncode == 1
    assert "run.py knows serve, test and check, not sevre" in done.stderr
    assert "python3 run.py test" in run(tmp_path / "project", "--help").stdout
    assert not (tmp_path / "project" / ".venv").exists()


def test_an_older_python_can_read_far_enough_to_say_no(tmp_path: Path) -> None:
    source = (ROOT / "run.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    pretending = tmp_path / "run.py"
    pretending.write_text(source.replace("import sys\n", "import sys\nsys.version_info = (3, 9, 2)\n", 1))

    done = subprocess.run([sys.executable, pretending], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "needs Python 3.11 or newer; this is Python 3.9" in done.stderr


def test_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)
