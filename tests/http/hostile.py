"""Files and names that attack whoever opens or lists them. Written for these tests; none of them does harm by itself.

Each file that could run calls ``CANARY``: a script that ran has set the title of a page or asked for an address.
"""

from __future__ import annotations

import gzip

CANARY = "document.title='ran';fetch('/canary')"
SCRIPT = f"<script>{CANARY}</script>"
SVG = "http://www.w3.org/2000/svg"

FILES: dict[str, tuple[str, bytes]] = {
    "page.html": ("text/html", f"<!doctype html><html><body>{SCRIPT}</body></html>".encode()),
    "page.htm": ("text/html; charset=utf-7", b"+ADw-script+AD4-document.title='ran'+ADw-/script+AD4-"),
    "page.xhtml": ("application/xhtml+xml", f'<html xmlns="http://www.w3.org/1999/xhtml">{SCRIPT}</html>'.encode()),
    "image.svg": ("image/svg+xml", f'<svg xmlns="{SVG}" onload="{CANARY}">{SCRIPT}</svg>'.encode()),
    "image.svgz": ("image/svg+xml", gzip.compress(b"<svg onload='document.title=1'/>", mtime=0)),
    "feed.xml": ("text/xml", f'<x:script xmlns:x="http://www.w3.org/1999/xhtml">{CANARY}</x:script>'.encode()),
    "style.xml": ("application/xml", b'<?xml-stylesheet type="text/xsl" href="style.xsl"?><a/>'),
    "style.xsl": ("application/xslt+xml", f"<html xmlns:xsl='http://www.w3.org/1999/XSL/Transform'>{SCRIPT}</html>".encode()),
    "entity.xml": ("text/xml", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
    "laughs.xml": ("text/xml", b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'),
    "form.pdf": ("application/pdf", b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>endobj"),
    "page.pdf": ("application/pdf", f"<html>{SCRIPT}</html>".encode()),
    "polyglot.gif": ("image/gif", f"GIF89a/*{SCRIPT}*/=1;{CANARY}".encode()),
    "polyglot.jpg": ("image/jpeg", b"\xff\xd8\xff\xe0*/=1;document.title='ran'/*" + SCRIPT.encode()),
    "polyglot.png": ("image/png", b"\x89PNG\r\n\x1a\n" + SCRIPT.encode()),
    "script.js": ("text/javascript", CANARY.encode()),
    "module.mjs": ("text/javascript", f"export default {CANARY}".encode()),
    "worker.js": ("application/javascript", b"self.addEventListener('fetch',e=>e.respondWith(new Response('ran')))"),
    "style.css": ("text/css", b"body{background:url(/canary)}"),
    "page.mht": ("multipart/related", b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" + SCRIPT.encode()),
    "mail.eml": ("message/rfc822", b"Content-Type: text/html\r\n\r\n" + SCRIPT.encode()),
    "page.shtml": ("text/html", b'<!--#exec cmd="id" -->' + SCRIPT.encode()),
    "page.php": ("application/x-httpd-php", b"<?php phpinfo(); ?>" + SCRIPT.encode()),
    "old.swf": ("application/x-shockwave-flash", b"FWS\x06" + b"\x00" * 50),
    "app.webmanifest": ("application/manifest+json", b'{"start_url":"javascript:1"}'),
    "table.csv": ("text/csv", b'=cmd|"/c calc"!A1,@SUM(1),+1,-1\r\n'),
    "note.txt": ("text/plain", SCRIPT.encode()),
    "unknown": ("", SCRIPT.encode()),
    "wrong.bin": ("text/html\r\nX-Injected: 1", SCRIPT.encode()),
    "bomb.gz": ("application/gzip", gzip.compress(b"\x00" * 1_000_000, mtime=0)),
    "frame.html": ("text/html", b"<meta http-equiv=refresh content='0;url=//evil.example'><iframe src=//evil.example>"),
    "bom.html": ("text/html", b"\xfe\xff" + SCRIPT.encode("utf-16-be")),
}  # fmt: skip
"""About thirty files, by name: the type that the sender claims, and the content."""

KEPT_NAMES = [
    "plain.txt", "with space.txt", "  inner  space ", "quote\".txt", "apostrophe'.txt", "back\\slash.txt",
    "semi;colon.txt", "comma,comma.txt", "percent%41.txt", "%2e%2e%2f", "plus+.txt", "equals=.txt", "&amp;.html",
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "{{7*7}}", "${7*7}", "#{7*7}", "%(name)s",
    "'; DROP TABLE document;--", "=cmd|'/c calc'!A1", "@SUM(1)", "-rf", "--help", "~", "~root", "$HOME", "`id`",
    "$(id)", "|id", ";id", "*", "?", "C:",
    "CON", "NUL", "aux.txt", "COM1", "LPT1.txt", "desktop.ini", ".htaccess", ".env",
    "...", "....", "name.", ".hidden", "trailing.txt.", "a" * 255, "ä" * 127, "汉" * 85, "😀" * 63, "Ω≈ç√∫˜µ≤≥÷",
    "ﷺ", "זה שם.pdf", "اسم.pdf", "\u202egnp.exe", "\u2066x\u2069", "\u200bzero", "e\u0301.txt", "\ufeffbom",
    "Ａｆｕｌｌ", "田中さん", "И́мя", "👩‍👩‍👧", "🏳️‍🌈", "\u2028line",
    "filename*=UTF-8''x", "a\"; filename=\"b.exe", "=?utf-8?q?x?=",
    "null", "undefined", "None", "NaN", "true", "0", "-1", "1e309", "0x0", "００", "￼",
]  # fmt: skip
"""Names that are kept as they are, but for NFC and the space around them."""

REFUSED_NAMES = [
    "a\r\nb", "a\nX-Injected: 1", "a\rb", "a\x00b", "\x00", "a\x1b[31m", "a\x7f", "a\x85b", "a\tb", ".", "..",
    "a" * 256, "ä" * 128, "汉" * 86, "😀" * 64, "a" * 5000,
]  # fmt: skip
"""Names that nothing can have: control characters, the two folders, more than 255 bytes."""

PATHS = [
    ("../../etc/passwd", "passwd"), ("..\\..\\windows\\win.ini", "win.ini"), ("/etc/shadow", "shadow"),
    ("C:\\Users\\a\\b.txt", "b.txt"), ("\\\\server\\share\\c.txt", "c.txt"), ("folder/file.txt", "file.txt"),
    ("a/../b", "b"), ("....//....//etc", "etc"), ("./x", "x"), ("file:///etc/hosts", "hosts"),
]  # fmt: skip
"""What clients send as a name, and the last part of it, which is the name."""
