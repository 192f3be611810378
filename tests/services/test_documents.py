"""The spine through the services: upload, share, read, rename, revoke, delete."""

from __future__ import annotations

import pytest

from tests.cast import Vault, reader
from tests.servers.s3 import S3Server
from vault.errors import Forbidden, NotFound


def test_a_document_is_read_by_its_owner_and_by_whom_it_is_shared_with(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", b"to Bob", share=("bob",))
    assert vault.read("alice", document) == b"to Bob"
    assert vault.read("bob", document) == b"to Bob"
    for stranger in ("charlie", "dora"):
        with pytest.raises(NotFound):
            vault.read(stranger, document)


def test_a_revoked_reader_reads_nothing_more(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", b"to Bob", share=("bob",))
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    with pytest.raises(NotFound):
        vault.read("bob", document)
    assert vault.read("alice", document) == b"to Bob"


def test_a_reader_leaves_but_the_owner_cannot(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", share=("bob",))
    with vault.services() as bundle:
        bundle.sharing.leave(vault.bob.account, [document])
        with pytest.raises(Forbidden):
            bundle.sharing.leave(vault.alice.account, [document])
    with pytest.raises(NotFound):
        vault.read("bob", document)


def test_a_rename_reaches_the_readers(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", share=("bob",))
    with vault.services() as bundle:
        assert bundle.documents.view(vault.bob.account, document).name == "hello.txt"
        bundle.documents.rename(vault.alice.account, document, "Brief an Björn.txt")
        assert bundle.documents.view(vault.bob.account, document).name == "Brief an Björn.txt"
        assert [row.name for row in bundle.lists.page(vault.bob.account).items] == ["Brief an Björn.txt"]


def test_a_deleted_document_is_gone_and_its_blobs_follow(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", b"x" * 100, share=("bob",))
    with vault.services() as bundle:
        bundle.documents.delete(vault.alice.account, [document])
        assert len(vault.blob_files()) == 1, "the blob waits for the sweep"
        bundle.sweep.run()
        assert vault.blob_files() == []
        assert bundle.check.run().findings == []


def test_versions_are_kept_for_the_owner_alone(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", b"first", share=("bob",))
    with vault.services() as bundle:
        account = vault.alice.account
        bundle.uploads.receive(account, reader(b"second"), name="hello.txt", document_id=document)
        old = bundle.documents.versions(account, document)[-1]
        opened = bundle.downloads.open(account, document, old.id)
        assert b"".join(opened.stream(0, opened.size)) == b"first"
        with pytest.raises(Forbidden):
            bundle.downloads.open(vault.bob.account, document, old.id)
    assert vault.read("bob", document) == b"second"


PARTS = bytes(range(256)) * 2**15 * 2 + b"the third part"  # 8 MiB each


@pytest.mark.requirement(38)
def test_a_download_ends_within_one_part_of_the_revocation(any_vault: Vault) -> None:
    """Checklist 38, on each database; all cases stand in ``tests/faults/test_downloads.py``."""
    vault, part = any_vault, any_vault.settings.part_size
    document = vault.upload("alice", PARTS, share=("bob", "charlie"))
    with vault.services() as bundle:
        opened = bundle.downloads.open(vault.bob.account, document)
        stream = opened.stream(0, opened.size)
        sent = next(stream)
        with vault.services() as other:
            other.sharing.revoke(vault.alice.account, [document], ["charlie"])
        while len(sent) <= part:
            sent += next(stream)
        with vault.services() as other:
            other.sharing.revoke(vault.alice.account, [document], ["bob"])
        with pytest.raises(NotFound):
            for piece in stream:
                sent += piece
    assert sent == PARTS[: 2 * part], "the part that was begun, and no byte of the third"


def test_a_far_store_gives_whole_documents_and_ranges(vault: Vault, seaweedfs: S3Server) -> None:
    """Three parts from a real S3 server, the next asked for while one is sent; the end of a part, and across two."""
    own = vault.reopened(**s3_settings(seaweedfs))
    document = own.upload("alice", PARTS)
    assert own.read("alice", document) == PARTS
    with own.services() as bundle:
        opened = bundle.downloads.open(own.alice.account, document)
        for start, stop in ((2**23 - 5, 2**23 + 5), (2**23, 2**23 + 1), (2**24, len(PARTS)), (7, 2**24 + 1)):
            assert b"".join(opened.stream(start, stop)) == PARTS[start:stop]
    own.close()


def s3_settings(server: S3Server) -> dict[str, str]:
    named = server.environment()
    return {name.removeprefix("DOCVAULT_").lower(): value for name, value in named.items()}
