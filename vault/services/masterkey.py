"""The master key's way through its life: announced, promoted, retired; and the rotation that seals rows anew.

Nothing here needs anybody's passphrase. Rows are sealed anew in small batches, each a transaction of its own that
names what it wrote in the audit chain, so a kill at any moment leaves rows under one key or the other, and the next
run goes on with those under the older one. What hangs on the older key and cannot be made anew without its owner
(sessions, codes, upload addresses, counted attempts) is waited for, or ended.

Where somebody else has the older key, the first run writes into the chain up to which entry it believes that key, and
no later run believes it further.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vault.crypto.accounts import check_directory_mac, directory_mac, reseal_account_key
from vault.crypto.keypairs import PublicKeys
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters
from vault.crypto.randomness import new_id
from vault.errors import AuditBroken, Busy, Conflict, Forbidden, KeyUnavailable, Unreadable
from vault.failpoints import reach
from vault.models import (
    AuditEntry,
    Base,
    Invitation,
    LoginAttempt,
    LoginSession,
    MasterKey,
    UnlockMethod,
    Upload,
    UserKey,
    Work,
)
from vault.services import audit, clock, seals
from vault.services.accounts import parameters_of
from vault.services.anchor import binding, read_lines
from vault.services.audit import Event
from vault.services.check import Check, Report
from vault.services.resumable import DEFERRED, FINAL, PARTIAL, PLAIN
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount

BATCH = 200
PAUSE_SECONDS = 0.005
PATIENCE = 20

WAITED: dict[type[Any], str] = {
    LoginSession: "sessions",
    Invitation: "codes",
    Upload: "uploads",
    LoginAttempt: "attempts",
}
"""What ends by itself: 12 hours, 7 days, 2 days, 15 minutes. Only who holds the other half could seal it anew."""

WITH_ADDRESS = (PLAIN, PARTIAL, FINAL, DEFERRED)
"""Uploads whose client holds an address under a master key; the row of any other kind moves like all rows."""

_LIMIT = re.compile("([0-9a-f]{16}) ([0-9]{1,18})")

T = TypeVar("T")
Tell = Callable[[int, int], None]
Named = tuple[str, bytes]
"""A row, by its table and id."""


@dataclass
class KeyState:
    """One master key, by its id: what it does here, since when, and what is under it."""

    key_id: bytes
    state: str
    since: datetime | None
    rows: int
    waiting: dict[str, int]
    is_configured: bool
    is_primary: bool
    compromised_at: datetime | None = None

    @property
    def may_be_destroyed(self) -> bool:
        return self.state == "retired" and not self.rows and not self.waiting


@dataclass
class Outcome:
    """What a rotation did, or would do."""

    resealed: int = 0
    refused: list[str] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    retired: list[bytes] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """What was to be accepted or dropped, and is no refused row."""


@dataclass(frozen=True)
class InUse:
    """How many of something there are; ``is_current`` when new ones are made so."""

    what: tuple[str | int, ...]
    count: int
    is_current: bool


@dataclass(frozen=True)
class Overview:
    """What stands under which key, for an administrator: counts and ids, no names."""

    keys: list[KeyState]
    derivations: list[InUse]
    pairs: list[InUse]
    retired_pairs: int
    work: dict[str, int]

    @property
    def waiting(self) -> dict[str, int]:
        """What older master keys are kept for, all together."""
        counted: Counter[str] = Counter()
        for key in self.keys:
            if not key.is_primary:
                counted.update(key.waiting)
        return dict(counted)


class MasterKeyRotation:
    """Tell which master key does what, and move rows from the older ones to the one that seals."""

    def __init__(
        self,
        transactions: Transactions,
        master: MasterKeys,
        check: Check,
        alone: Callable[[], AbstractContextManager[None]],
        batch: int = BATCH,
    ) -> None:
        self._transactions = transactions
        self._master = master
        self._check = check
        self._alone = alone
        self._batch = batch

    # Look

    def status(self) -> list[KeyState]:
        """Describe every key that is configured, registered, or named by a row; the one that seals comes first."""
        with self._transactions.reading() as session:
            rows, waiting, register = _count(session), _waiting(session), _register(session)
        ids = {*self._master.key_ids, *register, *rows, *waiting}
        found = [self._state(key_id, register, rows[key_id], dict(waiting.get(key_id, {}))) for key_id in ids]
        return sorted(found, key=lambda key: (not key.is_primary, key.since or clock.now(), key.key_id))

    def _state(
        self, key_id: bytes, register: Mapping[bytes, MasterKey], rows: int, waiting: dict[str, int]
    ) -> KeyState:
        row, mine = register.get(key_id), register.get(self._master.key_id)
        is_primary = key_id == self._master.key_id
        if row is None and key_id not in self._master.key_ids:
            state = "unknown"
        elif is_primary:
            state = "seals"
        elif row is None and not rows:
            state = "announced"
        elif row is not None and row.retired_at is not None:
            state = "retired"
        elif row is not None and mine is not None and row.promoted_at > mine.promoted_at:
            state = "promoted elsewhere"
        else:
            state = "retiring" if rows else "waiting" if waiting else "empty"
        return KeyState(
            key_id,
            state,
            row.promoted_at if row else None,
            rows,
            waiting,
            key_id in self._master.key_ids,
            is_primary,
            row.compromised_at if row else None,
        )

    def overview(self, account: UnlockedAccount, rsa_bits: int) -> Overview:
        """Tell an administrator what is in use and what is waiting; raises ``Forbidden`` for anybody else."""
        if not account.is_admin:
            raise Forbidden("Only an administrator may do this.")
        derivations: Counter[tuple[str | int, ...]] = Counter()
        pairs: Counter[int] = Counter()
        retired, work = 0, Counter[str]()
        with self._transactions.reading() as session:
            for row in _believed(session, UnlockMethod):
                derivations[row.kind, (row.memory_kib or 0) // 1024, row.iterations or 0, row.lanes or 0] += 1
            for row in _believed(session, UserKey):
                retired += row.retired_at is not None
                if row.retired_at is None:
                    pairs[PublicKeys(row.wrap_public, row.sign_public).bits] += 1
            for row in _believed(session, Work):
                work[row.kind] += 1
        new = KdfParameters.fresh()
        now = (new.memory_kib // 1024, new.iterations, new.lanes)
        return Overview(
            self.status(),
            [InUse(what, count, what[1:] == now) for what, count in sorted(derivations.items())],
            [InUse((bits,), count, bits == rsa_bits) for bits, count in sorted(pairs.items())],
            retired,
            dict(work),
        )

    def verify(self) -> Report:
        """Read every row: its seal, what else is under a master key in it, the audit chain. Nothing is changed."""
        report = Report(deep=True)
        self._check.rows(report)
        return report

    # Rotate

    def dry_run(
        self,
        tell: Tell | None = None,
        *,
        compromised: bool = False,
        anchored: int | None = None,
        broken_chain: bool = False,
        stolen: Collection[bytes] = (),
        accepted: Collection[Named] = (),
    ) -> Outcome:
        """Do all that ``rotate`` would do to the rows as they are, and write none of it."""
        outcome = Outcome()
        trusted = None
        if compromised:
            anchored = self._sound(anchored, broken_chain)
            trusted = self._would_trust(anchored, stolen, frozenset(accepted), broken_chain)
        with self._transactions.reading() as session, seals.unsafe_believing_all_keys(session):
            if not compromised:
                _refuse_compromised(session, self._older(_register(session)))
            outcome.waiting = _older(_waiting(session), self._master)
            total = self._left(session)
            for model in _models():
                for name, found in self._below(session, model, b"", None):
                    try:
                        self._try(model, seals.believed(found), trusted, outcome)
                    except seals.Refusal as refusal:
                        outcome.refused.append(_refused(model, name, refusal))
                    if tell:
                        tell(outcome.resealed, total)
        outcome.missed = _missed(accepted, outcome)
        return outcome

    def _would_trust(
        self,
        anchored: int | None,
        stolen: Collection[bytes],
        accepted: frozenset[Named],
        broken_chain: bool,
    ) -> _Trusted:
        with self._transactions.reading() as session:
            older = self._older(_register(session))
            marked = _stolen(session, older, stolen)
            limit = _limit(session, marked, anchored)
            good = self._good(session, older, marked)
        return self._trusted(limit, good, accepted, broken_chain)

    def _try(self, model: type[Any], row: Any, trusted: _Trusted | None, outcome: Outcome) -> None:
        is_accepted = trusted is not None and trusted.accepts(model.__tablename__, row)
        _moved(model, row, self._master)
        outcome.resealed += 1
        outcome.accepted += [_name(model.__tablename__, row.id)] if is_accepted else []

    def rotate(
        self,
        tell: Tell | None = None,
        *,
        end: bool = False,
        compromised: bool = False,
        anchored: int | None = None,
        broken_chain: bool = False,
        stolen: Collection[bytes] = (),
        accepted: Collection[Named] = (),
        dropped: Collection[Named] = (),
    ) -> Outcome:
        """Seal every row anew that is under an older key, then retire each older key that nothing is under any more.

        With ``end`` what would be waited for ends now. With ``compromised`` it ends first, and of the rows under a
        key that somebody else has only those are sealed anew that the audit chain knows up to its entry ``anchored``,
        or as far as an earlier run believed it, and those ``accepted``; those ``dropped`` are deleted. Such keys are
        those marked before and those in ``stolen``; where there is none, every older key.

        Raises ``Conflict`` while another one runs, where this server does not seal with the newest key, and without
        ``compromised`` where somebody else has an older one; and ``AuditBroken``, with nothing changed, where the
        chain has a fault and is not to be believed up to it (``broken_chain``).
        """
        with self._alone(), seals.unsafe_believing_all_keys(self._transactions.session):
            if compromised:
                anchored = self._sound(anchored, broken_chain)
            believed = self._begin(compromised, anchored, stolen)
            outcome, trusted = Outcome(), None
            if end or compromised:
                outcome.ended = self._end_waiting(bury=not compromised)
            if believed is not None:
                trusted = self._trusted(*believed, frozenset(accepted), broken_chain)
            self._reseal_all(outcome, tell, trusted)
            if compromised:
                self._patiently(self._end_moving)
            if trusted is not None:
                self._drop(dropped, trusted, outcome)
            outcome.missed = _missed([*accepted, *dropped], outcome)
            outcome.retired = self._retire()
            with self._transactions.reading() as session:
                outcome.waiting = _older(_waiting(session), self._master)
        return outcome

    def go_on(self) -> Outcome | None:
        """Finish what ``rotate`` began and did not end; ``None`` where there is nothing, or somebody does it."""
        with self._transactions.reading() as session:
            older = [row for row in _register(session).values() if row.key_id != self._master.key_id]
            begun = [row for row in older if row.rotating_since is not None and row.retired_at is None]
            if not begun or any(row.compromised_at is not None for row in begun):
                return None
        try:
            return self.rotate()
        except Conflict:
            return None

    def _begin(
        self, compromised: bool, anchored: int | None, stolen: Collection[bytes] = ()
    ) -> tuple[int, frozenset[bytes]] | None:
        """Write down that it begins; return how far a compromised one believes all keys, and which are good."""

        def work(session: Session) -> tuple[int, frozenset[bytes]] | None:
            register, known = _register(session), set(self._master.key_ids)
            mine = register.get(self._master.key_id)
            for row in register.values():
                if mine is not None and row.retired_at is None and row.promoted_at > mine.promoted_at:
                    raise Conflict(
                        f"This server seals with {self._master.key_id.hex()}, but {row.key_id.hex()} was promoted "
                        "later. Rotate where that one seals."
                    )
            missing = _count(session).keys() - register.keys() - {self._master.key_id}
            for key_id in sorted(missing & known):
                register[key_id] = _enter_late(session, key_id)
            older = self._older(register)
            if not compromised:
                _refuse_compromised(session, older)
            marked = _stolen(session, older, stolen) if compromised else []
            begun = clock.now()
            for row in older:
                if row.compromised_at is None:
                    row.rotating_since = row.rotating_since or begun
            for row in marked:
                row.compromised_at = row.compromised_at or begun
            self._transactions.record(
                Event("rotation_started", detail="compromised" if compromised else None)
            )
            if not compromised:
                return None
            return self._note_limit(session, marked, anchored), self._good(session, older, marked)

        believed: tuple[int, frozenset[bytes]] | None = self._transactions.writing(work)
        return believed

    def _older(self, register: Mapping[bytes, MasterKey]) -> list[MasterKey]:
        return [row for row in register.values() if row.key_id != self._master.key_id and not row.retired_at]

    def _good(
        self, session: Session, older: Iterable[MasterKey], marked: Sequence[MasterKey]
    ) -> frozenset[bytes]:
        """Name the keys that nobody else has: a seal under them is believed."""
        bad = {row.key_id for row in marked} | _noted_limits(session).keys()
        return frozenset({self._master.key_id, *[row.key_id for row in older]} - bad)

    def _note_limit(self, session: Session, marked: Sequence[MasterKey], anchored: int | None) -> int:
        """Write into the chain up to which entry it is believed from now on, unless it says so already."""
        session.flush()  # this waits for those who seal with an older key at this moment
        limit, noted = _limit(session, marked, anchored), _noted_limits(session)
        for row in marked:
            if row.key_id not in noted or limit < noted[row.key_id]:
                detail = f"{row.key_id.hex()} {limit}"
                self._transactions.record(Event("key_compromised", None, "master_key", row.id, detail=detail))
        return limit

    def _left(self, session: Session) -> int:
        counts = (select(func.count()).select_from(model).where(self._is_below(model)) for model in _models())
        return sum(session.connection().execute(count).scalar_one() for count in counts)

    def _is_below(self, model: type[Any]) -> ColumnElement[bool]:
        """Tell which rows of a table have something under an older key that can be made anew."""
        mine = self._master.key_id
        if model is LoginAttempt:
            return false()
        if model is Upload:
            return (Upload.seal_key_id != mine) & Upload.kind.not_in(WITH_ADDRESS)
        is_old: ColumnElement[bool] = seals.key_id_of(model) != mine
        inner = _INNER.get(model)
        return is_old if inner is None or model in WAITED else or_(is_old, inner != mine)

    def _below(
        self, session: Session, model: type[Any], after: bytes, limit: int | None
    ) -> Iterator[tuple[bytes, Any]]:
        """Yield id and verified row of those that are to be made anew, by id, from ``after`` on."""
        statement = (
            select(model.id, *seals.columns(model))
            .where(model.id > after, self._is_below(model))
            .order_by(model.id)
            .limit(limit)
        )
        if limit is not None:
            statement = statement.with_for_update()
        return ((name, row) for name, row in seals.verified_rows(session, statement, model, beside=1))

    def _reseal_all(self, outcome: Outcome, tell: Tell | None, trusted: _Trusted | None) -> None:
        with self._transactions.reading() as session:
            total = self._left(session)
        if tell:
            tell(0, total)
        passed = -1
        while outcome.resealed != passed:
            # Servers that still seal with the older key may write while a pass runs: the next one finds it.
            passed, outcome.refused = outcome.resealed, []
            for model in _models():
                self._reseal_table(model, outcome, tell, total, trusted)

    def _reseal_table(
        self, model: type[Any], outcome: Outcome, tell: Tell | None, total: int, trusted: _Trusted | None
    ) -> None:
        after: bytes | None = b""
        while after is not None:
            after, done = self._batch_of(model, after, trusted)
            outcome.resealed += done.resealed
            outcome.refused += done.refused
            outcome.accepted += done.accepted
            if tell and done.resealed:
                tell(outcome.resealed, max(total, outcome.resealed))
            if done.resealed:
                time.sleep(PAUSE_SECONDS)  # whoever waits for SQLite's one place to write gets it now

    def _batch_of(
        self, model: type[Any], after: bytes, trusted: _Trusted | None
    ) -> tuple[bytes | None, Outcome]:
        """Seal one batch anew; return where the next begins (``None``: nowhere), and what became of this one."""

        def work(session: Session) -> tuple[bytes | None, Outcome]:
            found, table = list(self._below(session, model, after, self._batch)), model.__tablename__
            renewed, accepted, done = [], [], Outcome()
            for name, row in found:
                try:
                    believed = seals.believed(row)
                    is_accepted = trusted is not None and trusted.accepts(table, believed)
                    renewed.append((believed, _moved(model, believed, self._master)))
                    accepted += [name] if is_accepted else []
                except seals.Refusal as refusal:
                    done.refused.append(_refused(model, name, refusal))
            seals.reseal(session, model, renewed)
            if seals.touched(session):
                detail = f"{len(renewed)} rows of {table}"
                self._transactions.record(Event("rows_resealed", detail=detail))
            for name in accepted:
                self._transactions.record(Event("row_accepted", None, table, name))
            done.resealed, done.accepted = len(renewed), [_name(table, name) for name in accepted]
            return (found[-1][0] if len(found) == self._batch else None), done

        reach("rotation.before_batch")
        return self._patiently(work)

    def _patiently(self, work: Callable[[Session], T]) -> T:
        """Run a batch; where others hold the database for long, wait for them: a rotation has all the time."""
        for _ in range(PATIENCE):
            try:
                return self._transactions.writing(work)
            except Busy as busy:
                time.sleep(min(busy.retry_after, 1))
        return self._transactions.writing(work)

    # Compromised

    def anchored(self, path: Path, *, broken_chain: bool = False) -> int:
        """Return up to which entry an anchor file vouches for the audit chain; raises ``AuditBroken`` if not at all.

        With ``broken_chain`` the lines before the first that does not fit are enough.
        """
        try:
            lines = binding(read_lines(path))
        except OSError as error:
            raise AuditBroken(
                f"The anchor file {path} cannot be read: {os.strerror(error.errno or 0)}."
            ) from error
        if not lines:
            raise AuditBroken(f"The anchor file {path} has no line.")
        with self._transactions.reading() as session:
            fits = 0
            for line in lines:
                if audit.hash_at(session, line.sequence) != line.entry_hash:
                    if broken_chain and fits:
                        return fits
                    raise AuditBroken(
                        f"Position {line.sequence} of the audit chain is not the one that {path} knows."
                    )
                fits = line.sequence
        return fits

    def _sound(self, anchored: int | None, broken_chain: bool) -> int | None:
        """Lower ``anchored`` to before the chain's first fault; raises ``AuditBroken`` where that is not asked for."""
        last = 0
        with self._transactions.snapshot() as session:
            try:
                for entry in audit.walk(session):
                    last = entry.sequence
            except AuditBroken as broken:
                if not broken_chain:
                    raise AuditBroken(
                        f"{broken} Nothing was changed. Look at `docvault check`; with --broken-chain the chain is "
                        f"believed up to position {last}, and each row that needs more is refused."
                    ) from broken
                return last if anchored is None else min(last, anchored)
        return anchored

    def _trusted(
        self, limit: int, good: frozenset[bytes], accepted: frozenset[Named], broken_chain: bool
    ) -> _Trusted:
        """Replay the chain as far as a stolen key could not have been used to rewrite it.

        Behind ``limit`` only what was written under a ``good`` key: an entry that a rotation gave its seal to may
        have been written by whoever has the older one.
        """
        rows: dict[Named, tuple[int, bytes]] = {}
        with self._transactions.snapshot() as session:
            found = audit.examine(session, None) if broken_chain else audit.walk(session)
            for entry in found:
                if isinstance(entry, audit.Fault):
                    continue
                is_ours = entry.is_original and entry.key_id in good
                if entry.sequence > limit and not is_ours:
                    continue
                for table, row_id, version, seal in entry.touched:
                    rows[table, row_id] = version, seal
        return _Trusted(rows, good, accepted)

    def _end_moving(self, session: Session) -> None:
        """Write down that every row was gone over: what is still under a compromised key opens no more."""
        passed = [row for row in self._older(_register(session)) if row.compromised_at and row.rotating_since]
        for row in passed:
            row.rotating_since = None
        if passed:
            self._transactions.record(Event("rotation_ended", detail="compromised"))

    def _drop(self, dropped: Iterable[Named], trusted: _Trusted, outcome: Outcome) -> None:
        """Delete refused rows that a person gave up, those first that refer to others; tell which stay, and why."""
        models = {model.__tablename__: model for model in _models() if model is not MasterKey}
        order = [table.name for table in reversed(Base.metadata.sorted_tables)]
        named = [(table, row_id) for table, row_id in dropped if table in models.keys() - seals.UNTRACKED]
        for table, row_id in sorted(named, key=lambda row: order.index(row[0])):
            name, why = _name(table, row_id), ""
            try:
                if not self._patiently(partial(self._drop_one, models[table], row_id, trusted)):
                    continue
                outcome.dropped.append(name)
            except Conflict as conflict:
                why = f"{name}: {conflict}"
            told = (line for line in outcome.refused if line.partition(": ")[0] != name)
            outcome.refused = [*told, *([why] if why else [])]

    def _drop_one(self, model: type[Any], row_id: bytes, trusted: _Trusted, session: Session) -> bool:
        statement = select(*seals.columns(model)).where(model.id == row_id, self._is_below(model))
        table = model.__tablename__
        found = list(seals.verified_rows(session, statement.with_for_update(), model))
        if not found or not trusted.refuses(table, found[0][0]):
            return False
        try:
            seals.discard(session, model, [row_id])
        except IntegrityError as error:
            raise Conflict("was not dropped, other rows refer to it") from error
        self._transactions.record(Event("row_dropped", None, table, row_id))
        return True

    # Wait, end, retire

    def _end_waiting(self, *, bury: bool) -> dict[str, int]:
        """End sessions, codes, attempts and upload addresses under older keys.

        With ``bury`` what came of an upload is left to the sweep. Without, its row just goes: a row under a key that
        somebody else has must not be an order to destroy blobs.
        """
        ended: Counter[str] = Counter()
        for model, name in WAITED.items():
            while done := self._patiently(partial(self._end_some, model, bury)):
                ended[name] += done
        return dict(ended)

    def _end_some(self, model: type[Any], bury: bool, session: Session) -> int:
        statement = select(*seals.columns(model)).where(_waits(model, self._master.key_id)).limit(self._batch)
        if model is Upload and bury:
            rows = [row for (row,) in seals.verified_rows(session, statement, model)]
            believed = [row for row in rows if not isinstance(row, seals.Refusal)]
            now, count = clock.now(), len(believed)
            seals.reseal(
                session, model, [(row, {"expires_at": min(row.expires_at, now)}) for row in believed]
            )
        else:
            ids = list(session.connection().execute(statement.with_only_columns(model.id)).scalars())
            seals.discard(session, model, ids)
            count = len(ids)
        if count:
            self._transactions.record(Event("waiting_ended", detail=f"{count} {WAITED[model]}"))
        return count

    def _retire(self) -> list[bytes]:
        """Retire each older key that nothing is under any more; whoever still seals with it is stopped from then on."""
        return [key.key_id for key in self.status() if key.state == "empty" and self._retired(key.key_id)]

    def _retired(self, key_id: bytes) -> bool:
        def work(session: Session) -> bool:
            row = session.scalar(select(MasterKey).where(MasterKey.key_id == key_id).with_for_update())
            if row is None or row.retired_at is not None:
                return False
            # Before counting: this waits for those who seal with it at this moment, and later ones are refused.
            row.retired_at = clock.now()
            self._transactions.record(Event("key_retired", None, "master_key", row.id, detail=key_id.hex()))
            session.flush()
            if _count(session)[key_id] or _waiting(session).get(key_id):
                raise Conflict
            return True

        try:
            done: bool = self._transactions.writing(work)
        except Conflict:
            return False
        return done


@dataclass(frozen=True)
class _Trusted:
    """The version and seal that each row must have, by the part of the audit chain that can be believed.

    A row under a ``good`` key needs nothing but its seal; for those ``accepted`` a person answers.
    """

    rows: dict[Named, tuple[int, bytes]]
    good: frozenset[bytes]
    accepted: frozenset[Named]

    def accepts(self, table: str, row: Any) -> bool:
        """Tell whether a row needs a person's word; raises ``Unreadable`` where neither he nor the chain vouches."""
        if table in seals.UNTRACKED or row.seal_key_id in self.good:
            return False
        if self.rows.get((table, row.id)) == (row.row_version, row.seal):
            return False
        if (table, row.id) not in self.accepted:
            raise Unreadable("rotation:anchor")
        return True

    def refuses(self, table: str, row: Any) -> bool:
        """Tell whether a row, as ``verified_rows`` gave it, stays behind."""
        try:
            self.accepts(table, seals.believed(row))
        except seals.Refusal:
            return True
        return False


_INNER: dict[type[Any], Any] = {
    UnlockMethod: UnlockMethod.master_key_id,
    UserKey: UserKey.directory_key_id,
    LoginSession: LoginSession.master_key_id,
    Invitation: Invitation.code_key_id,
}
"""The columns that say under which master key something else in the row is."""


def _moved(model: type[Any], row: Any, master: MasterKeys) -> dict[str, Any]:
    """Make anew what else in a row is under a master key; raises ``Unreadable`` where it does not open."""
    if model is UnlockMethod:
        parameters = parameters_of(row) if row.kind == "passphrase" else None
        sealed = reseal_account_key(
            master, row.master_key_id, row.sealed_account_key,
            user=row.user_id, method=row.id, kind=row.kind, parameters=parameters,
        )  # fmt: skip
        return {"master_key_id": master.key_id, "sealed_account_key": sealed}
    if model is UserKey:
        bound = {"user": row.user_id, "key_version": row.version, "fingerprint": row.fingerprint}
        check_directory_mac(master, row.directory_key_id, row.directory_mac, **bound)
        return {"directory_key_id": master.key_id, "directory_mac": directory_mac(master, **bound)}
    return {}


def _models() -> list[type[Any]]:
    """Name all tables, the register first, so that a server without the new key stops at once, the audit chain last."""
    last = {MasterKey: 0, AuditEntry: 2}
    models = [mapper.class_ for mapper in Base.registry.mappers]
    return sorted(models, key=lambda model: (last.get(model, 1), model.__tablename__))


def _waits(model: type[Any], mine: bytes) -> ColumnElement[bool]:
    inner = _INNER.get(model)
    if inner is not None:
        found: ColumnElement[bool] = inner != mine
        return found
    is_old: ColumnElement[bool] = seals.key_id_of(model) != mine
    return is_old & Upload.kind.in_(WITH_ADDRESS) if model is Upload else is_old


def _believed(session: Session, model: type[Any]) -> Iterator[Any]:
    """Read a table's rows; one that does not verify is for ``check`` to tell, and takes no figure away."""
    for (row,) in seals.verified_rows(session, select(*seals.columns(model)), model):
        if not isinstance(row, seals.Refusal):
            yield row


def _register(session: Session) -> dict[bytes, MasterKey]:
    return {row.key_id: row for row in session.scalars(select(MasterKey))}


def _noted_limits(session: Session) -> dict[bytes, int]:
    """Read from the chain up to which entry each key is believed that somebody else has; the lowest counts."""
    limits: dict[bytes, int] = {}
    statement = select(*seals.columns(AuditEntry)).where(AuditEntry.action == "key_compromised")
    for (row,) in seals.verified_rows(session, statement, AuditEntry):
        said = _LIMIT.fullmatch((not isinstance(row, seals.Refusal) and row.detail) or "")
        if said is not None and audit.hash_of(row) == row.entry_hash:
            key_id = bytes.fromhex(said[1])
            limits[key_id] = min(int(said[2]), limits.get(key_id, int(said[2])))
    return limits


def _limit(session: Session, older: Iterable[MasterKey], anchored: int | None) -> int:
    """Tell up to which entry the chain can be believed: as the anchor says, and never beyond what was noted before."""
    noted, known = _noted_limits(session), {row.key_id for row in older}
    first = audit.end(session).sequence if anchored is None else anchored
    return min([first, *[limit for key_id, limit in noted.items() if key_id in known]])


def _stolen(session: Session, older: Sequence[MasterKey], named: Collection[bytes]) -> list[MasterKey]:
    """Tell which older keys somebody else has: those marked before and those named now, or all where that is none.

    Raises ``Conflict`` where one that is named is none of them.
    """
    for key_id in sorted(set(named) - {row.key_id for row in older}):
        raise Conflict(f"{key_id.hex()} is no older master key here that is not retired.")
    known = {*named, *_noted_limits(session)}
    found = [row for row in older if row.compromised_at is not None or row.key_id in known]
    return found or list(older)


def _refuse_compromised(session: Session, older: Iterable[MasterKey]) -> None:
    """Raise ``Conflict`` where somebody else has one of these keys: its seal alone proves nothing."""
    noted = _noted_limits(session)
    for row in older:
        if row.compromised_at is not None or row.key_id in noted:
            raise Conflict(
                f"Somebody else has the master key {row.key_id.hex()}, and may have sealed what is under it. Go on "
                "with `docvault keys rotate --compromised`; look at each row that it refuses, then name it with "
                "--accept or --drop."
            )


def _count(session: Session) -> Counter[bytes]:
    """Count the rows under each master key, what only waits aside."""
    counted: Counter[bytes] = Counter()
    for model in _models():
        own, inner = seals.key_id_of(model), _INNER.get(model)
        if model is LoginAttempt:
            continue
        other = own if inner is None or model in WAITED else inner
        statement = select(own, other.label("other"), func.count()).group_by(own, other)
        if model is Upload:
            statement = statement.where(Upload.kind.not_in(WITH_ADDRESS))
        for first, second, count in session.connection().execute(statement):
            for key_id in {first, second}:
                counted[key_id] += count
    return counted


def _waiting(session: Session) -> dict[bytes, Counter[str]]:
    """Count what ends by itself under each master key."""
    counted: dict[bytes, Counter[str]] = {}
    for model, name in WAITED.items():
        key_id = _INNER.get(model, seals.key_id_of(model))
        statement = select(key_id, func.count()).group_by(key_id)
        if model is Upload:
            statement = statement.where(Upload.kind.in_(WITH_ADDRESS))
        for key, count in session.connection().execute(statement):
            counted.setdefault(key, Counter())[name] += count
    return counted


def _older(waiting: Mapping[bytes, Counter[str]], master: MasterKeys) -> dict[str, int]:
    older: Counter[str] = Counter()
    for key_id, counted in waiting.items():
        if key_id != master.key_id:
            older += counted
    return dict(older)


def _enter_late(session: Session, key_id: bytes) -> MasterKey:
    """Enter a key that sealed before there was a register: it is as old as the audit chain."""
    first = session.scalars(select(AuditEntry).order_by(AuditEntry.sequence).limit(1)).first()
    row = MasterKey(id=new_id(), key_id=key_id, promoted_at=first.at if first else clock.now())
    session.add(row)
    return row


def _refused(model: type[Any], row_id: bytes, refusal: Exception) -> str:
    is_anchor = getattr(refusal, "reason", "") == "rotation:anchor"
    why = (
        "the audit chain does not know it so" if is_anchor
        else "is under a master key that is not here" if isinstance(refusal, KeyUnavailable)
        else "does not open"
    )  # fmt: skip
    return f"{_name(model.__tablename__, row_id)}: {why}"


def _name(table: str, row_id: bytes) -> str:
    return f"{table} {row_id.hex()}"


def _missed(named: Iterable[Named], outcome: Outcome) -> list[str]:
    told = {*outcome.accepted, *outcome.dropped, *[line.partition(": ")[0] for line in outcome.refused]}
    return [name for name in (_name(table, row_id) for table, row_id in named) if name not in told]
