"""Who is asking: token in, ``CurrentUser`` out; the cookies; the Origin and CSRF checks."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, Response, g, redirect, request, session, url_for
from flask_login import current_user
from flask_wtf.csrf import CSRFError, validate_csrf
from werkzeug.routing import BaseConverter, ValidationError
from werkzeug.wrappers import Response as BaseResponse
from wtforms.validators import ValidationError as WrongToken

from vault.config import Settings
from vault.errors import BadInput, Busy, Forbidden, LoginRequired, VaultError
from vault.extensions import login_manager
from vault.services import clock
from vault.services.sessions import RENEW_AFTER, TOKEN_LIFE, LoggedIn
from vault.services.unlocked import UnlockedAccount
from vault.wiring import services

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEVICE_SECONDS = 400 * 24 * 3600


class CurrentUser:
    """An unlocked account, with the four members that Flask-Login asks for."""

    is_active = True
    is_authenticated = True
    is_anonymous = False

    def __init__(self, account: UnlockedAccount, *, by_cookie: bool) -> None:
        self.account = account
        self.by_cookie = by_cookie

    def get_id(self) -> str:
        return self.account.user_id.hex()

    @property
    def username(self) -> str:
        return self.account.username

    @property
    def is_admin(self) -> bool:
        return self.account.is_admin

    @property
    def seconds_left(self) -> int:
        """The seconds until the session ends by itself, when nothing more is asked of it."""
        left = self.account.idle_expires_at - clock.now()
        return max(0, int(left.total_seconds()))

    @property
    def seconds_without_scripts(self) -> int:
        """The same for a page that cannot renew its token by itself: what is left of the token counts too."""
        return min(self.seconds_left, int((TOKEN_LIFE - RENEW_AFTER).total_seconds()))


class IdConverter(BaseConverter):
    """An id in a URL: 32 lower-case hex digits outside, 16 bytes inside."""

    regex = "[0-9a-f]{32}"

    def to_python(self, value: str) -> bytes:
        try:
            return bytes.fromhex(value)
        except ValueError as error:
            raise ValidationError from error

    def to_url(self, value: Any) -> str:
        return value.hex() if isinstance(value, bytes) else str(value)


def current_account() -> UnlockedAccount:
    """Return the account of whoever asks; raises ``LoginRequired`` when nobody is logged in."""
    if not current_user.is_authenticated:
        raise LoginRequired
    account: UnlockedAccount = current_user.account
    return account


def sender() -> Any:
    """Return what the token of a piece of an upload says, read without the database; his session may be over.

    A cookie counts only together with ``X-CSRFToken``. Raises ``LoginRequired``.
    """
    token, by_cookie = _token_of(request)
    claims = services().sessions.bearer(token or "")
    if by_cookie:
        _validate(request.headers.get("X-CSRFToken"))
    return claims


def _settings() -> Settings:
    return services().settings


def token_cookie() -> str:
    return "__Host-docvault" if _settings().secure else "docvault"


def device_cookie() -> str:
    return "__Host-docvault_device" if _settings().secure else "docvault_device"


def _token_of(asked: Request) -> tuple[str | None, bool]:
    """Return the token of a request, and whether a cookie brought it; a bearer token goes first."""
    given = asked.authorization
    if given is not None:
        return (given.token if given.type == "bearer" else None), False
    return asked.cookies.get(token_cookie()), True


def _is_quiet(asked: Request) -> bool:
    """Tell whether a script only asks for a fresh token, which is no sign of a person's life."""
    return asked.endpoint == "web.session" and "quiet" in asked.args


def _load_user(asked: Request) -> CurrentUser | None:
    token, by_cookie = _token_of(asked)
    if not token or "identity_failed" in g:
        return None
    try:
        account = _identify(asked, token)
    except LoginRequired:
        return None
    except VaultError:
        g.identity_failed = True  # the page that says so asks once more, and must not fail again
        raise
    return CurrentUser(account, by_cookie=by_cookie)


def _identify(asked: Request, token: str) -> UnlockedAccount:
    """Recognise the bearer; while a locked database keeps his sign of life unwritten, who only reads is let in."""
    sessions = services().sessions
    try:
        return sessions.identify(token, alive=not _is_quiet(asked))
    except Busy:
        if asked.method not in SAFE_METHODS:
            raise
        return sessions.identify(token, alive=False)


def brought() -> dict[str, Any]:
    """Return what a login attempt brings besides name and passphrase: address, device cookie, present token."""
    return {
        "address": request.remote_addr or "unknown",
        "device": request.cookies.get(device_cookie()),
        "token": _token_of(request)[0],
    }


def safe_next(target: str | None) -> str | None:
    """Return a redirect target when it is a path of this server, else ``None``.

    One leading slash, no second slash or backslash after it, no control character anywhere: what browsers would
    otherwise follow to another host.
    """
    if not target or not target.startswith("/") or target[1:2] in {"/", "\\"}:
        return None
    if any(ord(character) < 33 or ord(character) == 127 or character == "\\" for character in target):
        return None
    return target


def _set_cookie(response: BaseResponse, name: str, value: str, max_age: int | None = None) -> None:
    response.set_cookie(
        name, value, max_age=max_age, httponly=True, secure=_settings().secure, samesite="Lax", path="/"
    )


def log_in_response(logged_in: LoggedIn, target: str) -> BaseResponse:
    """Redirect a browser that has just logged in, with its two cookies; the form's session begins anew."""
    session.clear()
    response = redirect(target, 303)
    _set_cookie(response, token_cookie(), logged_in.token)
    _set_cookie(response, device_cookie(), logged_in.device, DEVICE_SECONDS)
    g.token_set = True
    return response


def log_out_response() -> BaseResponse:
    """Redirect a browser to the login page; what it kept of the pages is cleared."""
    session.clear()
    response = redirect(url_for("web.login"), 303)
    response.delete_cookie(token_cookie(), path="/", secure=_settings().secure, httponly=True, samesite="Lax")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    g.token_set = True
    return response


def check_csrf(token: str | None = None) -> None:
    """Check the CSRF token of a change that a cookie authorises; a bearer token needs none.

    Raises ``BadInput``. The token comes from the form field that the caller has read, or from ``X-CSRFToken``.
    """
    if current_user.is_authenticated and not current_user.by_cookie:
        return
    _validate(token or request.headers.get("X-CSRFToken"))


def _validate(token: str | None) -> None:
    try:
        validate_csrf(token)
    except (CSRFError, WrongToken) as error:
        raise BadInput(
            "csrf_token", "This form is too old, or not from this vault. Reload the page."
        ) from error


def _check_origin() -> None:
    """Refuse a change whose Origin header names another site."""
    origin = request.headers.get("Origin")
    if request.method in SAFE_METHODS or origin is None:
        return
    own = {_settings().public_url, request.host_url.rstrip("/")}
    if origin not in own:
        raise Forbidden("This request comes from another site.")


def _renew(response: Response) -> Response:
    """Give a browser a fresh token when the present one is not quite fresh, so that a page lasts what it says."""
    if "token_set" not in g and _is_worn():
        _set_cookie(response, token_cookie(), services().sessions.renew(current_user.account))
    return response


def _is_worn() -> bool:
    if "_login_user" not in g or not current_user.is_authenticated or not current_user.by_cookie:
        return False
    return bool(services().sessions.is_worn(_token_of(request)[0] or ""))


def register(app: Flask) -> None:
    """Bind the login manager, the id converter and the checks that every request passes."""
    app.url_map.converters["id"] = IdConverter
    login_manager.session_protection = None
    login_manager.request_loader(_load_user)
    app.before_request(_check_origin)
    app.after_request(_renew)
