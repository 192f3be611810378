"""My passphrase may be known: everything that it opened is replaced, by its owner, with what he knows of it still.

One transaction makes a new passphrase, a new account key and new key pairs, deletes the recovery code and ends every
session; no statement of the old pair vouches for the new one, because somebody else may have the old one too. What
then takes long is work of its owner's: all grants are wrapped and all signatures made anew (``keypairs.py``), and one
row marks all of his documents for new keys, one after the other (``rekey.py``).
"""

from __future__ import annotations

import time
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.keypairs import PrivateKeys, generate_keys
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters, generate_passphrase
from vault.errors import AccountDisabled, BadPassphrase, NotFound, Unreadable
from vault.failpoints import reach
from vault.models import Document, User, Work
from vault.services import passphrases, seals, work
from vault.services.accountkey import KeyExchange, exchange_key, prepare
from vault.services.accounts import Accounts, lock_with, method_of
from vault.services.audit import Event
from vault.services.keypairs import Keypairs
from vault.services.notices import notify
from vault.services.rekey import Rekey
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount, is_current
from vault.services.work import Position

KIND = "exposed"


class Exposure:
    """Replace what a known passphrase opened; and the worker that gives one document after the other new keys."""

    def __init__(
        self,
        transactions: Transactions,
        master: MasterKeys,
        accounts: Accounts,
        keypairs: Keypairs,
        rekey: Rekey,
        *,
        rsa_bits: int,
    ) -> None:
        self._transactions = transactions
        self._master = master
        self._accounts = accounts
        self._keypairs = keypairs
        self._rekey = rekey
        self._rsa_bits = rsa_bits

    def replace_all(self, account: UnlockedAccount, current: str, new: str | None = None) -> str:
        """Replace passphrase, account key and key pairs, and return the new passphrase; its owner then logs in again.

        With ``new`` absent one is generated. Raises ``WrongLogin`` and ``BadPassphrase``.
        """
        if new is not None:
            if new == current:
                raise BadPassphrase("This is the passphrase that may be known. Take another one.")
            passphrases.check_own(new, account.username)
        self._accounts.prove(account, current, "exposed")
        chosen, parameters = new or generate_passphrase(), KdfParameters.fresh()
        locked_with = parameters, passphrases.derive(chosen, parameters)
        pairs = generate_keys(self._rsa_bits)
        with self._transactions.reading(account.user_id) as session:
            exchange = prepare(session, account.user_id, account.account_key)
        self._transactions.writing(
            lambda session: self._replace(session, account, exchange, locked_with, pairs), account.user_id
        )
        return chosen

    def _replace(
        self,
        session: Session,
        account: UnlockedAccount,
        exchange: KeyExchange,
        locked_with: tuple[KdfParameters, bytes],
        pairs: PrivateKeys,
    ) -> None:
        user = session.scalars(select(User).where(User.id == account.user_id).with_for_update()).one()
        if user.state != "active" or not is_current(session, account, user.credential_generation):
            raise AccountDisabled
        own, recovery = method_of(session, user.id, "passphrase"), method_of(session, user.id, "recovery")
        if own is None:
            raise Unreadable("method:missing", "user", user.id)
        lock_with(self._master, own, exchange.new, *locked_with)
        if recovery is not None:
            session.delete(recovery)
        session.flush()
        exchange_key(session, self._master, user, exchange)
        reach("exposed.keys_moved")
        # A copy: the account itself cannot open what is now under another account key.
        self._keypairs.begin(session, replace(account), user, exchange.new, pairs, None)
        self._mark_documents(session, account, user)
        notify(session, user.id, "exposed")
        self._transactions.record(Event("exposed", user.id, "user", user.id))

    def _mark_documents(self, session: Session, account: UnlockedAccount, user: User) -> None:
        row = session.scalar(select(Work).where(Work.user_id == user.id, Work.kind == KIND))
        if row is not None:
            session.delete(row)
        if user.documents:
            work.begin(session, account, KIND, user.documents)

    def advance(self, account: UnlockedAccount, work_id: bytes, until: float) -> None:
        """Give one document after the other new keys, in the order of their ids; at the end delete the row.

        Where documents are left without new keys, the row ends in a call of its own, which does nothing else.
        """
        may_end = True
        while self._next(account, work_id, until, may_end=may_end) and time.monotonic() < until:
            may_end = False

    def _next(self, account: UnlockedAccount, work_id: bytes, until: float, *, may_end: bool) -> bool:
        """Carry one document on; tell whether it is done and there may be more."""
        with self._transactions.reading(account.user_id) as session:
            row = session.get(Work, work_id)
            if row is None or row.user_id != account.user_id:
                return False
            at, document_id = work.position(row), _behind(session, row)
        if document_id is None:
            if at.failed and not may_end:
                return False  # its owner sees what is left before the row is gone
            self._transactions.writing(
                lambda session: self._end(session, account, work_id, at), account.user_id
            )
            return False
        try:
            if not self._rekey.carry_through(account, document_id, until):
                return False
        except (NotFound, Unreadable):
            at = at._replace(failed=at.failed + 1)
        else:
            at = at._replace(done=at.done + 1)
        moved = at._replace(place=document_id)
        self._transactions.writing(
            lambda session: self._note(session, account, work_id, moved), account.user_id
        )
        return True

    def _note(self, session: Session, account: UnlockedAccount, work_id: bytes, at: Position) -> None:
        row = work.locked(session, account, work_id)
        if work.position(row).place < at.place:
            work.move(row, at)
            self._transactions.record(Event("exposed_advanced", account.user_id, "work", work_id))

    def _end(self, session: Session, account: UnlockedAccount, work_id: bytes, at: Position) -> None:
        row = work.locked(session, account, work_id)
        session.delete(row)
        if at.failed:
            notify(session, account.user_id, "exposed_left")
        detail = f"{at.done} done, {at.failed} left"
        self._transactions.record(Event("exposed_done", account.user_id, "work", work_id, detail=detail))


def _behind(session: Session, row: Work) -> bytes | None:
    """Find the next document that its owner had when all this began; what is newer has new keys already."""
    statement = (
        select(*seals.columns(Document))
        .where(Document.owner_id == row.user_id, Document.id > work.position(row).place)
        .where(Document.created_at <= row.created_at)
        .order_by(Document.id)
        .limit(1)
    )
    for (found,) in seals.verified_rows(session, statement, Document):
        if isinstance(found, Unreadable):
            return found.object_id  # a row that cannot be believed is met by the gate, and counted as left
        document_id: bytes = seals.believed(found).id
        return document_id
    return None
