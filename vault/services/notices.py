"""Notices: what happened to an account while its owner was away; shown after the next login until he has read it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.randomness import new_id
from vault.errors import NotFound
from vault.models import Notice, User
from vault.services import clock, seals
from vault.services.audit import Event
from vault.services.invitations import void_resets
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount

_UNREAD = (
    select(*seals.columns(Notice, User))
    .select_from(Notice)
    .outerjoin(User, User.id == Notice.other_id)
    .where(Notice.user_id == bindparam("user"))
    .order_by(Notice.created_at, Notice.id)
)
RESET_BEGUN = "reset_begun"


@dataclass(frozen=True)
class NoticeView:
    """One notice: what kind, when, and who did it where that was somebody else."""

    id: bytes
    kind: str
    created_at: datetime
    by: str | None


def notify(session: Session, user_id: bytes, kind: str, other_id: bytes | None = None) -> None:
    """Leave a notice for somebody, in the transaction of what it tells."""
    session.add(Notice(id=new_id(), user_id=user_id, kind=kind, other_id=other_id, created_at=clock.now()))


class Notices:
    """Show notices to whom they are for, and forget what was read."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def unread(self, account: UnlockedAccount) -> list[NoticeView]:
        """List one's own notices, oldest first."""
        with self._transactions.reading(account.user_id) as session:
            found = seals.verified_rows(session, _UNREAD, Notice, User, parameters={"user": account.user_id})
            rows = [(seals.believed(row), seals.believed(by)) for row, by in found]
        return [
            NoticeView(row.id, row.kind, row.created_at, by.username if by is not None else None)
            for row, by in rows
        ]

    def read(self, account: UnlockedAccount, notice_id: bytes) -> None:
        """Forget one notice; raises ``NotFound`` for anybody else's.

        Who has read that his keys are to be reset is in, and needs no reset: its code becomes worthless.
        """

        def work(session: Session) -> None:
            row = session.get(Notice, notice_id)
            if row is None or row.user_id != account.user_id:
                raise NotFound
            session.delete(row)
            if row.kind == RESET_BEGUN:
                user = session.get_one(User, account.user_id, with_for_update=True)
                void_resets(session, self._transactions, user)
            self._transactions.record(
                Event("notice_read", account.user_id, "user", account.user_id, detail=row.kind)
            )

        self._transactions.writing(work, account.user_id)
