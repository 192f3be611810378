"""The rooms and which way imports run between them, held over every file of the package; house rules beside it.

The table is design; a test that fails here names the file, the line and the rule. Change the code, not the table.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
VAULT = ROOT / "vault"
ANYTHING = frozenset({"*"})

FLASK = frozenset(
    {"flask", "flask_login", "flask_wtf", "itsdangerous", "jinja2", "markupsafe", "werkzeug", "wtforms"}
)


@dataclass(frozen=True)
class Room:
    """What one room may import: rooms or single modules of the vault, and packages from outside."""

    inside: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()
    never: frozenset[str] = field(default=frozenset())


def room(inside: str = "", outside: str = "", never: str = "", kin: frozenset[str] = frozenset()) -> Room:
    return Room(frozenset(inside.split()), frozenset(outside.split()) | kin, frozenset(never.split()))


HTTP_INSIDE = "http services errors wiring extensions config"

TABLE = {
    "vault": room(),
    "errors": room(),
    "failpoints": room(),
    "crypto": room("errors crypto", "cryptography jwt blake3 diceware"),
    "storage": room("errors failpoints storage", "minio urllib3"),
    "extensions": room("", "flask_sqlalchemy flask_login flask_wtf sqlalchemy"),
    "models": room("extensions", "sqlalchemy"),
    "metrics": room("", "prometheus_client"),
    "services": room(
        "services models errors failpoints crypto storage.protocol metrics",
        "sqlalchemy structlog zipstream zxcvbn",
    ),
    "http": room(HTTP_INSIDE, "multipart", kin=FLASK),
    "web": room(HTTP_INSIDE + " web", "segno", kin=FLASK),
    "api": room(HTTP_INSIDE + " api", "segno", kin=FLASK),
    "config": room("errors", "pydantic pydantic_settings"),
    "wiring": room("*", "*", never="cli agent"),
    "app": room("*", "*", never="cli agent"),
    "migrations": room("models extensions", "alembic flask flask_migrate sqlalchemy"),
    "cli": room("cli errors", "click"),
    "cli.server": room("app wiring services errors config cli", "click rich gunicorn"),
    "cli.client": room("crypto errors agent cli", "click rich httpx watchdog"),
    "cli.recover": room("crypto errors storage agent cli", "click rich httpx watchdog"),
    "agent": room("crypto errors agent", "click rich httpx watchdog"),
}


@dataclass(frozen=True)
class Import:
    file: Path
    line: int
    module: str

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def room_of(module: str) -> str:
    """Return the row of the table that a module of the vault stands in; the longest one that fits."""
    parts = module.removeprefix("vault").removeprefix(".").split(".")
    if parts == [""]:
        return "vault"
    two = ".".join(parts[:2])
    if parts[0] == "cli" and len(parts) > 1 and two not in TABLE:
        return "cli.server"
    return two if two in TABLE else parts[0]


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imports_of(file: Path) -> Iterator[Import]:
    """Yield every import of a file: at the top, inside functions, for types only, relative, and by name at run time."""
    package = module_of(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(file, node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            for name in node.names:
                whole = f"{base}.{name.name}"
                yield Import(
                    file, node.lineno, whole if base.startswith("vault") and is_module(whole) else base
                )
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__", "import_string"}:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield Import(file, node.lineno, first.value.partition(":")[0])


def called(node: ast.Call) -> str:
    """Return the last word of what is called: ``c`` for ``a.b.c()``."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def allowed(rule: Room, module: str) -> bool:
    if module == "vault" or module.startswith("vault."):
        inner = module.removeprefix("vault").removeprefix(".")
        names = {inner.split(".")[0], ".".join(inner.split(".")[:2]), inner}
        if names & rule.never:
            return False
        return not inner or "*" in rule.inside or bool(names & rule.inside)
    top = module.split(".")[0]
    return top in sys.stdlib_module_names or "*" in rule.outside or top in rule.outside


@pytest.mark.parametrize("row", TABLE)
def test_imports_keep_to_the_table(row: str) -> None:
    rule = TABLE[row]
    wrong = [
        f"{found.place}: vault/{row} may not import {found.module}"
        for file in python_files("vault")
        if room_of(module_of(file)) == row
        for found in imports_of(file)
        if not allowed(rule, found.module)
    ]
    may = f"it may import of vault: {' '.join(sorted(rule.inside)) or 'nothing'}; from outside: " + (
        " ".join(sorted(rule.outside)) or "nothing"
    )
    assert not wrong, "\n" + "\n".join([*wrong, may])


def test_every_file_stands_in_a_room() -> None:
    strangers = [
        str(file.relative_to(ROOT)) for file in python_files("vault") if room_of(module_of(file)) not in TABLE
    ]
    assert not strangers, f"no row of the table is about {', '.join(strangers)}"


def test_the_walk_sees_every_kind_of_import(tmp_path: Path) -> None:
    """The table is only as good as the walk; what hides an import from it must fail here."""
    source = (
        "import flask\n"
        "from sqlalchemy.orm import Session\n"
        "def inside():\n"
        "    import minio.error\n"
        "    from jwt import decode as d\n"
        "if TYPE_CHECKING:\n"
        "    from cryptography import x509\n"
        "importlib.import_module('werkzeug.utils')\n"
        "__import__('gunicorn')\n"
        "from vault import models\n"
        "from vault.storage import folder, protocol\n"
    )
    file = VAULT / "services" / "imaginary.py"
    tree = ast.parse(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "tree_of", lambda _: tree)
        found = [each.module for each in imports_of(file)]

    refused = [module for module in found if not allowed(TABLE["services"], module)]
    assert set(refused) == {
        "flask",
        "minio.error",
        "jwt",
        "cryptography",
        "werkzeug.utils",
        "gunicorn",
        "vault.storage.folder",
    }
    assert {"sqlalchemy.orm", "vault.models", "vault.storage.protocol"} <= set(found)


def test_the_walk_resolves_relative_imports() -> None:
    tree = ast.parse(
        "from . import folder\nfrom .protocol import Blob\nfrom ..crypto import sealing\nfrom .. import models\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "tree_of", lambda _: tree)
        found = [each.module for each in imports_of(VAULT / "storage" / "imaginary.py")]
        in_package = [each.module for each in imports_of(VAULT / "storage" / "__init__.py")]

    assert found == in_package
    assert found == ["vault.storage.folder", "vault.storage.protocol", "vault.crypto.sealing", "vault.models"]


def views() -> Iterator[tuple[Path, ast.FunctionDef]]:
    """Yield the functions that a blueprint routes."""
    verbs = {"route", "get", "post", "put", "patch", "delete"}
    for file in python_files("vault/web", "vault/api"):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(each, ast.Call)
                and isinstance(each.func, ast.Attribute)
                and each.func.attr in verbs
                for each in node.decorator_list
            ):
                yield file, node


def length(function: ast.FunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_views_are_short() -> None:
    """At most 25 lines from ``def`` on, half of them 12 or fewer: what a view decides belongs into a service."""
    too_long = [
        f"{file.relative_to(ROOT)}:{view.lineno}: {view.name} has {length(view)} lines"
        for file, view in views()
        if length(view) > 25
    ]
    assert not too_long, "\n" + "\n".join(too_long)
    lengths = [length(view) for _, view in views()]
    assert not lengths or median(lengths) <= 12, f"the median view has {median(lengths)} lines"


def test_only_services_commit() -> None:
    """Law 8."""
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for file in python_files("vault")
        if room_of(module_of(file)) != "services"
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Call) and called(node) == "commit"
    ]
    assert not wrong, "only services commit:\n" + "\n".join(wrong)


def test_no_file_is_named_after_a_mechanism() -> None:
    forbidden = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("vault", "tests", "bench", "ops", "tools")
        for path in (ROOT / folder).rglob("*")
        if path.stem.lower() in forbidden
    ]
    assert not wrong, f"name these after what they are about: {', '.join(wrong)}"


def test_nothing_is_left_to_do() -> None:
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")))
    wrong = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in [*python_files("vault", "tests", "bench", "ops", "tools"), ROOT / "run.py"]
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def texts_of_ours() -> Iterator[Path]:
    """Yield every text file of the project, except what others wrote and what only this machine has."""
    skipped = {".git", ".venv", "instance", "build", "dist", "vendor", "__pycache__", "node_modules"}
    for path in sorted(ROOT.rglob("*")):
        inner = path.relative_to(ROOT).parts
        if path.is_file() and not any(
            part in skipped or part.endswith((".egg-info", "_cache")) for part in inner
        ):
            yield path


def test_promises_nothing_that_is_not_so() -> None:
    """The server encrypts, so it sees what open sessions open: two phrases that say otherwise stand nowhere."""
    gap = r"[\s\-\u2010\u2011_]{1,3}"
    phrases = re.compile(f"end{gap}to{gap}end|zero{gap}knowledge", re.IGNORECASE)
    wrong = []
    for path in texts_of_ours():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{path.relative_to(ROOT)}: {found[0]!r}" for found in phrases.finditer(text)]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_command_starts_without_its_subcommands() -> None:
    """``docvault`` imports a subcommand only when it is called, so that none waits for what another needs."""
    program = "import sys, vault.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not loaded & {"flask", "sqlalchemy", "minio", "httpx", "cryptography", "gunicorn", "rich"}
