"""The right of one account to one document, looked up again and again while the document is sent."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, bindparam, select

from vault.errors import Busy
from vault.models import Document, SharedKeyRegistry, User
from vault.services import clock, seals
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount

BUSY_PAUSES = (1, 2, 4)
"""Seconds between looks at a database that is away: it may be starting again."""


def _of_right(*columns: Any) -> Select[Any]:
    """Select from who reads, the document, and his grant on its current version, whichever version is being sent."""
    return (
        select(*columns)
        .select_from(User)
        .outerjoin(Document, Document.id == bindparam("document"))
        .outerjoin(
            SharedKeyRegistry,
            and_(SharedKeyRegistry.version_id == Document.version_id, SharedKeyRegistry.reader_id == User.id),
        )
        .where(User.id == bindparam("reader"))
    )


_ROWS = _of_right(*seals.columns(User, Document, SharedKeyRegistry))
_SEALS = _of_right(*[model.__table__.c.seal for model in (User, Document, SharedKeyRegistry)])


class Right:
    """Whether an account may read a document now.

    All is decided from verified rows. As long as all three bear the seals that were verified last, nothing has changed
    in them, and they are not verified anew: a look costs half.
    """

    def __init__(self, transactions: Transactions, account: UnlockedAccount, document_id: bytes) -> None:
        self._transactions = transactions
        self._reader = account.user_id
        self._document = document_id
        self._parameters = {"document": document_id, "reader": account.user_id}
        self._verified: tuple[bytes, bytes, bytes] | None = None
        self._expires_at: datetime | None = None

    def why_not(self) -> str | None:
        """Say why the account may not read the document any more, or ``None`` where it may.

        Raises ``Busy`` when the database stays away, and ``Unreadable`` for a row that is not what was sealed.
        """
        for pause in BUSY_PAUSES:
            try:
                return self._why_not()
            except Busy:
                time.sleep(pause)
        return self._why_not()

    def _why_not(self) -> str | None:
        with self._transactions.reading(self._reader, ("document", self._document)) as session:
            if self._verified is not None:
                seen = session.connection().execute(_SEALS, self._parameters).all()
                if [tuple(row) for row in seen] == [self._verified]:
                    return self._expired()
            found = seals.verified_row(
                session, _ROWS, User, Document, SharedKeyRegistry, parameters=self._parameters
            )
            user, document, grant = map(seals.believed, found or (None, None, None))
        if user is None or user.state != "active":
            return "disabled"
        if document is None:
            return "deleted"
        if grant is None or grant.document_id != self._document or grant.epoch != document.epoch:
            return "revoked"
        self._verified, self._expires_at = (user.seal, document.seal, grant.seal), grant.expires_at
        return self._expired()

    def _expired(self) -> str | None:
        return "expired" if self._expires_at is not None and self._expires_at <= clock.now() else None
