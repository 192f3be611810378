"""A running vault with people in it, and quick ways to bring it into the state that a test begins with."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx

from tests.servers.vault import VaultServer

OWNERS = ("alice", "bob", "charlie")
LARGEST = 3_000_000


class Site:
    """The server that most tests here share. Who does more than handle documents is somebody new."""

    def __init__(self, server: VaultServer, passphrases: dict[str, str]) -> None:
        self.server = server
        self.url = server.url
        self.passphrases = passphrases
        self._tokens: dict[str, str] = {}
        self._clients: dict[str, httpx.Client] = {}
        self._number = count(1)

    def token(self, name: str) -> str:
        """The token of a session of somebody, who logs in when it is asked for first."""
        if name not in self._tokens:
            self._tokens[name] = self.server.log_in(name, self.passphrases[name])
        return self._tokens[name]

    def api(self, name: str) -> httpx.Client:
        if name not in self._clients:
            self._clients[name] = self.server.client(self.token(name))
        return self._clients[name]

    def end_session(self, name: str) -> None:
        """End the session that ``token`` gave out; the next token is of another one."""
        self.api(name).delete("/token").raise_for_status()
        self._clients.pop(name).close()
        del self._tokens[name]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def newcomer(self, name: str = "nina") -> str:
        """Register somebody new; return the user name, which is the given one with a number."""
        name = f"{name}-{next(self._number)}"
        self.passphrases[name] = self.server.register(name)
        return name

    def upload(self, owner: str, name: str, content: bytes = b"hello", share: tuple[str, ...] = ()) -> str:
        """Store a document; return its id as addresses have it."""
        asked = {"name": name, "recipients": ",".join(share)}
        answer = self.api(owner).post("/documents", params=asked, content=content)
        return str(answer.raise_for_status().json()["id"])

    def upload_many(self, owner: str, files: dict[str, bytes]) -> None:
        """Store many documents by one form, the last one first in a list by date."""
        parts = [("file", (name, content)) for name, content in files.items()]
        self.api(owner).post("/documents", files=parts).raise_for_status()

    def documents(self, who: str, scope: str = "owned") -> list[dict[str, Any]]:
        answer = self.api(who).get("/documents", params={"scope": scope, "limit": 1000, "sort": "name"})
        return list(answer.raise_for_status().json()["items"])

    def names(self, who: str, scope: str = "owned") -> list[str]:
        return [document["name"] for document in self.documents(who, scope)]

    def readers(self, owner: str, document: str) -> dict[str, str | None]:
        """Who else may read a document, each with the end of the share."""
        answer = self.api(owner).get(f"/documents/{document}/shares").raise_for_status()
        return {item["username"]: item["expires_at"] for item in answer.json()["items"] if not item["owner"]}

    def content(self, who: str, document: str) -> bytes:
        return self.api(who).get(f"/documents/{document}/content").raise_for_status().content

    def tidy(self) -> None:
        """Let the cast delete what it owns and leave what others share with it: a test begins with empty lists."""
        for name in OWNERS:
            for scope, end in (("owned", ""), ("shared", "/shares/me")):
                for document in self.documents(name, scope):
                    self.api(name).delete(f"/documents/{document['id']}{end}").raise_for_status()
