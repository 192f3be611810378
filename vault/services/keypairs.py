"""Key pairs: a user changes his own, and all that hangs on the old ones is moved to the new ones.

The new pairs are the current ones from the first transaction on: what is shared with the user, and what he signs, is
theirs. What is older still opens, and counts, by the former pair, until it was moved: every grant that he received is
wrapped anew, every version and grant that he gave is verified with the former pair and signed with the new one. The
last transaction counts what is left; only at zero it retires the former pair, whose private halves it deletes.

Moving a row is prepared without a lock, and written only where the row is still the one that it was prepared from:
shares, revocations and uploads go on meanwhile, and a row that lost such a race is met again in the next round.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from vault.crypto.grants import sign_grant, unwrap_dek, verify_grant, wrap_dek
from vault.crypto.keypairs import PrivateKeys, generate_keys, sign_statement
from vault.crypto.manifests import IndexEntry, open_manifest, seal_manifest, sign_version, verify_version
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import fingerprint_words
from vault.errors import AccountDisabled, Conflict, NotFound, Unreadable
from vault.models import Document, DocumentVersion, SharedKeyRegistry, User, UserKey, Work
from vault.services import clock, seals, work
from vault.services.access import entry_of, put_entry
from vault.services.accounts import Accounts, key_row
from vault.services.audit import Event
from vault.services.contacts import Contacts
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount, is_current
from vault.services.work import Position, WorkView

KIND = "keypairs"
READ_AT_ONCE = 200
"""Rows that are prepared from one look at the database, and written in one transaction."""

RECEIVED, VERSIONS, GIVEN, ENDED = range(4)


@dataclass(frozen=True)
class PairView:
    """One of a user's pairs, as the page on keys shows it."""

    version: int
    bits: int
    fingerprint_words: str
    created_at: datetime
    retired_at: datetime | None
    is_current: bool


class _Place(NamedTuple):
    """Where the work goes on: in which round's part, behind which row, and whether another round is needed."""

    part: int = RECEIVED
    missed: bool = False
    last: bytes = b""

    @classmethod
    def of(cls, at: Position) -> _Place:
        return cls(at.place[0], bool(at.place[1]), at.place[2:]) if at.place else cls()

    def encoded(self) -> bytes:
        return bytes([self.part, self.missed]) + self.last


@dataclass(frozen=True)
class _Moved:
    """A row as it is to be, made from the row of ``row_version``; ``entry`` is what its owner then remembers."""

    model: type[Any]
    id: bytes
    row_version: int
    columns: dict[str, Any]
    document: bytes = b""
    follows: bytes = b""
    entry: IndexEntry | None = None


class Keypairs:
    """Show one's pairs, change them, and move all that hangs on the former ones."""

    def __init__(
        self,
        transactions: Transactions,
        contacts: Contacts,
        accounts: Accounts,
        master: MasterKeys,
        rsa_bits: int,
    ) -> None:
        self._transactions = transactions
        self._contacts = contacts
        self._accounts = accounts
        self._master = master
        self._rsa_bits = rsa_bits

    @property
    def bits(self) -> int:
        """The size that new pairs will have."""
        return self._rsa_bits

    def pairs(self, account: UnlockedAccount) -> list[PairView]:
        """List one's own pairs, the newest first."""
        statement = select(*seals.columns(UserKey)).where(UserKey.user_id == account.user_id)
        with self._transactions.reading(account.user_id) as session:
            rows = [seals.believed(row) for (row,) in seals.verified_rows(session, statement, UserKey)]
        newest = max(row.version for row in rows)
        views = [
            PairView(
                row.version,
                self._contacts.own_keys(row).public.bits,
                fingerprint_words(row.fingerprint),
                row.created_at,
                row.retired_at,
                row.version == newest,
            )
            for row in rows
        ]
        return sorted(views, key=lambda view: view.version, reverse=True)

    def under_way(self, account: UnlockedAccount) -> WorkView | None:
        """Return the work of a change that is not done."""
        with self._transactions.reading(account.user_id) as session:
            row = _work_of(session, account)
            return None if row is None else work.view_of(row)

    def rotate(self, account: UnlockedAccount, passphrase: str) -> bytes:
        """Make new pairs the current ones; return the work that moves everything to them.

        Raises ``WrongLogin``, and ``Conflict`` while an earlier change is not done.
        """
        self._accounts.prove(account, passphrase, "keys_rotate")
        self._refuse_second(account)
        new = generate_keys(self._rsa_bits)
        return self._transactions.writing(lambda session: self._begin(session, account, new), account.user_id)

    def _refuse_second(self, account: UnlockedAccount) -> None:
        with self._transactions.reading(account.user_id) as session:
            if _work_of(session, account) is not None:
                raise Conflict("Your keys are being changed already. Go on with that first.")

    def _begin(self, session: Session, account: UnlockedAccount, new: PrivateKeys) -> bytes:
        user = session.scalars(select(User).where(User.id == account.user_id).with_for_update()).one()
        if user.state != "active" or not is_current(session, account, user.credential_generation):
            raise AccountDisabled
        if _work_of(session, account) is not None:
            raise Conflict("Your keys are being changed already. Go on with that first.")
        self._contacts.take_own_keys(session, account)
        statement = sign_statement(
            account.private,
            user=user.id,
            old_key_version=user.key_version,
            new_key_version=user.key_version + 1,
            new_fingerprint=new.public.fingerprint,
        )
        work_id = self.begin(session, account, user, account.account_key, new, statement)
        self._transactions.record(Event("keys_rotate", user.id, "user", user.id, detail=f"{self._rsa_bits}"))
        return work_id

    def begin(
        self,
        session: Session,
        account: UnlockedAccount,
        user: User,
        account_key: bytes,
        new: PrivateKeys,
        statement: bytes | None,
    ) -> bytes:
        """Make these pairs the current ones, sealed under ``account_key``; return the work of moving to them.

        A change that is not done begins anew, from all former pairs to these. The caller holds the user's row.
        """
        user.key_version += 1
        session.add(key_row(self._master, user.id, user.key_version, account_key, new, statement))
        session.flush()
        self._contacts.take_own_keys(session, account)
        total, row = self._count(session, account), _work_of(session, account)
        if row is None:
            return work.begin(session, account, KIND, total).id
        row.total = total
        work.move(row, Position())
        return row.id

    def _count(self, session: Session, account: UnlockedAccount) -> int:
        """Count what is to be moved, for a bar; what decides is counted from verified rows at the end."""
        counts = [
            select(func.count()).select_from(_of_part(part, account).with_only_columns(column).subquery())
            for part, column in (
                (RECEIVED, SharedKeyRegistry.id),
                (VERSIONS, DocumentVersion.id),
                (GIVEN, SharedKeyRegistry.id),
            )
        ]
        own = _of_part(RECEIVED, account).where(SharedKeyRegistry.granter_id == account.user_id)
        counted = [session.connection().execute(statement).scalar_one() for statement in counts]
        both = select(func.count()).select_from(own.with_only_columns(SharedKeyRegistry.id).subquery())
        return int(sum(counted) - session.connection().execute(both).scalar_one())

    # Moving

    def advance(self, account: UnlockedAccount, work_id: bytes, until: float) -> None:
        """Move some rows; at the end of a round without misses retire the former pair, or say how many are left.

        Called again after that, it begins another round.
        """
        while self._some(account, work_id, until) and time.monotonic() < until:
            pass

    def _some(self, account: UnlockedAccount, work_id: bytes, until: float) -> bool:
        """Move one batch; tell whether there is more to do at once."""
        with self._transactions.reading(account.user_id, ("work", work_id)) as session:
            row = session.get(Work, work_id)
            if row is None or row.user_id != account.user_id:
                return False
            at = work.position(row)
            place = _Place() if _Place.of(at).part == ENDED else _Place.of(at)
            self._contacts.take_own_keys(session, account)
            rows = list(self._rows(session, account, place)) if account.older else []
        moved, last, failures = self._prepare(account, place.part, rows, until)
        for failure, about in failures:
            self._transactions.record_unreadable(failure, account.user_id, about)
        if last is not None:
            place = place._replace(last=last)
        elif place.part == GIVEN:
            return self._end_round(account, work_id, at, place)
        else:
            place = place._replace(part=place.part + 1, last=b"")
        self._transactions.writing(
            lambda session: self._write(session, account, work_id, at, place, moved), account.user_id
        )
        return True

    def _rows(self, session: Session, account: UnlockedAccount, place: _Place) -> Iterator[tuple[Any, ...]]:
        part = place.part
        models = (DocumentVersion, SharedKeyRegistry) if part == VERSIONS else (SharedKeyRegistry,)
        statement = _of_part(part, account)
        row_id = DocumentVersion.id if part == VERSIONS else SharedKeyRegistry.id
        statement = statement.where(row_id > place.last).order_by(row_id).limit(READ_AT_ONCE)
        return seals.verified_rows(session, statement, *models)

    def _prepare(
        self, account: UnlockedAccount, part: int, rows: list[tuple[Any, ...]], until: float
    ) -> tuple[list[_Moved], bytes | None, list[tuple[Unreadable, tuple[str, bytes] | None]]]:
        """Make what some of these rows are to be; also return the last one's id, and what does not open."""
        moved: list[_Moved] = []
        failures: list[tuple[Unreadable, tuple[str, bytes] | None]] = []
        last = None
        for row in rows:
            refused = isinstance(row[0], seals.Refusal)
            last = (row[0].object_id or b"") if refused else row[0].id
            try:
                moved.append(_MOVE[part](account, *map(seals.believed, row)))
            except Unreadable as unreadable:
                failures.append((unreadable, None if refused else ("document", row[0].document_id)))
            if time.monotonic() >= until:
                break
        return moved, last, failures

    def _write(
        self,
        session: Session,
        account: UnlockedAccount,
        work_id: bytes,
        at: Position,
        place: _Place,
        moved: list[_Moved],
    ) -> None:
        row = work.locked(session, account, work_id)
        if work.position(row) != at:
            return  # another request of the same user was here first; it has done the same
        version = account.key_version
        self._contacts.take_own_keys(session, account, hold=True)
        if account.key_version != version:
            return
        done = 0
        models: tuple[Any, ...] = (SharedKeyRegistry, DocumentVersion)
        for model in models:
            planned = {each.id: each for each in moved if each.model is model}
            for found in session.scalars(select(model).where(model.id.in_(planned))):
                each = planned[found.id]
                if found.row_version == each.row_version:
                    for name, value in each.columns.items():
                        setattr(found, name, value)
                    done += 1
        for each in moved:
            if each.entry is not None:
                self._remember(session, account, each)
        place = place._replace(missed=place.missed or done < len(moved))
        work.move(row, Position(at.done + done, 0, place.encoded()))
        self._transactions.record(
            Event("keys_moved", account.user_id, "user", account.user_id, detail=f"{done}")
        )

    def _remember(self, session: Session, account: UnlockedAccount, each: _Moved) -> None:
        """Let the owner's own memory of the current version follow; of an older one nothing is remembered."""
        document = session.get(Document, each.document)
        if document is not None and each.entry is not None and document.version_id == each.id:
            put_entry(session, account, each.document, each.entry, each.follows)

    def _end_round(self, account: UnlockedAccount, work_id: bytes, at: Position, place: _Place) -> bool:
        """Begin another round where a row was missed, else come to the end; tell whether there is more to do."""
        if not place.missed:
            self._transactions.writing(
                lambda session: self._retire(session, account, work_id, at), account.user_id
            )
            return False
        again = _Place()
        self._transactions.writing(
            lambda session: self._write(session, account, work_id, at, again, []), account.user_id
        )
        return True

    # The end

    def _retire(
        self,
        session: Session,
        account: UnlockedAccount,
        work_id: bytes,
        at: Position,
        *,
        leave_behind: bool = False,
    ) -> None:
        """Count what still hangs on a former pair; retire it at zero, else note how much there is."""
        user = session.scalars(select(User).where(User.id == account.user_id).with_for_update()).one()
        row = work.locked(session, account, work_id)
        if work.position(row) != at:
            return
        if not is_current(session, account, user.credential_generation):
            raise AccountDisabled
        self._contacts.take_own_keys(session, account)
        left = sum(1 for part in (RECEIVED, VERSIONS, GIVEN) for _ in self._left(session, account, part))
        if left and not leave_behind:
            work.move(row, Position(at.done, left, _Place(ENDED).encoded()))
            self._transactions.record(
                Event("keys_left", user.id, "user", user.id, succeeded=False, detail=f"{left}")
            )
            return
        for version in account.older:
            key = session.scalars(
                select(UserKey).where(UserKey.user_id == user.id, UserKey.version == version)
            ).one()
            key.retired_at = clock.now()
            key.sealed_wrap_private = key.sealed_sign_private = b""
        session.delete(row)
        session.flush()
        self._contacts.take_own_keys(session, account)
        self._transactions.record(Event("keys_retired", user.id, "user", user.id, detail=f"{left} left"))

    def _left(self, session: Session, account: UnlockedAccount, part: int) -> Iterator[Any]:
        """Go through the verified rows that hang on a former pair; one that cannot be believed is such a row too."""
        statement = _of_part(part, account)
        models = (DocumentVersion, SharedKeyRegistry) if part == VERSIONS else (SharedKeyRegistry,)
        return seals.verified_rows(session, statement, *models)

    def leave_behind(self, account: UnlockedAccount, passphrase: str) -> None:
        """Retire the former pair although something that hangs on it could not be moved, and is lost with it.

        Raises ``WrongLogin``, and ``NotFound`` unless a round has ended with something left.
        """
        view = self.under_way(account)
        if view is None or not view.failed:
            raise NotFound
        self._accounts.prove(account, passphrase, "keys_retired")

        def act(session: Session) -> None:
            row = work.locked(session, account, view.id)
            at = work.position(row)
            if not at.failed:
                raise NotFound
            self._retire(session, account, view.id, at, leave_behind=True)

        self._transactions.writing(act, account.user_id)


def _work_of(session: Session, account: UnlockedAccount) -> Work | None:
    found: Work | None = session.scalar(
        select(Work).where(Work.user_id == account.user_id, Work.kind == KIND)
    )
    return found


def _of_part(part: int, account: UnlockedAccount) -> Select[Any]:
    """Select what hangs on one's former pairs: grants received, versions signed with one's own grant, grants given."""
    former = list(account.older)
    if part == RECEIVED:
        return select(*seals.columns(SharedKeyRegistry)).where(
            SharedKeyRegistry.reader_id == account.user_id, SharedKeyRegistry.reader_key_version.in_(former)
        )
    if part == VERSIONS:
        own_grant = and_(
            SharedKeyRegistry.version_id == DocumentVersion.id, SharedKeyRegistry.reader_id == account.user_id
        )
        return (
            select(*seals.columns(DocumentVersion, SharedKeyRegistry))
            .select_from(Document)
            .join(DocumentVersion, DocumentVersion.document_id == Document.id)
            .outerjoin(SharedKeyRegistry, own_grant)
            .where(Document.owner_id == account.user_id, DocumentVersion.owner_key_version.in_(former))
        )
    return (
        select(*seals.columns(SharedKeyRegistry))
        .select_from(Document)
        .join(SharedKeyRegistry, SharedKeyRegistry.document_id == Document.id)
        .where(Document.owner_id == account.user_id, SharedKeyRegistry.granter_key_version.in_(former))
    )


def _move_received(account: UnlockedAccount, grant: Any) -> _Moved:
    """Wrap a received key anew; one's own grant is signed anew as well."""
    bound = {"document": grant.document_id, "version": grant.version_id, "reader": account.user_id}
    dek = unwrap_dek(
        account.private_at(grant.reader_key_version),
        grant.wrapped_dek,
        key_version=grant.reader_key_version,
        **bound,
    )
    wrapped = wrap_dek(account.private.public, dek, key_version=account.key_version, **bound)
    columns = {"reader_key_version": account.key_version, "wrapped_dek": wrapped}
    if grant.granter_id == account.user_id and grant.granter_key_version in account.older:
        columns |= _signed_anew(account, grant)
    return _Moved(SharedKeyRegistry, grant.id, grant.row_version, columns)


def _move_given(account: UnlockedAccount, grant: Any) -> _Moved:
    return _Moved(SharedKeyRegistry, grant.id, grant.row_version, _signed_anew(account, grant))


def _signed_anew(account: UnlockedAccount, grant: Any) -> dict[str, Any]:
    """Verify a grant with the pair that it names, then sign it: what somebody planted is never made good (W5)."""
    bound = {
        "document": grant.document_id,
        "version": grant.version_id,
        "epoch": grant.epoch,
        "granter": account.user_id,
        "reader": grant.reader_id,
        "permission": grant.permission,
        "expires_at": grant.expires_at,
    }
    former, old = account.private_at(grant.granter_key_version), grant.granter_key_version
    if grant.granter_id != account.user_id:
        raise Unreadable("grant:granter", "document", grant.document_id)
    verify_grant(former.public, grant.signature, granter_key_version=old, **bound)
    signature = sign_grant(account.private, granter_key_version=account.key_version, **bound)
    return {"granter_key_version": account.key_version, "signature": signature}


def _move_version(account: UnlockedAccount, version: Any, grant: Any) -> _Moved:
    """Verify a version with the pair that it names, then name the new one in its manifest and sign it."""
    if grant is None or version.owner_id != account.user_id:
        raise Unreadable("version:grant", "document", version.document_id)
    former = account.private_at(version.owner_key_version)
    bound = {
        "document": version.document_id,
        "version": version.id,
        "number": version.number,
        "revision": version.revision,
        "epoch": version.epoch,
        "owner": version.owner_id,
        "origin": version.origin,
        "parts_digest": version.parts_digest,
    }
    verify_version(
        former.public,
        version.signature,
        owner_key_version=version.owner_key_version,
        sealed_manifest=version.sealed_manifest,
        **bound,
    )
    dek = unwrap_dek(
        account.private_at(grant.reader_key_version),
        grant.wrapped_dek,
        document=version.document_id,
        version=version.id,
        reader=account.user_id,
        key_version=grant.reader_key_version,
    )
    manifest = open_manifest(
        dek,
        version.sealed_manifest,
        document=version.document_id,
        version=version.id,
        revision=version.revision,
    )
    if manifest.owner_fingerprint != former.public.fingerprint:
        raise Unreadable("manifest:fields", "document", version.document_id)
    manifest = manifest._replace(owner_fingerprint=account.fingerprint)
    sealed = seal_manifest(dek, manifest)
    signature = sign_version(
        account.private, owner_key_version=account.key_version, sealed_manifest=sealed, **bound
    )
    return _Moved(
        DocumentVersion,
        version.id,
        version.row_version,
        {"owner_key_version": account.key_version, "sealed_manifest": sealed, "signature": signature},
        version.document_id,
        former.public.fingerprint,
        entry_of(manifest, version.epoch),
    )


_MOVE: dict[int, Any] = {RECEIVED: _move_received, VERSIONS: _move_version, GIVEN: _move_given}
