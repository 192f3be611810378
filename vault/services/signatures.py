"""Verify without any passphrase what a row holds besides its seal: signatures, the directory, the outer seals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vault.crypto.accounts import open_outer_seal
from vault.crypto.keypairs import PublicKeys
from vault.crypto.masterkey import MasterKeys
from vault.errors import KeyUnavailable, Unreadable
from vault.services.access import check_grant, check_version
from vault.services.accounts import parameters_of
from vault.services.contacts import verified_public


class Signatures:
    """Verify rows one by one; the rows of ``user_key`` must come before those that were signed with them."""

    def __init__(self, master: MasterKeys) -> None:
        self._master = master
        self._public: dict[tuple[bytes, int], PublicKeys] = {}
        self._retired: set[tuple[bytes, int]] = set()
        self._verbs: dict[str, Callable[[Any], None]] = {
            "user_key": self._user_key,
            "unlock_method": self._unlock_method,
            "document_version": self._document_version,
            "shared_key_registry": self._grant,
            "invitation": self._invitation,
        }

    def wrong(self, table: str, row: Any) -> str | None:
        """Tell what in a row does not fit, ``None`` when all does. Raises ``KeyUnavailable``."""
        verb = self._verbs.get(table)
        try:
            if verb is not None:
                verb(row)
        except _NoSigner as missing:
            return missing.reason
        except Unreadable:
            return _WRONG[table]
        return None

    def _user_key(self, row: Any) -> None:
        at = row.user_id, row.version
        self._public[at] = verified_public(self._master, row)
        if row.retired_at is not None:
            self._retired.add(at)

    def _unlock_method(self, row: Any) -> None:
        open_outer_seal(
            self._master,
            row.master_key_id,
            row.sealed_account_key,
            user=row.user_id,
            method=row.id,
            kind=row.kind,
            parameters=parameters_of(row) if row.kind == "passphrase" else None,
        )

    def _document_version(self, row: Any) -> None:
        check_version(self._signer(row.owner_id, row.owner_key_version), row)

    def _grant(self, row: Any) -> None:
        check_grant(self._signer(row.granter_id, row.granter_key_version), row)

    def _invitation(self, row: Any) -> None:
        if row.code_key_id not in self._master.key_ids:
            raise KeyUnavailable

    def _signer(self, user_id: bytes, key_version: int) -> PublicKeys:
        if (user_id, key_version) in self._retired:
            raise _NoSigner("is signed with a retired key")
        try:
            return self._public[user_id, key_version]
        except KeyError:
            raise _NoSigner("the key that signed it is missing or not vouched for") from None


class _NoSigner(Unreadable):
    """There is no key that could have signed this."""


_WRONG = {
    "user_key": "its public keys are not those of the directory",
    "unlock_method": "its outer seal does not open",
    "document_version": "its signature does not fit",
    "shared_key_registry": "its signature does not fit",
    "invitation": "its code is not of this vault",
}
