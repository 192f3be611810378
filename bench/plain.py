"""What the vault is measured against: a Flask application that stores and sends files and does nothing else.

No login, no database, no encryption, no fsync; under the same gunicorn settings as the vault.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from gunicorn.app.base import BaseApplication

READ_BYTES = 2**20


def make_app(folder: Path) -> Flask:
    app = Flask(__name__)

    @app.post("/<name>")
    def receive(name: str) -> tuple[str, int]:
        with open(folder / name, "wb") as file:
            while piece := request.stream.read(READ_BYTES):
                file.write(piece)
        return "", 201

    @app.get("/<name>")
    def send(name: str) -> Response:
        def pieces() -> Iterator[bytes]:
            with open(folder / name, "rb", buffering=0) as file:
                while piece := file.read(READ_BYTES):
                    yield piece

        response = Response(pieces(), mimetype="application/octet-stream", direct_passthrough=True)
        response.content_length = (folder / name).stat().st_size
        return response

    return app


class Plain(BaseApplication):
    def __init__(self, port: int, folder: Path, workers: int, threads: int) -> None:
        self.options = {
            "bind": f"127.0.0.1:{port}", "workers": workers, "threads": threads, "worker_class": "gthread",
            "keepalive": 15, "timeout": 120, "control_socket_disable": True, "accesslog": None, "loglevel": "warning",
        }  # fmt: skip
        self.folder = folder
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return make_app(self.folder)


if __name__ == "__main__":
    port, folder, workers, threads = sys.argv[1:]
    Plain(int(port), Path(folder), int(workers), int(threads)).run()
