"""Session tokens against forgery (P6): every algorithm, header and claim but our own is refused."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.crypto.conftest import Person
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_FLASK, MASTER_TOKENS
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.tokens import LEEWAY, issue_token, read_token
from vault.errors import Unreadable

OLD, NEW = new_secret(), new_secret()
MASTER = MasterKeys(OLD)
NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
USER, SESSION, SECRET = new_id(), new_id(), new_secret()
UPLOADS = (new_secret(), new_secret())
EXPIRES = NOW + timedelta(minutes=15)


def _issue(master: MasterKeys = MASTER, **changed: Any) -> str:
    bound: dict[str, Any] = {
        "user": USER, "session": SESSION, "secret": SECRET, "upload_keys": UPLOADS, "issued_at": NOW,
        "expires_at": EXPIRES,
    }  # fmt: skip
    return issue_token(master, **{**bound, **changed})


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


def _signed(header: Any, claims: Any, key: bytes, digest: str = "sha256") -> str:
    message = ".".join(_b64(json.dumps(part).encode()) for part in (header, claims))
    return message + "." + _b64(hmac.digest(key, message.encode(), digest))


HEADER, CLAIMS = _parts(_issue())
SIGNING = MASTER.derive(MASTER_TOKENS)


def refused(token: str, now: datetime = NOW, master: MasterKeys = MASTER) -> None:
    with pytest.raises(Unreadable) as raised:
        read_token(master, token, now)
    assert str(raised.value) == Unreadable.text


def test_a_token_round_trips() -> None:
    claims = read_token(MASTER, _issue(), NOW)
    assert (claims.user, claims.session, claims.secret, claims.upload_keys) == (
        USER,
        SESSION,
        SECRET,
        UPLOADS,
    )
    assert (claims.issued_at, claims.expires_at) == (NOW, EXPIRES)
    assert len(_issue()) < 700, "a cookie holds 4 kB"


def test_a_token_made_by_hand_with_the_right_key_is_read() -> None:
    """So that the refusals below are for what they change, and not for how they are built."""
    assert read_token(MASTER, _signed(HEADER, CLAIMS, SIGNING), NOW).secret == SECRET


def test_nothing_of_a_token_is_shown() -> None:
    shown = repr(read_token(MASTER, _issue(), NOW))
    assert SECRET.hex() not in shown and repr(SECRET) not in shown and _b64(SECRET) not in shown


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA", "hs256"]
)
@pytest.mark.requirement(25)
def test_p6_every_other_algorithm(alg: str) -> None:
    header = {**HEADER, "alg": alg}
    refused(_signed(header, CLAIMS, SIGNING))
    for digest in ("sha384", "sha512"):
        refused(_signed(header, CLAIMS, SIGNING, digest))
    message = ".".join(_b64(json.dumps(part).encode()) for part in (header, CLAIMS))
    refused(message + ".")
    refused(message)


@pytest.mark.requirement(25)
def test_p6_real_hs512_and_none_of_the_library() -> None:
    extra = {"typ": HEADER["typ"], "kid": HEADER["kid"]}
    refused(jwt.encode(CLAIMS, SIGNING * 2, algorithm="HS512", headers=extra))
    refused(jwt.encode(CLAIMS, "", algorithm="none", headers=extra))


@pytest.mark.requirement(25)
def test_p6_rsa_confusion(alice: Person) -> None:
    """RS256 with a key of ours, and HS256 with a public key as the secret."""
    extra = {"typ": HEADER["typ"], "kid": HEADER["kid"]}
    refused(jwt.encode(CLAIMS, alice.keys._sign, algorithm="RS256", headers=extra))
    public = alice.keys._sign.public_key()
    for encoded in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        refused(_signed(HEADER, CLAIMS, encoded))


@pytest.mark.parametrize("kid", [
    "", "../../../../dev/null", "/dev/null", "' OR 1=1 --", "0" * 16, "0" * 15, "zz" * 8, None, 5, [], {},
    "effc6048bfddb071/../x", "\0" * 16,
])  # fmt: skip
def test_p6_kid(kid: Any) -> None:
    """The key id is looked up among known ids, never used as a path, a query or a key."""
    for key in (SIGNING, b"", b"\0", bytes(32)):
        refused(_signed({**HEADER, "kid": kid}, CLAIMS, key))


def test_p6_no_kid() -> None:
    refused(_signed({name: value for name, value in HEADER.items() if name != "kid"}, CLAIMS, SIGNING))


@pytest.mark.parametrize("extra", [
    {"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": True},
    {"jku": "https://example.org/keys"},
    {"x5u": "https://example.org/cert"}, {"x5c": []}, {"jwk": {"kty": "oct", "k": "AAAA"}}, {"zip": "DEF"},
    {"cty": "JWT"},
    {"x": 1},
])  # fmt: skip
@pytest.mark.requirement(25)
def test_p6_any_other_header(extra: dict[str, Any]) -> None:
    refused(_signed({**HEADER, **extra}, CLAIMS, SIGNING))
    refused(_signed({**HEADER, **extra}, CLAIMS, b"\0"))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "", None, "docvault-session", "DOCVAULT-SESSION+JWT", 1])
@pytest.mark.requirement(26)
def test_p6_a_foreign_typ(typ: Any) -> None:
    refused(_signed({**HEADER, "typ": typ}, CLAIMS, SIGNING))


@pytest.mark.parametrize("changed", [
    {"aud": "other"}, {"aud": ["docvault-session"]}, {"aud": ["docvault-session", "other"]}, {"aud": []}, {"aud": None},
    {"iss": "other"}, {"iss": ["docvault"]}, {"iss": ""}, {"sub": USER.hex().upper()}, {"sub": USER.hex()[:-2]},
    {"sub": 5},
    {"sub": ""}, {"sub": "g" * 32}, {"sub": " " + USER.hex()[1:]}, {"sid": None}, {"sid": SESSION.hex() + "00"},
    {"sec": ""}, {"sec": _b64(SECRET[:-1])}, {"sec": _b64(SECRET) + "="}, {"sec": 5}, {"sec": "!" * 43},
    {"sec": _b64(SECRET + b"0")}, {"upl": []}, {"upl": [_b64(UPLOADS[0])]}, {"upl": "x"}, {"upl": {"0": 1, "1": 2}},
    {"upl": [None, None]}, {"exp": "never"}, {"exp": None}, {"exp": 1e300}, {"exp": -1}, {"exp": True}, {"iat": "now"},
    {"iat": 0.5}, {"iat": 2**63}, {"nbf": 0}, {"admin": True}, {"jti": "x"},
])  # fmt: skip
@pytest.mark.requirement(26)
def test_p6_any_other_claim(changed: dict[str, Any]) -> None:
    refused(_signed(HEADER, {**CLAIMS, **changed}, SIGNING))


@pytest.mark.parametrize("name", sorted(CLAIMS))
@pytest.mark.requirement(26)
def test_p6_a_missing_claim(name: str) -> None:
    refused(_signed(HEADER, {key: value for key, value in CLAIMS.items() if key != name}, SIGNING))


@pytest.mark.requirement(26)
def test_p6_expiry_and_not_before() -> None:
    """Half a minute of skew between servers is allowed, and no more."""
    token = _issue()
    for now in (NOW, EXPIRES, EXPIRES + LEEWAY, NOW - LEEWAY):
        assert read_token(MASTER, token, now)
    for now in (
        EXPIRES + LEEWAY + timedelta(seconds=1),
        NOW - LEEWAY - timedelta(seconds=1),
        EXPIRES + timedelta(days=400),
    ):
        refused(token, now)
    assert timedelta() <= LEEWAY <= timedelta(seconds=30)
    refused(_issue(expires_at=NOW - timedelta(seconds=20)), NOW)
    refused(_signed(HEADER, {**CLAIMS, "nbf": CLAIMS["exp"]}, SIGNING))


def test_p6_keys_of_other_purposes_and_of_other_vaults() -> None:
    refused(_signed(HEADER, CLAIMS, MASTER.derive(MASTER_FLASK)))
    refused(_signed(HEADER, CLAIMS, OLD))
    refused(_issue(MasterKeys(NEW)))
    refused(_issue(), master=MasterKeys(NEW))


def test_a_token_outlives_the_rotation_of_the_master_key() -> None:
    rotated = MasterKeys(NEW, [OLD])
    assert read_token(rotated, _issue(), NOW).user == USER
    assert read_token(rotated, _issue(rotated), NOW).user == USER


def test_p6_every_character_matters() -> None:
    token = _issue()
    for at in range(0, len(token), 3):
        other = "A" if token[at] != "A" else "B"
        if (token[:at] + other + token[at + 1 :]).split(".")[2] == token.split(".")[2] or at > token.rfind(
            "."
        ):
            refused(token[:at] + other + token[at + 1 :])


@pytest.mark.parametrize("token", [
    "", ".", "..", "...", "a.b.c", "é" * 20, "\0", "e30.e30.e30", "[].[].", " " + _issue(), _issue() + " ",
    _issue() + ".",
    _issue()[:-1], "x" * 3000, _issue() * 5, "Bearer " + _issue(), "eyJhbGciOiJIUzI1NiJ9" + ".W10" * 2, "\ud800",
])  # fmt: skip
def test_p6_what_is_no_token(token: str) -> None:
    refused(token)


@pytest.mark.parametrize("claims", [[], "text", 5, None, {}])
def test_p6_claims_that_are_no_object(claims: Any) -> None:
    refused(_signed(HEADER, claims, SIGNING))


@pytest.mark.parametrize("changed", [
    {"user": b""}, {"session": bytes(15)}, {"secret": bytes(16)}, {"upload_keys": (bytes(32), bytes(31))},
    {"issued_at": NOW.replace(tzinfo=None)}, {"expires_at": EXPIRES.replace(tzinfo=None)},
])  # fmt: skip
def test_a_token_with_wrong_sizes_or_naive_times_is_not_made(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        _issue(**changed)
