"""Invitations, and the set-up code that makes the first administrator.

A code is 130 random bits that its receiver types or follows; the database keeps its HMAC. An unknown, used,
withdrawn and expired code are all ``CodeInvalid``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.accounts import subject_mac
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import new_code, normalise_code
from vault.crypto.randomness import new_id
from vault.errors import BadInput, CodeInvalid, Forbidden, NameTaken, NotFound
from vault.models import Invitation, User
from vault.services import clock, seals
from vault.services.audit import Event
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import new_username

LIFE = timedelta(days=7)
CLOSED = "Registration is closed."


@dataclass(frozen=True)
class CodeView:
    """What a valid code is good for."""

    kind: str
    username: str | None
    expires_at: datetime


@dataclass(frozen=True)
class InvitationView:
    id: bytes
    username: str
    created_at: datetime
    expires_at: datetime
    created_by: str | None
    kind: str = "invitation"


@dataclass(frozen=True)
class Invited:
    """A new invitation, with the code that is shown this once."""

    invitation: InvitationView
    code: str = field(repr=False)


class Invitations:
    """Make, list, look up, spend and withdraw codes."""

    def __init__(self, transactions: Transactions, master: MasterKeys, registration: str) -> None:
        self._transactions = transactions
        self._master = master
        self.is_closed = registration == "closed"

    def setup_pending(self) -> bool:
        """Tell whether the vault still waits for its first administrator."""
        with self._transactions.reading() as session:
            return not _has_admin(session)

    def make_setup_code(self) -> str:
        """Make the code for the first administrator; an older one stops working.

        Raises ``Forbidden`` when there is an administrator already.
        """
        code = new_code()

        def work(session: Session) -> None:
            if _has_admin(session):
                raise Forbidden(
                    "There is an administrator already. Administrators invite on the page People."
                )
            for old in session.scalars(select(Invitation).where(Invitation.kind == "setup")):
                session.delete(old)
            row = self._row("setup", None, code, None)
            session.add(row)
            self._transactions.record(Event("setup_code", None, "invitation", row.id))

        self._transactions.writing(work)
        return code

    def _row(self, kind: str, username: str | None, code: str, created_by: bytes | None) -> Invitation:
        made = clock.now()
        return Invitation(
            id=new_id(),
            kind=kind,
            username=username,
            code_mac=subject_mac(self._master, "code", normalise_code(code)),
            code_key_id=self._master.key_id,
            created_by=created_by,
            created_at=made,
            expires_at=made + LIFE,
        )

    def _find(self, session: Session, code: str) -> Invitation:
        macs = [
            subject_mac(self._master, "code", normalise_code(code), key_id=key_id)
            for key_id in self._master.key_ids
        ]
        found = session.scalar(select(Invitation).where(Invitation.code_mac.in_(macs)))
        if found is None or found.expires_at <= clock.now():
            raise CodeInvalid
        if found.kind == "setup" and _has_admin(session):
            raise CodeInvalid
        return found

    def add_reset(self, session: Session, username: str, account: UnlockedAccount | None) -> Invited:
        """Add a code for new keys of somebody who is there already; an older one stops working."""
        _delete_resets(session, username)
        code = new_code()
        row = self._row("reset", username, code, account.user_id if account else None)
        session.add(row)
        by = account.username if account else None
        return Invited(InvitationView(row.id, username, row.created_at, row.expires_at, by, row.kind), code)

    def find_reset(self, session: Session, code: str) -> Invitation:
        """Load the row of a code for new keys; raises ``CodeInvalid`` for any other code."""
        found = self._find(session, code)
        if found.kind != "reset":
            raise CodeInvalid
        return found

    def check(self, session: Session, code: str, username: str, *, use: bool) -> str:
        """Return the kind of a code that is valid for ``username``; with ``use`` it is spent by this transaction.

        A code for new keys is none for a registration.
        """
        found = self._find(session, code)
        if found.kind == "reset":
            raise CodeInvalid
        if found.username not in {None, username}:
            raise BadInput("username", "This invitation is for another user name.")
        kind = found.kind
        if use:
            session.delete(found)
        return kind

    def look_up(self, code: str) -> CodeView:
        """Tell what a code is good for, without spending it."""
        with self._transactions.reading() as session:
            found = self._find(session, code)
            return CodeView(found.kind, found.username, found.expires_at)

    def invite(self, account: UnlockedAccount | None, username: str) -> Invited:
        """Make an invitation for one person, valid 7 days; ``account`` is an administrator, ``None`` the operator.

        Raises ``Forbidden`` where registration is closed: the code could never be used.
        """
        _require_admin(account)
        if self.is_closed:
            raise Forbidden(CLOSED)
        folded = new_username(username)
        code, actor = new_code(), account.user_id if account else None

        def work(session: Session) -> InvitationView:
            if session.scalar(select(User).where(User.username == folded)) is not None:
                raise NameTaken
            open_ones = session.scalars(select(Invitation).where(Invitation.username == folded)).all()
            if any(row.expires_at > clock.now() for row in open_ones):
                raise BadInput("username", "There is an open invitation for this name. Withdraw it first.")
            row = self._row("invitation", folded, code, actor)
            session.add(row)
            self._transactions.record(Event("invite", actor, "invitation", row.id))
            return InvitationView(
                row.id, folded, row.created_at, row.expires_at, account.username if account else None
            )

        return Invited(self._transactions.writing(work, actor), code)

    def list_open(self, account: UnlockedAccount | None) -> list[InvitationView]:
        """List the invitations that somebody can still use."""
        _require_admin(account)
        with self._transactions.reading() as session:
            statement = (
                select(*seals.columns(Invitation, User))
                .select_from(Invitation)
                .outerjoin(User, User.id == Invitation.created_by)
                .where(Invitation.kind != "setup", Invitation.expires_at > clock.now())
                .order_by(Invitation.created_at)
            )
            return [
                InvitationView(
                    row.id,
                    row.username or "",
                    row.created_at,
                    row.expires_at,
                    getattr(user, "username", None),
                    row.kind,
                )
                for row, user in seals.verified_rows(session, statement, Invitation, User)
                if not isinstance(row, seals.Refusal)
            ]

    def withdraw(self, account: UnlockedAccount | None, invitation_id: bytes) -> None:
        """Make an invitation's code worthless."""
        _require_admin(account)
        actor = account.user_id if account else None

        def work(session: Session) -> None:
            row = session.get(Invitation, invitation_id)
            if row is None or row.kind == "setup":
                raise NotFound
            session.delete(row)
            self._transactions.record(Event("withdraw", actor, "invitation", invitation_id))

        self._transactions.writing(work, actor)


def _has_admin(session: Session) -> bool:
    return session.scalars(select(User).where(User.role == "admin").limit(1)).first() is not None


def _require_admin(account: UnlockedAccount | None) -> None:
    if account is not None and not account.is_admin:
        raise Forbidden("Only an administrator may do this.")


def _delete_resets(session: Session, username: str) -> list[bytes]:
    rows = session.scalars(
        select(Invitation).where(Invitation.kind == "reset", Invitation.username == username)
    ).all()
    for row in rows:
        session.delete(row)
    return [row.id for row in rows]


def void_resets(session: Session, record: Transactions, user: User) -> None:
    """Make a code for new keys worthless: who gets in by himself has not lost everything."""
    for row_id in _delete_resets(session, user.username):
        record.record(Event("reset_voided", user.id, "invitation", row_id))


def forget_expired(session: Session, limit: int, record: Transactions) -> int:
    """Delete at most ``limit`` expired codes; return how many."""
    rows = session.scalars(select(Invitation).where(Invitation.expires_at <= clock.now()).limit(limit)).all()
    for row in rows:
        session.delete(row)
    if rows:
        record.record(Event("codes_expired", None, "invitation", rows[0].id))
    return len(rows)
