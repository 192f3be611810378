"""Run one act on a vault and be killed (SIGKILL) at a given moment of it: ``python -m tests.killed``.

Reads the instance, a bearer token, the act, the moment and its number from standard input, as JSON. Ends with 0 only
when the moment never came.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event

from tests.cast import reader, settings_for
from vault.app import create_app
from vault.extensions import db
from vault.services.unlocked import UnlockedAccount
from vault.wiring import Services, services


class Moments:
    """Counts the moments of one kind, and kills this process at the one that was chosen."""

    def __init__(self, moment: str, number: int) -> None:
        self.moment, self.left = moment, number

    def reached(self, moment: str) -> None:
        if moment == self.moment:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class WatchedStore:
    """A blob store that tells of each put and delete, before and after."""

    def __init__(self, store: Any, moments: Moments) -> None:
        self._store, self._moments = store, moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_new(self, name: str, data: bytes) -> None:
        self._moments.reached("before put")
        self._store.put_new(name, data)
        self._moments.reached("after put")

    def delete(self, names: Any) -> None:
        self._moments.reached("before destroying")
        self._store.delete(names)
        self._moments.reached("after destroying")


def upload(bundle: Services, account: UnlockedAccount) -> None:
    content = sys.stdin.buffer.read()
    bundle.uploads.receive(account, reader(content), name="late.bin", length=len(content))


def delete(bundle: Services, account: UnlockedAccount) -> None:
    (document,) = [row.id for row in bundle.lists.page(account).items]
    bundle.documents.delete(account, [document])
    bundle.sweep.run()


ACTS: dict[str, Callable[[Services, UnlockedAccount], None]] = {"upload": upload, "delete": delete}


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    moments = Moments(order["moment"], order["number"])
    app = create_app(settings_for(Path(order["instance"]), part_size=32768))
    wired = app.extensions["docvault"]
    wired.store = WatchedStore(wired.store, moments)
    with app.app_context():
        bundle = services()
        account = bundle.sessions.identify(order["token"])
        event.listen(db.session, "before_commit", lambda session: moments.reached("before commit"))
        event.listen(db.session, "after_commit", lambda session: moments.reached("after commit"))
        ACTS[order["act"]](bundle, account)


if __name__ == "__main__":
    main()
