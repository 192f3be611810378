"""Login attempts, counted in the database so that all workers on all machines agree.

An attempt is committed before the passphrase is tried, under the HMAC of the folded name (whether or not the
account exists) and of the address (IPv6: its /64), and taken back on success. Counting nothing in memory is the
point: a limit that each worker counts for itself is no limit (attack P3).
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vault.crypto.accounts import subject_mac
from vault.crypto.masterkey import MasterKeys
from vault.crypto.randomness import new_id
from vault.errors import TooManyAttempts
from vault.models import LoginAttempt
from vault.services import clock

WINDOW = timedelta(minutes=15)
PER_NAME = 10
PER_ADDRESS = 50


def address_group(address: str) -> str:
    """Give the part of an address that one person can hardly change: all of IPv4, the /64 of IPv6."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return str(ip)


def count_attempt(
    session: Session, master: MasterKeys, *, name: str | None, address: str | None
) -> list[bytes]:
    """Add one attempt for the name and the address, where they are given; return the ids to take back on success.

    Raises ``TooManyAttempts`` when either is used up; then nothing is added. The caller commits before Argon2id.
    """
    limits = []
    if address is not None:
        limits.append((_subjects(master, "address", address_group(address)), PER_ADDRESS))
    if name is not None:
        limits.append((_subjects(master, "name", name), PER_NAME))
    _count_in_turn(session, [subject for subjects, _ in limits for subject in subjects])
    since = clock.now() - WINDOW
    for subjects, limit in limits:
        found = session.scalars(
            select(LoginAttempt).where(LoginAttempt.subject.in_(subjects), LoginAttempt.at > since)
        ).all()
        if len(found) >= limit:
            oldest = min(attempt.at for attempt in found)
            raise TooManyAttempts(max(1, round((oldest + WINDOW - clock.now()).total_seconds())))
    made = [LoginAttempt(id=new_id(), subject=subjects[0], at=clock.now()) for subjects, _ in limits]
    session.add_all(made)
    return [attempt.id for attempt in made]


def _count_in_turn(session: Session, subjects: list[bytes]) -> None:
    """Let attempts that come at once wait for each other until their commit, as they do on SQLite in any case.

    Else each would count those before it, and none the others.
    """
    if session.get_bind().dialect.name == "postgresql":
        for subject in sorted(subjects):
            lock = func.pg_advisory_xact_lock(int.from_bytes(subject[:8], "big", signed=True))
            session.execute(select(lock).execution_options(unverified="a lock, no row"))


def _subjects(master: MasterKeys, kind: str, text: str) -> list[bytes]:
    """Name a subject under each master key, the one that seals first: servers that seal with different ones agree."""
    return [subject_mac(master, kind, text, key_id) for key_id in master.key_ids]


def take_back(session: Session, attempts: list[bytes]) -> None:
    """Remove the attempts of a login that succeeded."""
    for attempt_id in attempts:
        attempt = session.get(LoginAttempt, attempt_id)
        if attempt is not None:
            session.delete(attempt)


def forget_old(session: Session, limit: int) -> int:
    """Delete at most ``limit`` attempts that no longer count; return how many."""
    old = session.scalars(
        select(LoginAttempt).where(LoginAttempt.at < clock.now() - WINDOW).limit(limit)
    ).all()
    for attempt in old:
        session.delete(attempt)
    return len(old)
