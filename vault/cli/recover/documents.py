"""The documents of an account: found, and checked as the server checks them; what is wrong is gathered, not raised."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from vault.cli.recover.account import Account
from vault.cli.recover.rows import TRACKED, WRONG, Row, Rows, attempt, opens, read_chain, why
from vault.crypto.accounts import check_directory_mac
from vault.crypto.grants import unwrap_dek, verify_grant
from vault.crypto.keypairs import PublicKeys, verify_statement
from vault.crypto.manifests import (
    IndexKey,
    Manifest,
    Part,
    decode_parts,
    open_manifest,
    read_parts,
    verify_version,
)
from vault.crypto.masterkey import MasterKeys
from vault.errors import Unreadable
from vault.storage.archive import ArchiveReader


@dataclass(eq=False)
class Found:
    """A version that the user holds a grant on, with the rows that describe it."""

    document: Row
    version: Row
    grant: Row
    parts: Row | None
    memory: Row | None
    is_current: bool

    @property
    def rows(self) -> list[Row]:
        return [row for row in (self.document, self.version, self.grant, self.parts, self.memory) if row]


@dataclass
class Told:
    """What became of one document, as it is printed and written as JSON."""

    document: str
    number: int | None = None
    name: str | None = None
    path: list[str] = field(default_factory=list)
    size: int | None = None
    state: str = "failed"
    file: str | None = None
    problems: list[str] = field(default_factory=list)


class Recovery:
    """Find, check and open the documents of one account."""

    def __init__(self, rows: Rows, master: MasterKeys, account: Account, archive: ArchiveReader) -> None:
        self._rows = rows
        self._master = master
        self._account = account
        self._archive = archive
        self._index = IndexKey(account.key)
        self._public: dict[tuple[bytes, int], Row] = {}
        self._latest: dict[Any, Any] = {}
        self.chain_problem: str | None = None

    def find(self, *, all_versions: bool) -> tuple[list[Found], list[Told]]:
        """Find what the user may read: the current versions, or all that he holds a grant on.

        The second list tells of grants whose rows are incomplete.
        """
        me = self._account.id
        grants = list(self._rows.where("shared_key_registry", lambda values: values.get("reader_id") == me))
        documents = self._rows.by_id("document", {grant["document_id"] for grant in grants})
        versions = self._rows.by_id("document_version", {grant["version_id"] for grant in grants})
        parts = self._rows.by_id("part_list", set(versions))
        memories = {
            row["document_id"]: row
            for row in self._rows.where("document_index", lambda values: values.get("reader_id") == me)
        }
        found: list[Found] = []
        incomplete: list[Told] = []
        for grant in grants:
            document, version = documents.get(grant["document_id"]), versions.get(grant["version_id"])
            if document is None or version is None:
                told = Told(_in_hex(grant["document_id"]))
                told.problems.append("there is a grant, but the document's row or the version's is missing")
                incomplete.append(told)
                continue
            is_current = document["version_id"] == version.id
            if is_current or all_versions:
                memory = memories.get(document.id)
                found.append(Found(document, version, grant, parts.get(version.id), memory, is_current))
        self._read_people(found)
        self._read_chain(found)
        return sorted(found, key=lambda each: (each.document.id, -each.version["number"])), incomplete

    def _read_people(self, found: list[Found]) -> None:
        owners = {each.version["owner_id"] for each in found}
        for row in self._rows.where("user_key", lambda values: values.get("user_id") in owners):
            self._public[row["user_id"], row["version"]] = row

    def _read_chain(self, found: list[Found]) -> None:
        rows = [row for each in found for row in each.rows] + self._account.rows + list(self._public.values())
        wanted = {(row.table, row.id) for row in rows if row.table in TRACKED}
        self._latest, self.chain_problem = read_chain(self._archive, wanted)

    def examine(self, found: Found) -> tuple[Manifest | None, list[Part], list[str]]:
        """Check and open one version. Without a manifest nothing is recovered; with problems it is, once accepted."""
        problems = self._problems_of_rows(found)
        try:
            owner = self._check_signatures(found, problems)
            manifest = self._manifest(found)
        except WRONG as error:
            return None, [], [*problems, why(error)]
        if manifest.owner_fingerprint != owner.fingerprint or manifest.owner != found.document["owner_id"]:
            problems.append("the manifest names another owner, or another key of his")
        if manifest.number != found.version["number"]:
            problems.append("the manifest is of another number")
        problems += attempt(lambda: self._compare_memory(found, manifest))
        try:
            parts = self._parts(found, manifest, problems)
        except WRONG as error:
            return None, [], [*problems, f"the part list cannot be read: {why(error)}"]
        return manifest, parts, problems

    def _problems_of_rows(self, found: Found) -> list[str]:
        """Compare seals, the versions that the audit chain knows, and what the rows say of each other."""
        problems = [row.problem for row in found.rows if row.problem]
        if self.chain_problem is None:
            problems += [
                f"the row in {row.table} is not the one that the audit chain named last: an older one was put back"
                for row in found.rows
                if row.table in TRACKED
                and self._latest.get((row.table, row.id)) != (row["row_version"], row["seal"])
            ]
        document, version, grant = found.document, found.version, found.grant
        agree = (
            version["document_id"] == grant["document_id"] == document.id
            and version["owner_id"] == grant["granter_id"] == document["owner_id"]
            and version["epoch"] == grant["epoch"] == document["epoch"]
        )
        same = (version["number"], version["revision"]) == (document["number"], document["revision"])
        if not agree or (found.is_current and not same):
            problems.append("the rows of document, version and grant do not belong together")
        expires = grant["expires_at"]
        if isinstance(expires, datetime) and expires <= datetime.now(UTC):
            problems.append(f"the grant expired on {expires:%Y-%m-%d}")
        return problems

    def _signer(self, owner: bytes, version: int, problems: list[str]) -> PublicKeys:
        """Give the public keys that must have signed; one's own come from the opened private ones."""
        if owner == self._account.id and version in self._account.keys:
            return self._account.keys[version].public
        row = self._public.get((owner, version))
        if row is None:
            raise Unreadable("the owner's key is not in the archive")
        public = PublicKeys(row["wrap_public"], row["sign_public"])
        if row.problem:
            problems.append(row.problem)
        if row["retired_at"] is not None:
            problems.append("it was signed with a key that its owner has retired")
        if not opens(
            lambda: check_directory_mac(
                self._master, row["directory_key_id"], row["directory_mac"], user=owner, key_version=version,
                fingerprint=public.fingerprint,
            )
        ):  # fmt: skip
            problems.append("the owner's key is not one that the directory vouches for")
        known = self._account.contacts.get(owner)
        if known is not None and not self._leads(owner, known, public.fingerprint):
            problems.append("the owner's key is not the one that you first met")
        return public

    def _leads(self, user: bytes, old: bytes, new: bytes) -> bool:
        """Tell whether statements lead from one fingerprint of a user's to another, or the two are the same."""
        rows = sorted(
            (row for (owner, _), row in self._public.items() if owner == user), key=lambda r: r["version"]
        )
        for before, after in pairwise(rows):
            if old == new:
                return True
            with suppress(*WRONG):
                public = PublicKeys(before["wrap_public"], before["sign_public"])
                follower = PublicKeys(after["wrap_public"], after["sign_public"]).fingerprint
                if public.fingerprint == old and after["statement"]:
                    verify_statement(
                        public, after["statement"], user=user, old_key_version=before["version"],
                        new_key_version=after["version"], new_fingerprint=follower,
                    )  # fmt: skip
                    old = follower
        return old == new

    def _may_follow(self, owner: bytes, remembered: bytes, shown: bytes) -> bool:
        """Tell whether a pair may stand in the place of the remembered one: the old one says so, or a person did."""
        if self._leads(owner, remembered, shown):
            return True
        back = self._leads(owner, shown, remembered)
        return back if owner == self._account.id else self._account.contacts.get(owner) == shown and not back

    def _check_signatures(self, found: Found, problems: list[str]) -> PublicKeys:
        """Check both signatures, which two pairs of the owner's may have made; give the one of the version."""
        version, grant = found.version, found.grant
        owner = granter = self._signer(version["owner_id"], version["owner_key_version"], problems)
        if grant["granter_key_version"] != version["owner_key_version"]:
            granter = self._signer(grant["granter_id"], grant["granter_key_version"], problems)
        if not opens(
            lambda: verify_version(
                owner, version["signature"], document=version["document_id"], version=version.id,
                number=version["number"], revision=version["revision"], epoch=version["epoch"],
                owner=version["owner_id"], owner_key_version=version["owner_key_version"],
                origin=version["origin"], sealed_manifest=version["sealed_manifest"],
                parts_digest=version["parts_digest"],
            )
        ):  # fmt: skip
            problems.append("the owner's signature does not fit the version")
        if not opens(
            lambda: verify_grant(
                granter, grant["signature"], document=grant["document_id"], version=grant["version_id"],
                epoch=grant["epoch"], granter=grant["granter_id"],
                granter_key_version=grant["granter_key_version"], reader=grant["reader_id"],
                permission=grant["permission"], expires_at=grant["expires_at"],
            )
        ):  # fmt: skip
            problems.append("the owner's signature does not fit the grant")
        return owner

    def _manifest(self, found: Found) -> Manifest:
        grant, version = found.grant, found.version
        keys = self._account.keys.get(grant["reader_key_version"])
        if keys is None:
            raise Unreadable("the grant is for a key that you do not have (any more)")
        try:
            dek = unwrap_dek(
                keys, grant["wrapped_dek"], document=grant["document_id"], version=grant["version_id"],
                reader=grant["reader_id"], key_version=grant["reader_key_version"],
            )  # fmt: skip
        except Unreadable as error:
            raise Unreadable("the grant does not open") from error
        try:
            return open_manifest(
                dek, version["sealed_manifest"], document=version["document_id"], version=version.id,
                revision=version["revision"],
            )  # fmt: skip
        except Unreadable as error:
            raise Unreadable("the manifest does not open") from error

    def _compare_memory(self, found: Found, manifest: Manifest) -> None:
        """Compare with what the user remembers of the document: a state that is older was put back."""
        if found.memory is None:
            return
        entry = self._index.open(
            found.memory["sealed_entry"], document=found.document.id, reader=self._account.id
        )
        follows = self._may_follow(manifest.owner, entry.owner_fingerprint, manifest.owner_fingerprint)
        if entry.owner != manifest.owner or not follows:
            raise Unreadable("you remember another owner, or another key of his")
        older = (manifest.number, manifest.revision) < (entry.number, entry.revision)
        if found.version["epoch"] < entry.epoch or (found.is_current and older):
            raise Unreadable("you remember a newer state of this document")

    def _parts(self, found: Found, manifest: Manifest, problems: list[str]) -> list[Part]:
        if found.parts is None:
            raise Unreadable("its row is missing")
        encoded = found.parts["parts"]
        if found.version["parts_digest"] != manifest.parts_digest:
            problems.append("version and manifest name different part lists")
        try:
            return read_parts(manifest, encoded)
        except Unreadable:
            problems.append("the part list is not the one of the manifest")
            return decode_parts(encoded)


def _in_hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else "?"
