"""The account key and what it locks, against somebody who writes the database: K1 to K4, K6, P6."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.crypto.conftest import Person
from vault.crypto.accounts import (
    check_directory_mac,
    directory_mac,
    open_account_key,
    open_contact,
    open_private_keys,
    open_session,
    seal_account_key,
    seal_contact,
    seal_private_keys,
    seal_session,
    subject_mac,
    upload_key,
    upload_names_key,
)
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters
from vault.crypto.randomness import new_id, new_secret
from vault.errors import KeyUnavailable, Unreadable

OLD, NEW = new_secret(), new_secret()
MASTER = MasterKeys(OLD)
KEK = new_secret()
PARAMETERS = KdfParameters.fresh()
NOW = datetime(2026, 11, 22, 1, 2, 3, 456_789, tzinfo=UTC)


def refused_when_changed(
    open_it: Callable[..., Any], right: dict[str, Any], changes: dict[str, list[Any]]
) -> None:
    """Open once as it is; then with each argument changed, one at a time."""
    open_it(**right)
    for name, values in changes.items():
        for value in values:
            with pytest.raises(Unreadable):
                open_it(**{**right, name: value})
                pytest.fail(name)


def test_k1_an_account_key_opens_in_its_own_row_only() -> None:
    user, method, key = new_id(), new_id(), new_secret()
    bound: dict[str, Any] = {"user": user, "method": method, "kind": "passphrase", "parameters": PARAMETERS}
    sealed = seal_account_key(MASTER, KEK, key, **bound)
    assert open_account_key(MASTER, MASTER.key_id, KEK, sealed, **bound) == key
    harder = KdfParameters(131_072, 3, 4, PARAMETERS.salt)
    refused_when_changed(
        lambda **a: open_account_key(MASTER, MASTER.key_id, **a),
        {"kek": KEK, "sealed": sealed, **bound},
        {
            "kek": [new_secret()],
            "sealed": [sealed[:-1], bytes(len(sealed)), sealed + b"\0"],
            "user": [new_id()],
            "method": [new_id()],
            "kind": ["recovery"],
            "parameters": [KdfParameters.fresh(), harder, None],
        },
    )


def test_k1_an_attackers_own_account_key_does_not_fit_the_victims_row(alice: Person, mallory: Person) -> None:
    """He knows his KEK; only the victim's id in the context stops him."""
    method = new_id()
    sealed = seal_account_key(
        MASTER,
        KEK,
        mallory.account_key,
        user=mallory.id,
        method=method,
        kind="passphrase",
        parameters=PARAMETERS,
    )
    with pytest.raises(Unreadable):
        open_account_key(
            MASTER,
            MASTER.key_id,
            KEK,
            sealed,
            user=alice.id,
            method=method,
            kind="passphrase",
            parameters=PARAMETERS,
        )


def test_the_master_key_alone_and_the_kek_alone_open_nothing() -> None:
    bound: dict[str, Any] = {
        "user": new_id(),
        "method": new_id(),
        "kind": "passphrase",
        "parameters": PARAMETERS,
    }
    sealed = seal_account_key(MASTER, KEK, new_secret(), **bound)
    other = MasterKeys(NEW)
    with pytest.raises(Unreadable):
        open_account_key(other, other.key_id, KEK, sealed, **bound)
    with pytest.raises(Unreadable):
        open_account_key(MASTER, MASTER.key_id, new_secret(), sealed, **bound)


def test_a_method_without_kdf_parameters() -> None:
    bound: dict[str, Any] = {"user": new_id(), "method": new_id(), "kind": "recovery", "parameters": None}
    key = new_secret()
    sealed = seal_account_key(MASTER, KEK, key, **bound)
    assert open_account_key(MASTER, MASTER.key_id, KEK, sealed, **bound) == key


def test_a_master_key_that_is_not_here_is_no_damage() -> None:
    bound: dict[str, Any] = {
        "user": new_id(),
        "method": new_id(),
        "kind": "passphrase",
        "parameters": PARAMETERS,
    }
    key = new_secret()
    sealed = seal_account_key(MASTER, KEK, key, **bound)
    promoted = MasterKeys(NEW, [OLD])
    assert open_account_key(promoted, MASTER.key_id, KEK, sealed, **bound) == key
    with pytest.raises(KeyUnavailable):
        open_account_key(MasterKeys(NEW), MASTER.key_id, KEK, sealed, **bound)


def test_k1_k3_private_keys_open_in_their_own_row_only(alice: Person, mallory: Person) -> None:
    wrap, sign = seal_private_keys(alice.account_key, alice.keys, user=alice.id, key_version=2)
    theirs = seal_private_keys(mallory.account_key, mallory.keys, user=mallory.id, key_version=2)
    right: dict[str, Any] = {
        "account_key": alice.account_key, "sealed_wrap": wrap, "sealed_sign": sign, "user": alice.id,
        "key_version": 2, "public": alice.keys.public,
    }  # fmt: skip
    opened = open_private_keys(**right)
    assert opened.unwrap(b"label", alice.keys.public.wrap(b"label", bytes(32))) == bytes(32)
    alice.keys.public.verify(b"message", opened.sign(b"message"))
    refused_when_changed(
        open_private_keys,
        right,
        {
            "account_key": [new_secret(), mallory.account_key],
            "sealed_wrap": [theirs[0], sign, wrap[:-1]],
            "sealed_sign": [theirs[1], wrap, sign[:-1]],
            "user": [mallory.id],
            "key_version": [1, 3],
            "public": [mallory.keys.public],
        },
    )


def test_k3_own_account_key_with_foreign_private_keys(alice: Person, mallory: Person) -> None:
    """Sealed properly under the account key, but not the keys that the row's public ones belong to."""
    wrap, sign = seal_private_keys(alice.account_key, mallory.keys, user=alice.id, key_version=1)
    with pytest.raises(Unreadable):
        open_private_keys(
            alice.account_key, wrap, sign, user=alice.id, key_version=1, public=alice.keys.public
        )


def test_k4_every_flipped_byte_gives_the_same_error_before_anything_is_parsed(alice: Person) -> None:
    wrap, sign = seal_private_keys(alice.account_key, alice.keys, user=alice.id, key_version=1)
    errors = set()
    for at in range(len(wrap)):
        damaged = wrap[:at] + bytes([wrap[at] ^ 1 << at % 8]) + wrap[at + 1 :]
        with pytest.raises(Unreadable) as raised:
            open_private_keys(
                alice.account_key, damaged, sign, user=alice.id, key_version=1, public=alice.keys.public
            )
        errors.add((type(raised.value), str(raised.value), raised.value.reason))
    assert errors == {(Unreadable, Unreadable.text, "seal does not open")}


def test_k6_two_rows_with_their_ids_exchanged(alice: Person, bob: Person) -> None:
    """Wholesale: each gets the other's three columns, and neither opens."""
    for user, other in ((alice, bob), (bob, alice)):
        wrap, sign = seal_private_keys(other.account_key, other.keys, user=other.id, key_version=1)
        for account_key in (user.account_key, other.account_key):
            with pytest.raises(Unreadable):
                open_private_keys(
                    account_key, wrap, sign, user=user.id, key_version=1, public=other.keys.public
                )


def test_k2_a_public_key_put_in_by_hand(alice: Person, mallory: Person) -> None:
    fingerprint = alice.keys.public.fingerprint
    mac = directory_mac(MASTER, user=alice.id, key_version=1, fingerprint=fingerprint)
    refused_when_changed(
        lambda **a: check_directory_mac(MASTER, MASTER.key_id, **a),
        {"mac": mac, "user": alice.id, "key_version": 1, "fingerprint": fingerprint},
        {
            "mac": [mac[:-1], mac + b"\0", b"", bytes(32)],
            "user": [mallory.id],
            "key_version": [0, 2],
            "fingerprint": [mallory.keys.public.fingerprint],
        },
    )
    with pytest.raises(Unreadable):
        other = MasterKeys(NEW)
        check_directory_mac(other, other.key_id, mac, user=alice.id, key_version=1, fingerprint=fingerprint)


def test_contacts_open_for_their_owner_and_person_only(alice: Person, bob: Person, mallory: Person) -> None:
    sealed = seal_contact(alice.account_key, bob.keys.public.fingerprint, user=alice.id, other=bob.id)
    assert open_contact(alice.account_key, sealed, user=alice.id, other=bob.id) == bob.keys.public.fingerprint
    for key, user, other in (
        (bob.account_key, alice.id, bob.id),
        (alice.account_key, alice.id, mallory.id),
        (alice.account_key, bob.id, alice.id),
    ):
        with pytest.raises(Unreadable):
            open_contact(key, sealed, user=user, other=other)
    with pytest.raises(ValueError):
        seal_contact(alice.account_key, b"short", user=alice.id, other=bob.id)


@pytest.mark.requirement(29)
def test_p6_a_session_opens_with_its_own_secret_and_unedited_row_only(alice: Person, bob: Person) -> None:
    secret, session = new_secret(), new_id()
    bound: dict[str, Any] = {
        "session": session, "user": alice.id, "created_at": NOW, "expires_at": NOW + timedelta(hours=12),
        "generation": 3,
    }  # fmt: skip
    sealed = seal_session(MASTER, secret, alice.account_key, **bound)
    assert open_session(MASTER, MASTER.key_id, secret, sealed, **bound) == alice.account_key
    theirs = seal_session(
        MASTER, new_secret(), bob.account_key, **{**bound, "session": new_id(), "user": bob.id}
    )
    refused_when_changed(
        lambda **a: open_session(MASTER, MASTER.key_id, **a),
        {"secret": secret, "sealed": sealed, **bound},
        {
            "secret": [new_secret()],
            "sealed": [theirs, sealed[:-1]],
            "session": [new_id()],
            "user": [bob.id],
            "created_at": [NOW - timedelta(microseconds=1)],
            "expires_at": [NOW + timedelta(hours=13)],
            "generation": [2, 4],
        },
    )
    other = MasterKeys(NEW)
    with pytest.raises(Unreadable):
        open_session(other, other.key_id, secret, sealed, **bound)


def test_a_session_opens_after_the_master_key_was_promoted(alice: Person) -> None:
    secret, session = new_secret(), new_id()
    bound: dict[str, Any] = {
        "session": session, "user": alice.id, "created_at": NOW, "expires_at": NOW + timedelta(hours=12),
        "generation": 0,
    }  # fmt: skip
    sealed = seal_session(MASTER, secret, alice.account_key, **bound)
    rotated = MasterKeys(NEW, [OLD])
    assert open_session(rotated, MASTER.key_id, secret, sealed, **bound) == alice.account_key
    with pytest.raises(Unreadable):
        open_session(rotated, rotated.key_id, secret, sealed, **bound)
    with pytest.raises(KeyUnavailable):
        open_session(MasterKeys(NEW), MASTER.key_id, secret, sealed, **bound)


def test_k2_a_directory_mac_is_checked_under_its_own_master_key(alice: Person) -> None:
    bound: dict[str, Any] = {"user": alice.id, "key_version": 1, "fingerprint": alice.keys.public.fingerprint}
    mac, rotated = directory_mac(MASTER, **bound), MasterKeys(NEW, [OLD])
    check_directory_mac(rotated, MASTER.key_id, mac, **bound)
    with pytest.raises(Unreadable):
        check_directory_mac(rotated, rotated.key_id, mac, **bound)


def test_keys_of_a_wrong_size_are_never_sealed(alice: Person) -> None:
    with pytest.raises(ValueError):
        seal_account_key(
            MASTER, KEK, b"short", user=alice.id, method=new_id(), kind="passphrase", parameters=PARAMETERS
        )
    with pytest.raises(ValueError):
        seal_session(
            MASTER,
            new_secret(),
            b"short",
            session=new_id(),
            user=alice.id,
            created_at=NOW,
            expires_at=NOW,
            generation=0,
        )


def test_subjects_are_apart_by_kind_and_key() -> None:
    macs = {
        subject_mac(MASTER, "name", "alice"), subject_mac(MASTER, "address", "alice"),
        subject_mac(MASTER, "name", "bob"),
        subject_mac(MasterKeys(NEW), "name", "alice"), subject_mac(MASTER, "namea", "lice"),
    }  # fmt: skip
    assert len(macs) == 5
    rotated = MasterKeys(NEW, [OLD])
    assert subject_mac(rotated, "name", "alice", MASTER.key_id) == subject_mac(MASTER, "name", "alice")


def test_upload_keys_change_with_the_day_and_the_account(alice: Person, bob: Person) -> None:
    day = date(2026, 11, 22)
    keys = {upload_key(who.account_key, day + timedelta(days=n)) for who in (alice, bob) for n in range(3)}
    assert len(keys) == 6 and all(len(key) == 32 for key in keys)
    assert upload_key(alice.account_key, day) in keys
    assert len(keys | {upload_names_key(who.account_key) for who in (alice, bob)}) == 8
