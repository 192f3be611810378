"""Wrapped DEKs and the signatures of grants: W1, W2, W5, W6."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.crypto.conftest import Person
from tests.crypto.test_accounts import refused_when_changed
from vault.crypto.encoding import enc
from vault.crypto.grants import (
    Terms,
    open_terms,
    seal_terms,
    sign_grant,
    unwrap_dek,
    verify_grant,
    wrap_dek,
)
from vault.crypto.purposes import DEK_WRAP
from vault.crypto.randomness import new_id, new_secret
from vault.errors import Unreadable

DOCUMENT, VERSION = new_id(), new_id()
DEK = new_secret()
NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)


def test_w1_swapped_wraps(alice: Person, bob: Person) -> None:
    """Two readers of one document with their wrapped DEKs exchanged: both refused."""
    wraps = {
        who.id: wrap_dek(
            who.keys.public, DEK, document=DOCUMENT, version=VERSION, reader=who.id, key_version=1
        )
        for who in (alice, bob)
    }
    for who, other in ((alice, bob), (bob, alice)):
        bound: dict[str, Any] = {"document": DOCUMENT, "version": VERSION, "key_version": 1}
        assert unwrap_dek(who.keys, wraps[who.id], reader=who.id, **bound) == DEK
        with pytest.raises(Unreadable):
            unwrap_dek(who.keys, wraps[other.id], reader=who.id, **bound)
        with pytest.raises(Unreadable):
            unwrap_dek(who.keys, wraps[who.id], reader=other.id, **bound)


def test_w1_a_wrap_for_another_id_with_the_same_keys(bob: Person) -> None:
    """The reader is in the label, so that a wrap to Bob's key in another user's name is refused."""
    wrapped = wrap_dek(
        bob.keys.public, DEK, document=DOCUMENT, version=VERSION, reader=new_id(), key_version=1
    )
    with pytest.raises(Unreadable):
        unwrap_dek(bob.keys, wrapped, document=DOCUMENT, version=VERSION, reader=bob.id, key_version=1)


def test_w2_a_row_moved_to_another_document_or_version(bob: Person) -> None:
    wrapped = wrap_dek(bob.keys.public, DEK, document=DOCUMENT, version=VERSION, reader=bob.id, key_version=1)
    refused_when_changed(
        lambda **a: unwrap_dek(bob.keys, **a),
        {"wrapped": wrapped, "document": DOCUMENT, "version": VERSION, "reader": bob.id, "key_version": 1},
        {
            "wrapped": [wrapped[:-1], bytes(256)],
            "document": [new_id(), VERSION],
            "version": [new_id(), DOCUMENT],
            "reader": [new_id()],
            "key_version": [0, 2],
        },
    )


def test_w2_a_wrap_with_another_fingerprint_in_its_label(alice: Person, bob: Person) -> None:
    label = enc(DEK_WRAP, DOCUMENT, VERSION, bob.id, 1, alice.keys.public.fingerprint)
    with pytest.raises(Unreadable):
        unwrap_dek(
            bob.keys,
            bob.keys.public.wrap(label, DEK),
            document=DOCUMENT,
            version=VERSION,
            reader=bob.id,
            key_version=1,
        )


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_dek_of_another_size_is_refused(bob: Person, size: int) -> None:
    """Whoever writes the database can wrap anything to a public key, so the size is checked on the way out too."""
    bound: dict[str, Any] = {"document": DOCUMENT, "version": VERSION, "reader": bob.id, "key_version": 1}
    with pytest.raises(ValueError):
        wrap_dek(bob.keys.public, bytes(size), **bound)
    label = enc(DEK_WRAP, DOCUMENT, VERSION, bob.id, 1, bob.keys.public.fingerprint)
    with pytest.raises(Unreadable):
        unwrap_dek(bob.keys, bob.keys.public.wrap(label, bytes(size)), **bound)


@pytest.mark.parametrize("expires_at", [None, NOW + timedelta(days=1)])
def test_w5_w6_every_field_of_a_grant_is_signed(
    alice: Person, bob: Person, expires_at: datetime | None
) -> None:
    """W5: permission and expiry; W6: the epoch, which a revocation raises; the granter and all the rest."""
    bound: dict[str, Any] = {
        "document": DOCUMENT, "version": VERSION, "epoch": 7, "granter": alice.id, "granter_key_version": 1,
        "reader": bob.id, "permission": "read", "expires_at": expires_at,
    }  # fmt: skip
    signature = sign_grant(alice.keys, **bound)
    refused_when_changed(
        verify_grant,
        {"public": alice.keys.public, "signature": signature, **bound},
        {
            "public": [bob.keys.public],
            "signature": [sign_grant(bob.keys, **bound), b"", bytes(256)],
            "document": [new_id()],
            "version": [new_id()],
            "epoch": [6, 8],
            "granter": [bob.id],
            "granter_key_version": [2],
            "reader": [alice.id],
            "permission": ["owner", "", "Read"],
            "expires_at": [NOW, NOW + timedelta(days=2)] + ([None] if expires_at else []),
        },
    )


@pytest.mark.parametrize("expires_at", [None, NOW + timedelta(days=1)])
def test_w8_terms_open_for_their_owner_and_their_own_row_only(
    alice: Person, bob: Person, expires_at: datetime | None
) -> None:
    terms = Terms(NOW, expires_at, 3)
    place = {"work": new_id(), "user": alice.id, "document": DOCUMENT, "reader": bob.id}
    sealed = seal_terms(alice.account_key, terms, **place)
    assert open_terms(alice.account_key, sealed, **place) == terms
    with pytest.raises(Unreadable):
        open_terms(bob.account_key, sealed, **place)
    for name in place:
        with pytest.raises(Unreadable):
            open_terms(alice.account_key, sealed, **place | {name: new_id()})
    for damaged in (b"", sealed[:-1], sealed + b"\0"):
        with pytest.raises(Unreadable):
            open_terms(alice.account_key, damaged, **place)
