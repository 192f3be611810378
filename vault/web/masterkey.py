"""The administrator's page "Rotation": what stands under which key, and what is waiting. Nothing here names anybody."""

from flask import render_template
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.web import pages
from vault.wiring import services

STATES = {
    "seals": "seals and opens",
    "announced": "announced: only opens",
    "promoted elsewhere": "promoted on another server",
    "retiring": "older: rows still under it",
    "waiting": "older: waits for what hangs on it",
    "empty": "older: nothing under it",
    "retired": "retired",
    "unknown": "unknown",
}
KINDS = {"passphrase": "Passphrase", "recovery": "Recovery code"}
WAITS = {
    "sessions": "Sessions",
    "codes": "Invitation codes",
    "uploads": "Uploads",
    "attempts": "Counted login attempts",
}
WORK = {
    "wrap": "Shares that wait for a confirmed fingerprint",
    "wraps": "Such shares being made",
    "keypairs": "Changes of key pairs under way",
    "rekey": "Documents to be encrypted anew",
}
"""What long work is called; a kind that is not here is shown by its own name."""


@pages.get("/rotation")
def rotation() -> ResponseReturnValue:
    vault = services()
    overview = vault.masterkey.overview(current_account(), vault.settings.rsa_bits)
    return render_template(
        "masterkey/rotation.html", overview=overview, states=STATES, kinds=KINDS, waits=WAITS, work=WORK
    )
