"""Work that takes long: how far it is, and "go on", which a script posts until it is done, or a person by a button."""

from typing import NamedTuple

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.services.work import WorkView
from vault.web import pages
from vault.web.answers import done, wants_json
from vault.wiring import services

SECONDS_BY_HAND = 10.0
"""How long "go on" works where no script posts it again."""


class Words(NamedTuple):
    """What the page says of one kind of work, what it says at the end, and where it then goes."""

    title: str
    text: str
    done: str
    endpoint: str


KINDS = {
    "keypairs": Words(
        "Changing your keys",
        "Every document that you may open is locked anew for your new keys, and what you signed is signed anew. You "
        "can close this page and go on later; until then your former keys still count.",
        "Your new keys are in place. Your former ones are gone.",
        "web.keys",
    ),
    "wraps": Words(
        "Sharing what waited",
        "Documents that waited for your word on a changed key are locked for that person now.",
        "Done: what waited is shared again.",
        "web.contacts",
    ),
    "exposed": Words(
        "New keys for all your documents",
        "The current version of each document of yours is written anew under new keys, so that nothing that somebody "
        "took with your old passphrase opens it; older versions keep theirs. You can close this page and go on later.",
        "Done. Unless a notice here says otherwise, all your documents have new keys.",
        "web.account",
    ),
    "rekey": Words(
        "Making new keys",
        "The content is written anew under new keys. You can close this page and go on later; what is written is kept "
        "for a day. Until it is done the old keys count.",
        "The document has new keys.",
        "web.document",
    ),
}
OTHER = Words("Work under way", "You can close this page and go on later.", "Done.", "web.account")


def words_of(kind: str) -> Words:
    return KINDS.get(kind, OTHER)


def after(view: WorkView, words: Words) -> str:
    """Where to go when work is over: for new keys to the next document that waits for some, or to the document; from
    new pairs to the documents that wait for new keys with them."""
    kind = {"keypairs": "exposed", "rekey": "rekey"}.get(view.kind)
    others = [other.id for other in services().work.open(current_account()) if other.kind == kind]
    if view.kind != "rekey":
        return url_for(".work", work_id=others[0]) if others else url_for(words.endpoint)
    return (
        url_for(".work", work_id=others[0])
        if others
        else url_for(words.endpoint, document_id=view.document_id)
    )


@pages.get("/work/<id:work_id>")
def work(work_id: bytes) -> ResponseReturnValue:
    view = services().work.view(current_account(), work_id)
    return render_template("work/work.html", work=view, words=words_of(view.kind), once="on" in request.args)


@pages.post("/work/<id:work_id>")
def go_on(work_id: bytes) -> ResponseReturnValue:
    """Advance the work a little. A script is told how far it is, and where to go at the end."""
    account, works = current_account(), services().work
    view = works.view(account, work_id)
    words = words_of(view.kind)
    now = works.go_on(account, work_id) if wants_json() else works.go_on(account, work_id, SECONDS_BY_HAND)
    if now is None:
        return done(words.done, after(view, words))
    if wants_json():
        return {"done": now.done, "failed": now.failed, "total": now.total}
    return done(f"{now.percent} % are done.", url_for(".work", work_id=work_id, on=1))
