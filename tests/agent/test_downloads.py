"""Fetching documents: whole or not at all, going on only with the same content, never outside of where it belongs."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import login_to
from tests.agent.death import Killed, killed_at
from tests.agent.pretence import Asked, Told, pretending
from tests.cast import Vault
from tests.servers.vault import VaultServer
from vault.agent.client import SESSION_FILE, Client, LoggedOut, Refused, Unreachable
from vault.agent.configuration import Configuration
from vault.agent.downloads import Damaged, Fetcher, InTheWay, Wished, file_name, part_of
from vault.errors import BadInput

Make = Callable[..., Client]
MIB = 1 << 20
CONTENT = os.urandom(3 * MIB + 12345)
DOCUMENT = "0" * 32
WISHED = Wished(DOCUMENT)


class Shelf:
    """Serves one content with ranges; ``cuts`` says for each answer to come after how many bytes it breaks off."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.etag = '"one"'
        self.cuts: list[int | None] = []
        self.faults: list[Told] = []
        self.sent = 0

    def __call__(self, asked: Asked) -> Told:
        if self.faults:
            return self.faults.pop(0)
        start = 0
        if "Range" in asked.headers and asked.headers.get("If-Range") == self.etag:
            (start,) = (int(n) for n in re.fullmatch(r"bytes=(\d+)-", asked.headers["Range"]).groups())  # type: ignore[union-attr]
        cut = self.cuts.pop(0) if self.cuts else None
        body = self.content[start:]
        self.sent += len(body[:cut])
        headers = {"ETag": self.etag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return Told(206 if start else 200, headers, body, cut)

    def change(self) -> None:
        self.content, self.etag = self.content[::-1] + b"!", '"two"'


def fetcher_for(client: Client, **given: Any) -> Fetcher:
    return Fetcher(client, **({"tries": 3, "first_pause": 0.01} | given))


def get_files(configuration: Configuration) -> list[Path]:
    return sorted(configuration.folder.glob("get-*"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "plums.odt"


def test_a_document_arrives_for_its_user_alone(client_of: Make, target: Path) -> None:
    before = os.umask(0)
    modes = []

    def moved(done: int) -> None:
        modes.append(part_of(target).stat().st_mode & 0o777)
        assert not target.exists(), "it has its name only when it is whole"

    try:
        with pretending(Shelf()) as server:
            client = client_of(server.url)
            assert fetcher_for(client).fetch(WISHED, target, moved=moved) == len(CONTENT)
    finally:
        os.umask(before)
    assert target.read_bytes() == CONTENT
    assert set(modes) == {0o600} and target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(target.parent) == [target.name]
    assert get_files(client.configuration) == []


@pytest.mark.parametrize("content", [b"", b"x"])
def test_the_smallest_ones(client_of: Make, target: Path, content: bytes) -> None:
    with pretending(Shelf(content)) as server:
        assert fetcher_for(client_of(server.url)).fetch(WISHED, target) == len(content)
    assert target.read_bytes() == content


def test_what_breaks_off_goes_on(client_of: Make, target: Path) -> None:
    shelf = Shelf()
    shelf.cuts = [0, MIB, 77, None]
    with pretending(shelf) as server:
        fetcher_for(client_of(server.url)).fetch(WISHED, target)
        ranges = [asked.headers.get("Range") for asked in server.asked]
    assert target.read_bytes() == CONTENT
    assert ranges == [None, None, f"bytes={MIB}-", f"bytes={MIB + 77}-"]
    assert shelf.sent == len(CONTENT), "no byte came twice"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(client_of: Make, target: Path, status: int) -> None:
    shelf = Shelf()
    shelf.cuts, shelf.faults = [MIB], [Told(status), Told(200, cut=-1)]
    with pretending(shelf) as server:
        fetcher_for(client_of(server.url)).fetch(WISHED, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_is_told_at_once(client_of: Make, target: Path, status: int) -> None:
    shelf = Shelf()
    shelf.faults = [Told.problem(status, "It is damaged.")]
    with pretending(shelf) as server:
        with pytest.raises(Refused, match="It is damaged"):
            fetcher_for(client_of(server.url)).fetch(WISHED, target)
        assert len(server.asked) == 1
    assert not target.exists()


def test_it_gives_up_after_so_many_tries(client_of: Make, target: Path) -> None:
    shelf = Shelf()
    shelf.cuts = [MIB, 0, 0, 0]
    with pretending(shelf) as server, pytest.raises(Unreachable):
        fetcher_for(client_of(server.url)).fetch(WISHED, target)
    assert not target.exists()


def test_a_killed_get_goes_on_and_its_folder_tells_no_name(client_of: Make, target: Path) -> None:
    shelf = Shelf()
    with pretending(shelf) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            fetcher_for(client).fetch(WISHED, target, moved=killed_at(MIB))
        part = part_of(target)
        have = part.stat().st_size
        assert MIB <= have < len(CONTENT) and part.read_bytes() == CONTENT[:have]
        (memory,) = get_files(client.configuration)
        assert memory.stat().st_mode & 0o777 == 0o600
        kept = b"".join(
            path.name.encode() + path.read_bytes() for path in client.configuration.folder.iterdir()
        )
        assert b"plums" not in kept and str(target.parent).encode() not in kept
        fetcher_for(client).fetch(WISHED, target)
        assert [asked.headers.get("Range") for asked in server.asked] == [None, f"bytes={have}-"]
    assert target.read_bytes() == CONTENT


def test_one_that_was_killed_before_its_last_step_asks_for_one_byte(client_of: Make, target: Path) -> None:
    shelf = Shelf()
    with pretending(shelf) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            fetcher_for(client).fetch(WISHED, target, moved=killed_at(len(CONTENT)))
        shelf.sent = 0
        fetcher_for(client).fetch(WISHED, target)
        assert shelf.sent == 1
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("at", [MIB, len(CONTENT)])
def test_another_content_is_never_mixed_with_what_is_there(client_of: Make, target: Path, at: int) -> None:
    shelf = Shelf()
    with pretending(shelf) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            fetcher_for(client).fetch(WISHED, target, moved=killed_at(at))
        shelf.change()
        shelf.cuts = [MIB, None]
        fetcher_for(client).fetch(WISHED, target)
    assert target.read_bytes() == shelf.content


def test_a_change_in_the_middle_begins_anew_in_a_file_and_ends_a_stream(
    client_of: Make, target: Path
) -> None:
    shelf = Shelf()

    def moved(done: int) -> None:
        if shelf.etag == '"one"':
            shelf.change()

    with pretending(shelf) as server:
        client = client_of(server.url)
        shelf.cuts = [MIB, None]
        fetcher_for(client).fetch(WISHED, target, moved=moved)
        assert target.read_bytes() == shelf.content
        shelf.etag, shelf.cuts = '"one"', [MIB, None]
        with pytest.raises(Refused, match="changed while"):
            fetcher_for(client).fetch_to(WISHED, io.BytesIO(), moved)


def test_a_weak_or_absent_etag_is_nothing_to_go_on_with(client_of: Make, target: Path) -> None:
    for etag in ('W/"one"', ""):
        shelf = Shelf()
        shelf.etag, shelf.cuts = etag, [MIB, None]
        with pretending(shelf) as server:
            fetcher_for(client_of(server.url)).fetch(WISHED, target, force=True)
            assert not any("Range" in asked.headers for asked in server.asked)
        assert target.read_bytes() == CONTENT


def test_a_stream_goes_on_too(client_of: Make) -> None:
    shelf = Shelf()
    shelf.cuts = [MIB, 0, MIB]
    sink = io.BytesIO()
    with pretending(shelf) as server:
        assert fetcher_for(client_of(server.url)).fetch_to(WISHED, sink) == len(CONTENT)
    assert sink.getvalue() == CONTENT


@pytest.mark.parametrize(
    "told",
    [
        Told(206, {"ETag": '"one"', "Content-Range": f"bytes 0-9/{len(CONTENT)}"}, b"x" * 10),
        Told(206, {"ETag": '"two"', "Content-Range": f"bytes {MIB}-{len(CONTENT) - 1}/{len(CONTENT)}"}, b"x"),
        Told(206, {"ETag": '"one"', "Content-Range": f"bytes {MIB}-{len(CONTENT)}/{len(CONTENT) + 1}"}, b"x"),
        Told(206, {"ETag": '"one"'}, b"x"),
        Told(204, {"ETag": '"one"'}),
        Told(200, {"ETag": '"one"', "Content-Encoding": "gzip"}, b"x"),
        Told(302, {"Location": "/"}),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(client_of: Make, target: Path, told: Told) -> None:
    shelf = Shelf()
    with pretending(shelf) as server:
        client = client_of(server.url)
        shelf.cuts = [MIB]
        server.answer = lambda asked: told if "Range" in asked.headers else shelf(asked)
        with pytest.raises(Refused):
            fetcher_for(client).fetch(WISHED, target)
    assert not target.exists()


def test_a_range_that_is_not_there_any_more_begins_anew(client_of: Make, target: Path) -> None:
    shelf = Shelf()
    with pretending(shelf) as server:
        shelf.cuts = [MIB]
        server.answer = lambda asked: Told(416) if "Range" in asked.headers else shelf(asked)
        fetcher_for(client_of(server.url)).fetch(WISHED, target)
    assert target.read_bytes() == CONTENT


def test_what_lies_in_the_part_is_compared_with_what_the_owner_stored(client_of: Make, target: Path) -> None:
    shelf = Shelf()
    wished = replace(WISHED, etag="one", sha256=hashlib.sha256(CONTENT).hexdigest())
    with pretending(shelf) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            fetcher_for(client).fetch(wished, target, moved=killed_at(MIB))
        with part_of(target).open("r+b") as part:
            part.write(b"changed meanwhile")
        with pytest.raises(Damaged):
            fetcher_for(client).fetch(wished, target)
        assert not target.exists()
        fetcher_for(client).fetch(wished, target)
        assert target.read_bytes() == CONTENT
        shelf.change()
        fetcher_for(client).fetch(wished, target, force=True)
    assert target.read_bytes() == shelf.content, "the digest is that of another version"


def test_an_ended_session_says_so_and_a_new_login_goes_on(client_of: Make, target: Path) -> None:
    shelf = Shelf()
    with pretending(shelf) as server:
        client = client_of(server.url)
        shelf.cuts = [MIB]
        server.answer = lambda asked: (
            Told(401) if shelf.sent and "newer" not in asked.headers["Authorization"] else shelf(asked)
        )
        with pytest.raises(LoggedOut, match="it continues"):
            fetcher_for(client).fetch(WISHED, target)
        client.configuration.write(SESSION_FILE, asdict(login_to(server.url, "alice", "newer")))
        fetcher_for(client).fetch(WISHED, target)
    assert target.read_bytes() == CONTENT
    assert shelf.sent == len(CONTENT)


# What is there already


def test_nothing_is_overwritten_unless_asked_to(client_of: Make, target: Path) -> None:
    target.write_bytes(b"mine")
    with pretending(Shelf()) as server:
        client = client_of(server.url)
        with pytest.raises(InTheWay, match="--force"):
            fetcher_for(client).fetch(WISHED, target)
        assert server.asked == [] and target.read_bytes() == b"mine"
        fetcher_for(client).fetch(WISHED, target, force=True)
    assert target.read_bytes() == CONTENT


def test_a_file_that_came_meanwhile_is_not_overwritten_either(client_of: Make, target: Path) -> None:
    with pretending(Shelf()) as server, pytest.raises(InTheWay):
        fetcher_for(client_of(server.url)).fetch(
            WISHED, target, moved=lambda done: target.write_bytes(b"mine") and None
        )
    assert target.read_bytes() == b"mine"


def test_a_part_that_is_not_of_an_earlier_get_is_left_alone(client_of: Make, target: Path) -> None:
    part_of(target).write_bytes(b"mine")
    with pretending(Shelf()) as server:
        client = client_of(server.url)
        with pytest.raises(InTheWay, match=r"\.part"):
            fetcher_for(client).fetch(WISHED, target)
        assert part_of(target).read_bytes() == b"mine"
        fetcher_for(client).fetch(WISHED, target, force=True)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "open to others"])
def test_x6_a_link_or_an_open_file_is_never_written_through(client_of: Make, target: Path, kind: str) -> None:
    """Attack X6: somebody who writes to the folder puts a link where the unfinished file was."""
    victim = target.parent.parent / "victim"
    with pretending(Shelf()) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            fetcher_for(client).fetch(WISHED, target, moved=killed_at(MIB))
        part = part_of(target)
        if kind == "open to others":
            part.chmod(0o644)
            os.link(part, victim)
        else:
            victim.write_bytes(b"precious")
            part.unlink()
            part.symlink_to(victim) if kind == "symlink" else os.link(victim, part)
        before = victim.read_bytes()
        fetcher_for(client).fetch(WISHED, target)
    assert victim.read_bytes() == before
    assert not target.is_symlink() and target.read_bytes() == CONTENT
    assert target.stat().st_nlink == 1 and target.stat().st_mode & 0o077 == 0


def test_x6_a_link_at_the_target_is_replaced_never_followed(client_of: Make, target: Path) -> None:
    victim = target.parent.parent / "victim"
    target.symlink_to(victim)
    with pretending(Shelf()) as server:
        client = client_of(server.url)
        with pytest.raises(InTheWay):
            fetcher_for(client).fetch(WISHED, target)
        fetcher_for(client).fetch(WISHED, target, force=True)
    assert not victim.exists() and not target.is_symlink()


def test_two_at_once_do_not_write_to_one_file(client_of: Make, target: Path) -> None:
    with pretending(Shelf()) as server:
        client = client_of(server.url)
        refused = []

        def moved(done: int) -> None:
            if not refused:
                with pytest.raises(InTheWay, match="Another docvault"):
                    fetcher_for(client).fetch(WISHED, target)
                refused.append(True)

        fetcher_for(client).fetch(WISHED, target, moved=moved)
    assert target.read_bytes() == CONTENT


# Names


@pytest.mark.parametrize(
    ("told", "name"),
    [("a.txt", "a.txt"), ("../../x", "x"), ("/etc/passwd", "passwd"), ("..\\..\\x", "x"), ("C:\\a\\b", "b"),
     ("Übersicht 名.pdf", "Übersicht 名.pdf"), ("a/./b", "b")],
)  # fmt: skip
def test_x6_a_name_is_only_the_name_of_a_file_here(told: str, name: str) -> None:
    assert file_name(told, windows=False) == name


@pytest.mark.parametrize(
    "told", ["", ".", "..", "a/..", "a/", "/", "a\x00b", "a\nb", "a\x1b[2J", "a\x85b", "\x7f", ".bashrc", "-rf",
             "../.ssh", "x" * 256, "é" * 128, "a\udcff", " ", "\\"],
)  # fmt: skip
def test_x6_what_is_no_name_is_refused(told: str) -> None:
    with pytest.raises(BadInput, match="-o"):
        file_name(told, windows=False)


@pytest.mark.parametrize("told", ["con", "NUL.txt", "com1", "a:b", "a?", "a.", 'a"', "LPT9.tar.gz", "<"])
def test_x6_what_windows_takes_for_a_device_or_a_stream_is_refused_there(told: str) -> None:
    with pytest.raises(BadInput):
        file_name(told, windows=True)
    assert file_name(told, windows=False) == told


def test_the_longest_name_has_room_for_its_part(client_of: Make, target: Path) -> None:
    longest = target.with_name("x" * 255)
    with pretending(Shelf()) as server:
        fetcher_for(client_of(server.url)).fetch(WISHED, longest)
    assert longest.read_bytes() == CONTENT


# The real server


def test_from_a_real_vault_whole_versions_ranges_and_only_for_who_may(
    served: tuple[VaultServer, Vault], client_of: Make, target: Path
) -> None:
    server, vault = served
    document = vault.upload("alice", CONTENT, name="plums.odt", share=("bob",)).hex()
    with server.client(vault.alice.token) as api:
        api.put(f"/documents/{document}/content?name=plums.odt", content=b"second").raise_for_status()
        versions = api.get(f"/documents/{document}/versions").json()["items"]
    first = next(version["id"] for version in versions if not version["current"])
    client = client_of(server.url, "alice", vault.alice.token)
    with pytest.raises(Killed):
        fetcher_for(client).fetch(Wished(document, first), target, moved=killed_at(MIB))
    begun: list[int] = []
    fetcher_for(client).fetch(Wished(document, first), target, moved=begun.append)
    assert target.read_bytes() == CONTENT and begun[0] > MIB
    for name in ("alice", "bob"):
        own = client_of(server.url, name, vault.members[name].token)
        row = own.document(document)
        wished = Wished(document, None, row["etag"], row["sha256"])
        fetcher_for(own).fetch(wished, target, force=True)
        assert target.read_bytes() == b"second"
    for name in ("charlie", "dora"):
        other = client_of(server.url, name, vault.members[name].token)
        with pytest.raises(Refused) as caught:
            fetcher_for(other).fetch(Wished(document), target.with_name(name))
        assert caught.value.status == 404
        assert not target.with_name(name).exists()
