"""A client of the JSON API: logs in, keeps its token fresh, asks for documents and their readers.

Foreign errors end here: what the network does is ``Unreachable``, what the server says is ``Refused``. Neither holds a
token, an upload URL or a passphrase.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http import HTTPStatus
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from vault import __version__
from vault.agent.configuration import Configuration
from vault.errors import BadInput, LoginRequired, Misconfigured, NotFound, VaultError

SESSION_FILE = "session"
API = "/api/v1"
TIMEOUT = httpx.Timeout(120, connect=15)
RENEW_AGAIN_SECONDS = 20
LARGEST_PAGE = 1000
DOCUMENT_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
NO_VAULT = "The server's answer is not one of a vault. Is the address right?"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}", re.ASCII)

# httpx tells each URL at level INFO, and an upload's URL is half a secret.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Unreachable(VaultError):
    """The server does not answer, or the connection broke: the same request may succeed a little later."""


class Refused(VaultError):
    """The server answered no; ``kind`` is the class of its error, where it told one."""

    def __init__(self, text: str, status: int, kind: str = "", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


class LoggedOut(LoginRequired):
    text = "Your session has ended. Log in again: docvault login"


def visible(text: object) -> str:
    """Return a text for a terminal: what would steer it, or turn the direction of what follows, is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def check_server(url: str) -> str:
    """Return the server's address without a slash at its end; raises ``BadInput``.

    A token never travels in the clear: plain http is for this machine alone.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise BadInput("url", "This is not the address of a server.") from None
    if parts.scheme not in {"http", "https"} or not host or not url.strip().isprintable():
        raise BadInput("url", "Give the server's address like https://vault.example.org")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise BadInput("url", "Give the address alone: without a name, a passphrase or a query in it.")
    if parts.scheme == "http" and not is_loopback(host):
        raise BadInput("url", "Plain http would show your passphrase to the network: use https.")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Tell whether a host of a URL is this machine; of names only ``localhost``, whatever others resolve to."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Login:
    """Who is logged in where. ``number`` tells one login from the next, through all renewals of its token."""

    server: str
    username: str
    token: str = field(repr=False)
    expires_in: float
    issued_at: float
    number: str

    @property
    def seconds_to_renewal(self) -> float:
        """How long the token is in its first half; 0 where the clock was moved, too."""
        age = time.time() - self.issued_at
        return max(0.0, self.expires_in / 2 - age) if age >= 0 else 0.0


def stored_login(configuration: Configuration) -> Login | None:
    """Return the login that this user's folder holds."""
    try:
        return Login(**configuration.read(SESSION_FILE))
    except TypeError:
        return None


class Client:
    """A logged-in user of one server. Threads may share it."""

    def __init__(self, configuration: Configuration, login: Login) -> None:
        self.configuration = configuration
        self._login = login
        self._renewing = threading.Lock()
        self._http = _http_client(login.server)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @classmethod
    def of_stored_login(cls, configuration: Configuration) -> Client:
        """Go on with the login that is stored; raises ``LoggedOut`` where there is none."""
        login = stored_login(configuration)
        if login is None:
            raise LoggedOut("You are not logged in. Log in first: docvault login")
        return cls(configuration, login)

    @property
    def server(self) -> str:
        return self._login.server

    @property
    def username(self) -> str:
        return self._login.username

    # Asking

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        timeout: httpx.Timeout | None = None,
        **content: Any,
    ) -> httpx.Response:
        """Send one request with the present token and return the answer, whatever its status.

        ``path`` begins with a slash and is the whole path on the server. With ``stream`` the caller closes the answer.
        """
        sent = {"Authorization": f"Bearer {self._login.token}", **(headers or {})}
        with broken_connections(self.server):
            request = self._http.build_request(
                method, _origin(self.server) + path, headers=sent, timeout=timeout or TIMEOUT, **content
            )
            return self._http.send(request, stream=stream)

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request of the API, ``path`` without its first part; raises unless the answer is a good one."""
        self.renew_when_due()
        whole = self.api(path)
        answer = self.send(method, whole, **content)
        if answer.status_code == HTTPStatus.UNAUTHORIZED and self.take_up_newer_login():
            answer = self.send(method, whole, **content)
        return good(answer)

    def api(self, path: str) -> str:
        """Return the whole path of something in the API."""
        return f"{urlsplit(self.server).path}{API}{path}"

    # The session

    def renew_when_due(self) -> None:
        """Get the next token once half the life of this one is over; a failure waits for the request to come."""
        with self._renewing:
            if self._login.seconds_to_renewal <= 0:
                self._try_to_renew()

    def renew(self) -> None:
        """Get the next token now: it also has the upload keys of another day."""
        with self._renewing:
            self._try_to_renew()

    def _try_to_renew(self) -> None:
        try:
            self._renew()
        except (Unreachable, Refused, LoggedOut):
            return

    def _renew(self) -> None:
        answer = json_of(good(self.send("POST", self.api("/token/renew"))))
        self._login = replace(self._login, **_token_in(answer))
        stored = stored_login(self.configuration)
        if stored is not None and stored.number == self._login.number:
            self.configuration.write(SESSION_FILE, asdict(self._login))

    def take_up_newer_login(self) -> bool:
        """Use the token that another `docvault` of this user has stored meanwhile; tell whether there is one."""
        stored = stored_login(self.configuration)
        is_mine = stored is not None and (stored.server, stored.username) == (self.server, self.username)
        if stored is None or not is_mine or stored.token == self._login.token:
            return False
        self._login = stored
        return True

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renew the token beside what runs inside: a transfer may take longer than a session may idle."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(max(self._login.seconds_to_renewal, 0.05)):
                self.renew_when_due()
                if self._login.seconds_to_renewal <= 0 and ended.wait(RENEW_AGAIN_SECONDS):
                    break

        beside = threading.Thread(target=renew, name="renewal", daemon=True)
        beside.start()
        try:
            yield
        finally:
            ended.set()
            beside.join()

    def log_out(self) -> None:
        """End the session; the stored login goes in any case, also when the server knows it no more."""
        try:
            answer = self.send("DELETE", self.api("/token"))
        except Unreachable as error:
            text = f"{error} Your login was removed here; on the server it ends by itself when it has idled."
            raise Unreachable(text) from error
        finally:
            self.configuration.remove(SESSION_FILE)
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            good(answer)

    # Documents

    def documents(
        self, *, scope: str = "all", search: str | None = None, sort: str = "-date"
    ) -> Iterator[dict[str, Any]]:
        """Yield every document of a list, page after page."""
        asked = {"scope": scope, "sort": sort, "limit": str(LARGEST_PAGE)} | ({"q": search} if search else {})
        while True:
            page = json_of(self.ask("GET", "/documents", params=asked))
            yield from (document_of(row) for row in items_of(page))
            if not page.get("next"):
                return
            asked["after"] = page["next"]

    def find(self, wanted: str, scope: str = "all") -> dict[str, Any]:
        """Return the document of an id, or of an exact name (in a folder: ``folder/name``).

        The name is looked for here, in the whole list: a query with it could reach a proxy's log. Raises ``NotFound``,
        or ``BadInput`` when several have this name.
        """
        if DOCUMENT_ID.fullmatch(wanted):
            return self.document(wanted)
        name = unicodedata.normalize("NFC", wanted).strip()
        found = [row for row in self.documents(scope=scope) if name in {row["name"], whole_name(row)}]
        if not found:
            raise NotFound(f"There is no document named {visible(wanted)}.")
        if len(found) > 1:
            ids = ", ".join(row["id"] for row in found)
            raise BadInput("name", f"Several documents are named {visible(wanted)}: {ids}. Give an id.")
        return found[0]

    def document(self, document: str) -> dict[str, Any]:
        return document_of(json_of(self.ask("GET", f"/documents/{checked_id(document)}")))

    def delete(self, document: str) -> None:
        self.ask("DELETE", f"/documents/{checked_id(document)}")

    def readers(self, document: str) -> list[dict[str, Any]]:
        """Return everybody who may read, page after page."""
        found: list[dict[str, Any]] = []
        asked = {"limit": str(LARGEST_PAGE)}
        while True:
            page = json_of(self.ask("GET", f"/documents/{checked_id(document)}/shares", params=asked))
            found += items_of(page)
            if not page.get("next"):
                return found
            asked["after"] = page["next"]

    def share(self, document: str, usernames: list[str], until: str | None = None) -> None:
        body: dict[str, Any] = {"usernames": usernames} | ({"expires_at": until} if until else {})
        self.ask("POST", f"/documents/{checked_id(document)}/shares", json=body)

    def revoke(
        self, document: str, username: str, *, rekey: bool = False, at_once: bool = False
    ) -> dict[str, Any] | None:
        """End a share, with ``rekey`` under new keys; return the work that makes them where ``go_on`` must."""
        asked = {"rekey": "true", "at_once": str(at_once).lower()} if rekey else {}
        path = f"/documents/{checked_id(document)}/shares/{in_path(username)}"
        answer = self.ask("DELETE", path, params=asked)
        return json_of(answer) if answer.status_code == HTTPStatus.ACCEPTED else None

    def rekey(self, document: str, *, at_once: bool = False) -> dict[str, Any] | None:
        """Have a document written anew under new keys; return the work where ``go_on`` must."""
        answer = self.ask("POST", f"/documents/{checked_id(document)}/rekey", json={"at_once": at_once})
        return json_of(answer) if answer.status_code == HTTPStatus.ACCEPTED else None

    def go_on(self, work: object) -> dict[str, Any]:
        """Let work that takes long go on for two seconds; return where it stands then."""
        return json_of(self.ask("POST", f"/me/work/{checked_id(work)}"))


def log_in(configuration: Configuration, server: str, username: str, passphrase: str) -> Login:
    """Log in and store the token; raises ``Refused`` when name and passphrase do not fit together."""
    server = check_server(server)
    credentials = {"username": username, "passphrase": passphrase}
    with _http_client(server) as client, broken_connections(server):
        answer = client.post(f"{server}{API}/token", json=credentials, timeout=TIMEOUT)
    told = json_of(good(answer, logging_in=True))
    login = Login(
        server=server,
        username=str(told.get("username", username)),
        number=secrets.token_hex(16),
        **_token_in(told),
    )
    configuration.write(SESSION_FILE, asdict(login))
    return login


def whole_name(row: Mapping[str, Any]) -> str:
    """Return the name of a document with its folders."""
    return "/".join((*row["path"], row["name"]))


def checked_id(text: object) -> str:
    """Return an id that may stand in a path; raises ``BadInput`` for anything else, whoever gave it."""
    if not isinstance(text, str) or not DOCUMENT_ID.fullmatch(text):
        raise BadInput("id", "An id has 32 hexadecimal digits.")
    return text


def in_path(username: str) -> str:
    """Return a user name as one part of a path; ``..`` would make the path that of something else."""
    if username.strip() in {"", ".", ".."}:
        raise BadInput("username", "There is no user of this name.")
    return quote(username.strip(), safe="")


def _http_client(server: str) -> httpx.Client:
    """Make the HTTP client. Plain http stays on this machine, so no proxy of the environment gets to see it."""
    trusts = server.startswith("https:")
    agent = {"User-Agent": f"docvault/{__version__}", "Accept-Encoding": "identity"}
    try:
        return httpx.Client(
            headers=agent, timeout=TIMEOUT, trust_env=trusts, verify=True, follow_redirects=False
        )
    except (ValueError, ImportError, OSError):
        text = "The settings for proxies or certificates in the environment cannot be used."
        raise Misconfigured(text) from None


def _origin(server: str) -> str:
    parts = urlsplit(server)
    return f"{parts.scheme}://{parts.netloc}"


@contextmanager
def broken_connections(server: str) -> Iterator[None]:
    """Translate what the network does; the text names the server and no more of the request."""
    try:
        yield
    except httpx.ConnectError as error:
        raise Unreachable(f"{server} does not answer ({visible(error)}).") from None
    except httpx.TimeoutException:
        raise Unreachable(f"{server} took too long to answer.") from None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
        raise Unreachable(f"The connection to {server} broke off ({type(error).__name__}).") from None


def good(answer: httpx.Response, *, logging_in: bool = False) -> httpx.Response:
    """Return an answer whose status is a good one; raises ``LoggedOut`` or ``Refused`` with the server's own words."""
    if answer.is_success:
        return answer
    if answer.status_code == HTTPStatus.UNAUTHORIZED and not logging_in:
        raise LoggedOut
    raise refusal(answer)


def refusal(answer: httpx.Response) -> Refused:
    """Make the error of an answer: its problem's ``detail``, or the status where it is no answer of a vault."""
    problem: Any = {}
    if answer.headers.get("Content-Type", "").startswith("application/problem+json"):
        try:
            with broken_connections("the server"):
                problem = answer.json() if answer.is_closed else _whole(answer)
        except (ValueError, Unreachable):
            problem = {}
    problem = problem if isinstance(problem, dict) else {}
    reason = f"{answer.status_code} {visible(answer.reason_phrase)}".strip()
    text = problem.get("detail") or f"The server answered {reason}, which is nothing that a vault says here."
    kind = str(problem.get("type", "")).rpartition(":")[2]
    return Refused(visible(text)[:1000], answer.status_code, kind, retry_after(answer))


def _whole(answer: httpx.Response) -> Any:
    answer.read()
    return answer.json()


def retry_after(answer: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait, at most a minute; a date is passed over."""
    text = answer.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isascii() and text.isdecimal() else None


def items_of(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of a list; raises ``Refused`` where there are none, or other things than objects."""
    items = page.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Refused(NO_VAULT, HTTPStatus.OK)
    return items


def document_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return what the server tells of a document when it is such; raises ``Refused``."""
    path, size = row.get("path"), row.get("size")
    is_path = isinstance(path, list) and all(isinstance(folder, str) for folder in path)
    if not (isinstance(row.get("name"), str) and is_path and isinstance(size, int) and size >= 0):
        raise Refused(NO_VAULT, HTTPStatus.OK)
    checked_id(row.get("id"))
    return row


def json_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; raises ``Refused`` where it holds none."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(NO_VAULT, answer.status_code)
    return found


def _token_in(answer: Mapping[str, Any]) -> dict[str, Any]:
    token, seconds = answer.get("token"), answer.get("expires_in")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or not isinstance(seconds, int | float):
        raise Refused(NO_VAULT, HTTPStatus.OK)
    return {"token": token, "expires_in": seconds, "issued_at": time.time()}
