"""The account: opened by the user's secret and the master key; then his private keys and his contacts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from vault.cli.recover.rows import WRONG, Row, Rows
from vault.crypto.accounts import open_account_key, open_contact, open_private_keys
from vault.crypto.keypairs import PrivateKeys, PublicKeys
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters, derive_kek, normalise
from vault.crypto.recovery import read_recovery_code, recovery_kek
from vault.errors import KeyUnavailable, Unreadable, VaultError

KINDS = {"passphrase": "passphrase", "recovery": "recovery code"}


class CannotRecover(VaultError):
    """Nothing at all can be opened; the text says what to bring."""


@dataclass(eq=False)
class Account:
    """What the user's secret has opened."""

    id: bytes
    name: str
    key: bytes = field(repr=False)
    keys: dict[int, PrivateKeys] = field(repr=False)
    contacts: dict[bytes, bytes] = field(repr=False)
    rows: list[Row] = field(repr=False)


def open_account(rows: Rows, master: MasterKeys, name: str, kind: str, secret: str) -> Account:
    """Open a user's account key by his passphrase or recovery code, then his private keys and his contacts."""
    users = list(rows.where("user", lambda values: values.get("username") == name.lower()))
    if len(users) != 1:
        raise CannotRecover(f"There is no user {name} in this archive.")
    user = users[0]
    methods = list(
        rows.where("unlock_method", lambda v: v.get("user_id") == user.id and v.get("kind") == kind)
    )
    if not methods:
        raise CannotRecover(f"{name} has no {KINDS[kind]} in this archive.")
    opened = [key for method in methods if (key := _account_key(master, method, secret)) is not None]
    if not opened:
        raise CannotRecover(f"This {KINDS[kind]} does not open the account of {name} in this archive.")
    keys, key_rows = _private_keys(rows, user.id, opened[0])
    return Account(
        user.id, name.lower(), opened[0], keys, _contacts(rows, user.id, opened[0]), [user, *key_rows]
    )


def _account_key(master: MasterKeys, method: Row, secret: str) -> bytes | None:
    """Try one unlock method; ``None`` when it does not open."""
    bound = {"user": method["user_id"], "method": method.id, "kind": method["kind"]}
    parameters = None
    try:
        if method["kind"] == "recovery":
            kek = recovery_kek(read_recovery_code(secret), user=bound["user"], method=bound["method"])
        else:
            parameters = KdfParameters(
                *[method[name] for name in ("memory_kib", "iterations", "lanes", "salt")]
            )
            kek = derive_kek(normalise(secret), parameters)
        return open_account_key(
            master, method["master_key_id"], kek, method["sealed_account_key"], parameters=parameters, **bound
        )
    except KeyUnavailable as error:
        needed = method["master_key_id"].hex()
        raise CannotRecover(
            f"The account is locked under the master key with the id {needed}, which was not given. The ids of those "
            f"given: {', '.join(key_id.hex() for key_id in master.key_ids)}."
        ) from error
    except (Unreadable, TypeError):
        return None


def _private_keys(rows: Rows, user: bytes, account_key: bytes) -> tuple[dict[int, PrivateKeys], list[Row]]:
    keys: dict[int, PrivateKeys] = {}
    found = list(
        rows.where("user_key", lambda v: v.get("user_id") == user and bool(v.get("sealed_wrap_private")))
    )
    for row in found:
        with suppress(*WRONG):
            keys[row["version"]] = open_private_keys(
                account_key, row["sealed_wrap_private"], row["sealed_sign_private"], user=user,
                key_version=row["version"], public=PublicKeys(row["wrap_public"], row["sign_public"]),
            )  # fmt: skip
    if not keys:
        raise CannotRecover("The account opens, but none of its private keys: their rows are damaged.")
    return keys, found


def _contacts(rows: Rows, user: bytes, account_key: bytes) -> dict[bytes, bytes]:
    """Open what the user remembers of the others. A row that does not open is none: it never makes a key trusted."""
    found: dict[bytes, bytes] = {}
    for row in rows.where("contact", lambda values: values.get("user_id") == user):
        with suppress(*WRONG):
            found[row["other_id"]] = open_contact(
                account_key, row["sealed_fingerprint"], user=user, other=row["other_id"]
            )
    return found
