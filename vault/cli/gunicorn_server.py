"""gunicorn with what a vault needs: socket timeouts, long reloads, quick stops, sweep and anchor beside requests."""

from __future__ import annotations

import errno
import gc
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers import gthread

from vault.app import configure_logging, create_app
from vault.config import Settings
from vault.errors import VaultError
from vault.services.sweep import new_holder
from vault.wiring import services

SOCKET_SECONDS = 60
PATIENCE_SECONDS = 30
SLOWEST_BYTES = 512
CONNECTIONS = 1000
STOP_SECONDS = 25
RELOAD_SECONDS = 3600
SWEEP_LOOK_SECONDS = 30
ANCHOR_LOOK_SECONDS = 3

log = logging.getLogger("vault.serve")


class Stopping(Arbiter):
    """Let a reload's old workers finish within an hour, but a stop within half a minute."""

    def stop(self, graceful: bool = True) -> None:
        self.cfg.set("graceful_timeout", STOP_SECONDS)
        super().stop(graceful)


class TooSlow(ConnectionResetError):
    """The client takes longer than anybody is waited for; gunicorn closes the connection without a word."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client is too slow")


class PacedSocket(socket.socket):
    """A client's socket that ends a request for which its client was waited for too long (F26).

    Only the time spent waiting for him counts: 30 seconds, and a second more for each 512 bytes that have passed.
    """

    _waited = 0.0
    _passed = 0

    def begin(self) -> None:
        """Begin to count for a new request."""
        self._waited, self._passed = 0.0, 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        began = time.monotonic()
        data = super().recv(size, flags)
        self._count(began, len(data))
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        left = memoryview(data).cast("B")
        while left:
            began = time.monotonic()
            sent = self.send(left, flags)
            self._count(began, sent)
            left = left[sent:]

    def _count(self, began: float, passed: int) -> None:
        self._waited += time.monotonic() - began
        self._passed += passed
        if self._waited > PATIENCE_SECONDS + self._passed / SLOWEST_BYTES:
            raise TooSlow


class TimedConnection(gthread.TConn):
    """A connection whose reads and writes end: gthread itself waits for ever for a started request."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, PacedSocket(fileno=sock.detach()), client, server)

    def close(self, graceful: bool = False) -> None:
        """Close once; the second call, of the worker's main thread, finds nothing to wait for."""
        if self.sock.fileno() >= 0:
            super().close(graceful)

    def init(self) -> None:
        first = not self.initialized
        super().init()
        if first:
            span = struct.pack("ll", SOCKET_SECONDS, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)


class Worker(gthread.ThreadWorker):
    """A worker with a thread for each connection whose client is waited for, so that none waits for another's.

    Idle connections need none. How many transfers run at once, each with its buffers, is for ``http.transfers``.
    """

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.cfg.worker_connections)

    def handle(self, conn: TimedConnection) -> Any:
        conn.sock.begin()
        keep = super().handle(conn)
        if keep is False:
            # The main thread would wait up to two seconds for the client to close, and all others with it.
            conn.close(graceful=True)
        return keep


class RootLogger(Logger):
    """Hand gunicorn's own lines to the root logger, which writes JSON."""

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Leave out what a malformed request said, and from where: log lines hold ids, never what people send."""
        if msg.startswith("Invalid request"):
            msg, args = "a malformed request was refused", ()
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Leave out the address that was asked for: its query may hold a name."""
        if msg.startswith("Error handling request"):
            msg, args = "a request failed outside of the application", ()
        super().exception(msg, *args, **kwargs)

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True


class Server(BaseApplication):
    """The vault under gunicorn; the application is made in each worker, after the fork."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        settings = self.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        bind = [f"{host}:{settings.port}", *filter(None, [settings.metrics_address])]
        options: dict[str, Any] = {
            "bind": bind,
            "workers": settings.workers,
            "threads": settings.threads,
            "worker_class": Worker,
            "worker_connections": CONNECTIONS,
            "sendfile": False,
            "timeout": 120,
            "graceful_timeout": RELOAD_SECONDS,
            "keepalive": 15,
            "control_socket_disable": True,
            "accesslog": None,
            "errorlog": "-",
            "logger_class": RootLogger,
            "loglevel": settings.log_level.lower(),
            "limit_request_line": 8190,
            "limit_request_field_size": 32768,  # a joined upload names up to 20 addresses with their tokens
            "forwarded_allow_ips": "127.0.0.1,::1",
            "proc_name": "docvault",
            "post_fork": _post_fork,
            "post_worker_init": _post_worker_init,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return create_app(self.settings)

    def run(self) -> None:
        Stopping(self).run()


def _post_fork(arbiter: Any, worker: Any) -> None:
    gthread.TConn = TimedConnection


def _post_worker_init(worker: Any) -> None:
    threading.Thread(target=_sweep_hourly, args=(worker.wsgi,), name="sweep", daemon=True).start()
    if worker.wsgi.extensions["docvault"].halt.anchor is not None:
        threading.Thread(target=_keep_anchor, args=(worker.wsgi,), name="anchor", daemon=True).start()


def _sweep_hourly(app: Any) -> None:
    """Sweep once an hour, and go on with a broken off rotation, in whichever worker holds the lease."""
    holder, pause = new_holder(), threading.Event()
    while not pause.wait(SWEEP_LOOK_SECONDS):
        _try_round(app, partial(_sweep, app, holder), "the sweep did not run")


def _sweep(app: Any, holder: bytes) -> None:
    sweep = services().sweep
    if sweep.take_lease(holder):
        try:
            sweep.run(holder)
            sweep.note_swept()
        finally:
            _try_round(app, lambda: services().masterkey.go_on(), "the rotation did not go on")


def _keep_anchor(app: Any) -> None:
    """Hold the audit chain against the anchor file of this machine, and note there how far it has come."""
    pause = threading.Event()
    while True:
        _try_round(app, lambda: services().chain.keep_anchor(), "the anchor was not kept")
        pause.wait(ANCHOR_LOOK_SECONDS)


def _try_round(app: Any, work: Callable[[], object], failed: str) -> None:
    """Do one round of background work; whatever goes wrong is logged, and the next round comes all the same."""
    try:
        with app.app_context():
            work()
    except VaultError as error:
        log.error("%s: %s", failed, error)
    except Exception:
        # A thread that ends is missed by nobody: expired uploads would stay, the anchor would stand still.
        log.exception(failed)


def run(settings: Settings) -> None:
    """Serve until told to stop; what is in memory by now stays shared with the workers."""
    configure_logging(settings.log_level)
    gc.collect()
    gc.freeze()
    Server(settings).run()
