"""One's own security log, and the owner's timeline of a document, in words that need no explanation."""

from collections.abc import Iterable
from itertools import groupby

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup, escape

from vault.http.identity import current_account
from vault.services.history import Happening
from vault.web import pages
from vault.web.display import visible
from vault.web.documents import owned_document
from vault.wiring import services

PAGE = 50

WORDS = {
    "register": "{actor} registered",
    "login": "{actor} logged in",
    "logout": "{actor} locked the vault",
    "session_end": "{actor} ended a session",
    "session_end_all": "{actor} ended all sessions",
    "passphrase_change": "{actor} changed the passphrase",
    "account_change": "{actor} changed {person}",
    "setup_code": "{actor} made a set-up code",
    "invite": "{actor} invited somebody",
    "withdraw": "{actor} withdrew an invitation",
    "codes_expired": "Invitations expired",
    "contact": "{actor} met the keys of somebody",
    "upload": "{actor} stored {document}",
    "replace": "{actor} stored a new version of {document}",
    "rename": "{actor} renamed or moved {document}",
    "delete": "{actor} deleted {document}",
    "share": "{actor} shared {document} with {subject}",
    "revoke": "{actor} ended the sharing of {document} with {subject}",
    "leave": "{actor} left the share of {document}",
    "share_expired": "The sharing of {document} with {subject} came to its end",
    "share_waits": "The sharing of {document} with {subject} waits until new key words are confirmed",
    "download": "{actor} downloaded {document}",
    "download_cut": "The download of {document} by {actor} was cut short",
    "upload_end": "{actor} gave up an upload",
    "upload_raced": "A piece of an upload arrived twice",
    "uploads_expired": "Unfinished uploads expired",
    "destroyed": "What had been deleted was destroyed",
    "denied": "{actor} asked for {document} and was not let in",
    "integrity_failure": "Opening {document} failed for {actor}: something is damaged, or not what it should be",
    "contact_confirmed": "{actor} confirmed {subject} by the key words",
    "waiting_ended": "Somebody waited for too long to be confirmed",
    "wraps_done": "{subject} can now read what had waited for {actor} to confirm",
    "rekey": "{actor} locked {document} anew, under new keys",
    "rekey_asked": "{actor} asked for {document} to be locked anew",
    "rekey_begun": "{actor} began to lock {document} anew",
    "rekey_advanced": "{actor} went on locking {document} anew",
    "rekey_given_up": "{actor} gave up locking a document anew",
    "rekey_overtaken": "Locking {document} anew began again: it had been changed meanwhile",
    "recovery_made": "{actor} made a recovery code",
    "recovery_removed": "{actor} removed the recovery code",
    "recovery_used": "A recovery code was used for {person}",
    "exposed": "{actor} said that the passphrase may be known to others",
    "exposed_advanced": "{actor} went on giving documents new keys",
    "exposed_done": "{actor} gave documents new keys",
    "keys_rotate": "{actor} asked for new keys",
    "keys_moved": "{actor} moved documents to new keys",
    "keys_left": "{actor} left behind what could not be moved to new keys",
    "keys_retired": "{actor} retired the old keys",
    "keys_reset": "{person} got new keys by a reset",
    "reset_begun": "{actor} made a code that gives {subject} new keys",
    "reset_voided": "{actor} called off a reset of keys",
    "notice_read": "{actor} read a notice",
    "account_deleted": "{actor} deleted the account {person}",
    "purged": "What a deleted account had left was destroyed",
    "key_promoted": "The operator changed the master key",
    "key_retired": "The operator retired a master key",
    "key_compromised": "The operator said that somebody else has a master key",
    "row_accepted": "The operator let a row stand that somebody else may have sealed",
    "row_dropped": "The operator deleted a row that somebody else may have sealed",
    "rotation_started": "The operator began to change the master key",
    "rotation_ended": "Every row was gone over for the new master key",
    "rows_resealed": "Rows were sealed under the new master key",
    "backed_up": "The operator made a backup",
    "restored": "The operator restored a backup",
    "check": "The operator checked the whole vault",
    "quarantine": "The operator set aside blobs that nothing names",
    "anchor_accepted": "The operator let an older state of the vault stand",
    "unbelievable": "This entry does not bear its seal, so what it says is not shown. Tell the operator.",
}
"""What each action of the audit chain is called. A test holds that every action has its words."""

FAILED = {
    "login": "Somebody typed a wrong passphrase for {person}",
    "passphrase_change": "{actor} typed a wrong passphrase where it was to be changed",
    "recovery_used": "Somebody typed a wrong recovery code for {person}",
}
WHY_CUT = {
    "aborted": "the connection ended",
    "revoked": "the share had been ended",
    "expired": "the share had come to its end",
    "deleted": "the document was deleted",
    "disabled": "the account was disabled",
}
MARKS = {
    "login": "unlock",
    "logout": "lock",
    "session_end": "box-arrow-right",
    "session_end_all": "box-arrow-right",
    "passphrase_change": "key",
    "upload": "file-earmark-arrow-up",
    "replace": "file-earmark-arrow-up",
    "rename": "pencil",
    "delete": "trash3",
    "share": "person-plus",
    "revoke": "person-dash",
    "leave": "person-dash",
    "share_expired": "person-dash",
    "share_waits": "person-dash",
    "download": "download",
}
ENDED_BY = {
    "revoke": "you ended it",
    "leave": "left",
    "share_expired": "came to its end",
    "share_waits": "the key changed",
}


@pages.app_template_filter()
def folded(events: Iterable[Happening]) -> list[tuple[Happening, int]]:
    """Make one line of entries in a row that would read the same; the newest of them stands for all."""
    runs = [list(run) for _, run in groupby(events, _reads_as)]
    return [(run[0], len(run)) for run in runs]


def _reads_as(event: Happening) -> tuple[object, ...]:
    what = (event.action, event.succeeded, event.detail, event.object_id)
    # What stands for no single object reads the same whichever it was; a session is like another.
    return (*what[:3], what[3] if event.object_kind != "session" else None, event.actor, event.subject)


@pages.app_template_filter()
def told(event: Happening, here: bytes | None = None) -> Markup:
    """Say an entry as a sentence; names in it are shown as names, the document whose page it is as "it"."""
    words = WORDS.get(event.action, "{actor} did something that this page has no words for")
    if not event.succeeded:
        words = FAILED.get(event.action, words)
    return escape(words).format(
        actor=_you(words, "actor") if event.by_self else event.actor or "The vault",
        subject=_you(words, "subject") if event.about_self else event.subject or "somebody",
        person=_you(words, "person") if event.about_self else event.person or "somebody",
        document="it" if here is not None and here == event.object_id else _document(event),
    ) + _more(event)


def _you(words: str, place: str) -> str:
    return "You" if words.startswith(f"{{{place}}}") else "you"


def _document(event: Happening) -> Markup | str:
    if event.document is None or event.object_id is None:
        return "a document" if event.object_kind in {"document", None} else "something"
    address = url_for(".document", document_id=event.object_id)
    return Markup('<a href="{}">{}</a>').format(address, visible(event.document))


def _more(event: Happening) -> str:
    if event.action == "download_cut":
        return f": {WHY_CUT.get(event.detail or '', 'the server could not go on')}"
    if event.action == "account_change" and event.detail:
        role, _, state = event.detail.partition(" ")
        return f": now {'an administrator' if role == 'admin' else 'an ordinary user'}, {state}"
    if event.action == "exposed_done" and event.detail:
        return f": {event.detail}"
    return ""


@pages.app_template_filter()
def mark_of(event: Happening) -> str:
    """Give the icon of an entry: a warning for what was refused or went wrong."""
    return MARKS.get(event.action, "clock-history") if event.succeeded else "exclamation-triangle"


@pages.app_template_filter()
def ended_by(action: str) -> str:
    return ENDED_BY.get(action, action)


@pages.get("/account/log")
def security_log() -> ResponseReturnValue:
    page = services().history.log(current_account(), limit=PAGE, after=request.args.get("after"))
    return render_template("history/log.html", page=page, after=request.args.get("after"))


@pages.get("/documents/<id:document_id>/timeline")
def timeline(document_id: bytes) -> ResponseReturnValue:
    account, after = current_account(), request.args.get("after")
    found = owned_document(document_id)
    history = services().history
    page = history.timeline(account, document_id, limit=PAGE, after=after)
    readings = history.readings(account, document_id) if after is None else []
    return render_template("history/timeline.html", document=found, page=page, readings=readings, after=after)
