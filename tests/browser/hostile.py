"""What an attacker brings: files that run where a browser shows them, and a web site of his own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.servers.processes import LOOPBACK

BEACON = "http://127.0.0.1:9/ran"
SCRIPT = f"document.title='ran';fetch('{BEACON}').catch(()=>0);top.ranInTheVault=1"

PDF = (
    b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.alert('ran');"
    b"app.launchURL('http://127.0.0.1:9/ran'))>>>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/AA<</O<</S/URI/URI(http://127.0.0.1:9/ran)>>>>>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)
FILES: dict[str, bytes] = {
    "page.html": f"<!doctype html><title>quiet</title><script>{SCRIPT}</script>".encode(),
    "no-name-of-its-own": f'<html><body onload="{SCRIPT}"><img src=x onerror="{SCRIPT}">'.encode(),
    "picture.svg": (
        f'<svg xmlns="http://www.w3.org/2000/svg" onload="{SCRIPT}"><script>{SCRIPT}</script></svg>'
    ).encode(),
    "strict.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><script>{SCRIPT}</script></html>'.encode(),
    "styled.xml": (
        b'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="http://127.0.0.1:9/ran"?>'
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "http://127.0.0.1:9/ran">]><r>&x;</r>'
    ),
    "form.pdf": PDF,
    "page.pdf.html": PDF + f"<script>{SCRIPT}</script>".encode(),
    "polyglot.gif": b"GIF89a/*" + bytes(8) + f"*/=1;{SCRIPT};<script>{SCRIPT}</script>".encode(),
    "script.js": SCRIPT.encode(),
    "refresh.htm": f'<meta http-equiv="refresh" content="0;url={BEACON}"><base href="{BEACON}">'.encode(),
    "archive.mht": (
        b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<script>" + SCRIPT.encode() + b"</script>"
    ),
    "utf-7.txt": b"+ADw-script+AD4-document.title='ran'+ADw-/script+AD4-",
}


@dataclass
class ForeignSite:
    """An attacker's site; ``asked`` are the paths that browsers asked it for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def foreign_site(pages: dict[str, str]) -> Iterator[ForeignSite]:
    """Serve an attacker's pages on another port: another origin, but the same site, so that cookies are sent along."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = pages.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield ForeignSite(f"http://{LOOPBACK}:{server.server_port}", asked)
        server.shutdown()
        thread.join()
