"""What never stands in vault/crypto, looked up in its syntax trees (checklist 2, 16; C7, C8)."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vault.crypto

FOLDER = Path(vault.crypto.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))

ALLOWED = {"vault.crypto", "vault.errors", "cryptography", "jwt", "blake3"}
BANNED_MODULES = {"random", "secrets", "pickle", "marshal", "subprocess", "uuid", "md5", "sha"}
BANNED_NAMES = {
    "PKCS1v15", "MD5", "SHA1", "ECB", "CBC", "CTR", "CFB", "OFB", "ARC4", "TripleDES", "uuid4", "uuid1", "md5", "sha1",
    "eval", "exec",
}  # fmt: skip
SECRET_WORDS = {
    "secret", "mac", "seal", "sealed", "signature", "digest", "commitment", "tag", "passphrase", "dek", "kek", "token",
    "fingerprint", "code",
}  # fmt: skip


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in MODULES:
        yield path.name, ast.parse(path.read_text("utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module
            yield node.module


def _names(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr


def test_the_room_has_its_modules() -> None:
    assert {path.stem for path in MODULES} == {
        "__init__", "accounts", "audit", "derivation", "encoding", "grants", "keypairs", "manifests", "masterkey",
        "parts",
        "passphrase", "purposes", "randomness", "recovery", "rekey", "resumable", "rows", "sealing", "tokens",
    }  # fmt: skip


def test_the_room_imports_only_what_it_may() -> None:
    for name, tree in _trees():
        for module in _imports(tree):
            top = module.split(".")[0]
            allowed = any(module == prefix or module.startswith(prefix + ".") for prefix in ALLOWED)
            assert allowed or top in sys.stdlib_module_names, f"{name} imports {module}"
            assert top not in BANNED_MODULES, f"{name} imports {module}"


def test_checklist_2_pkcs1v15_and_other_old_things_appear_nowhere() -> None:
    for name, tree in _trees():
        assert not set(_names(tree)) & BANNED_NAMES, name


@pytest.mark.requirement(7)
def test_c7_only_randomness_draws() -> None:
    for name, tree in _trees():
        if name != "randomness.py":
            assert not set(_names(tree)) & {"urandom", "getrandom", "SystemRandom"}, name


def _words(node: ast.expr) -> set[str]:
    """The words of the names whose value an operand is: of `a.b_mac[0]` a, b and mac, but nothing inside `len(...)`."""
    if isinstance(node, ast.Name):
        return set(node.id.strip("_").split("_"))
    if isinstance(node, ast.Attribute):
        return set(node.attr.strip("_").split("_"))
    if isinstance(node, ast.Subscript):
        return _words(node.value)
    if isinstance(node, ast.Tuple | ast.List):
        return set().union(*[_words(element) for element in node.elts])
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return set() if called in {"len", "type", "set", "sealed_size"} else set(called.strip("_").split("_"))
    return set()


def test_checklist_16_secrets_are_never_compared_by_equality() -> None:
    for name, tree in _trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Compare):
                continue
            operands = [node.left, *node.comparators]
            for operator, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(operator, ast.Eq | ast.NotEq) and not isinstance(right, ast.Constant):
                    words = set().union(*[_words(operand) for operand in operands])
                    assert not words & SECRET_WORDS, f"{name}:{node.lineno} compares {words & SECRET_WORDS}"


def test_checklist_16_finds_what_it_looks_for() -> None:
    for source in ("a.mac == b", "digest != x[0]", "hmac_digest(x) == seal", "(x, y_signature) == z"):
        node = ast.parse(source, mode="eval").body
        assert isinstance(node, ast.Compare)
        assert set().union(*[_words(operand) for operand in [node.left, *node.comparators]]) & SECRET_WORDS, (
            source
        )


def test_comparison_in_constant_time_is_used() -> None:
    used = {name for name, tree in _trees() if "compare_digest" in set(_names(tree))}
    assert used == {"accounts.py", "keypairs.py", "manifests.py", "parts.py", "rows.py"}


def test_nothing_is_printed_or_logged() -> None:
    for name, tree in _trees():
        assert not set(_names(tree)) & {"print", "logging", "getLogger", "warn"}, name


def test_checklist_2_every_oaep_and_pss_is_sha256() -> None:
    tree = dict(_trees())["keypairs.py"]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for kind in ("OAEP", "PSS", "MGF1"):
        found = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == kind]
        assert found
        for call in found:
            assert set(_names(call)) & {"SHA256", "SHA384", "SHA512", "SHA1"} == {"SHA256"}


def test_no_assert_stands_in_for_a_check() -> None:
    for name, tree in _trees():
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_public_verb_says_what_it_does(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), path.name
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"
