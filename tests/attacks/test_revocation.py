"""W7: whoever was revoked kept what he had; a re-key leaves him nothing of what is new, and the dialog says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cast import Vault
from tests.faults.test_rekey import CONTENT, Keeper, generation, go_on, revoke_and_rekey
from vault.errors import NotFound


def test_w7_what_a_revoked_reader_kept_opens_nothing_of_the_new_generation(
    vault: Vault, tmp_path: Path
) -> None:
    document = vault.upload("alice", CONTENT, share=("bob",))
    bob = Keeper(vault, document, tmp_path / "old.sqlite3")
    assert bob.opens_old(vault.blobs) == CONTENT, "he has the database of then, his key and the DEK"
    with vault.services() as bundle:
        revoke_and_rekey(vault, document)(bundle)
    go_on(vault)
    with vault.services() as bundle:
        bundle.sweep.run()
    assert generation(vault, document) == 2
    with pytest.raises(NotFound):
        vault.read("bob", document)
    bob.assert_opens_nothing(vault)
    assert vault.read("alice", document) == CONTENT


def test_w7_the_page_says_what_a_revocation_cannot_take_back(vault: Vault) -> None:
    document = vault.upload("alice", CONTENT, share=("bob",))
    shown = vault.browser("alice").get(f"/documents/{document.hex()}/revoke").get_data(as_text=True)
    assert "What somebody has downloaded before cannot be taken back." in shown
