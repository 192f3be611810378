"""A thousand people: accounts with the keys of one of the cast, because making key pairs takes its time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from tests.cast import Member, Vault
from vault.crypto.accounts import directory_mac, seal_private_keys
from vault.crypto.masterkey import MasterKeys
from vault.crypto.randomness import new_id
from vault.models import User, UserKey
from vault.services import clock
from vault.services.audit import Event
from vault.services.unlocked import OwnKeys


def settle(vault: Vault, count: int, like: str = "bob") -> list[str]:
    """Let so many people have accounts with the keys of ``like``; return their names, in order."""
    names = [f"crowd-{number:04}" for number in range(count)]
    account = vault.members[like].account
    master: MasterKeys = vault.app.extensions["docvault"].master
    public = account.private.public

    def work(session: Any) -> None:
        for name in names:
            user, now = new_id(), clock.now()
            wrap, sign = seal_private_keys(account.account_key, account.private, user=user, key_version=1)
            session.add(
                User(
                    id=user, username=name, role="user", state="active", credential_generation=0, key_version=1,
                    stored_bytes=0, documents=0, created_at=now, last_login_at=None, previous_login_at=None,
                    device_mac=None,
                )
            )  # fmt: skip
            session.flush()
            session.add(
                UserKey(
                    id=new_id(), user_id=user, version=1, wrap_public=public.wrap_der, sign_public=public.sign_der,
                    fingerprint=public.fingerprint, directory_key_id=master.key_id,
                    directory_mac=directory_mac(master, user=user, key_version=1, fingerprint=public.fingerprint),
                    sealed_wrap_private=wrap, sealed_sign_private=sign, statement=None, created_at=now, retired_at=None,
                )
            )  # fmt: skip
        bundle.transactions.record(Event("register", None, "user", user))

    with vault.services() as bundle:
        bundle.transactions.writing(work)
    return names


def enter(vault: Vault, name: str, like: str = "bob") -> Member:
    """One of the crowd as a member whose account is unlocked, to use services with."""
    one = vault.members[like]
    with vault.services() as bundle, bundle.transactions.reading() as session:
        user = session.scalars(select(User).where(User.username == name)).one()
        key = session.scalars(select(UserKey).where(UserKey.user_id == user.id)).one()
        own = OwnKeys(1, one.account.own.public, key.sealed_wrap_private, key.sealed_sign_private)
        account = replace(one.account, user_id=user.id, username=name, own=own)
    vault.members[name] = Member(name, "", account, "")
    return vault.members[name]
