"""Pages, rendered on the server, that work without scripts.

A view reads the form, calls one service and answers; it decides nothing and commits nothing. What a person may do is
decided in ``vault.services``; what an error becomes is decided in ``vault.http.problems``. This room never imports the
database, the models, the crypto or the store.
"""

from flask import Blueprint, request

from vault.http.identity import SAFE_METHODS, check_csrf
from vault.wiring import alarm

pages = Blueprint("web", __name__)
pages.add_app_template_global(alarm, "alarm")
READ_AS_A_STREAM = frozenset({"web.send_upload", "web.send_version"})


@pages.before_request
def check_token() -> None:
    """Refuse every change without a CSRF token, whether its view has a form or not.

    An upload's form must not be read here: ``receive_form`` checks its token before the first byte of a file.
    """
    if request.method not in SAFE_METHODS and request.endpoint not in READ_AS_A_STREAM:
        check_csrf(request.form.get("csrf_token"))


from vault.web import (  # noqa: E402
    accounts,
    check,
    contacts,
    deletion,
    display,
    documents,
    exposure,
    history,
    keypairs,
    masterkey,
    notices,
    people,
    recovery,
    rekey,
    resets,
    selection,
    sessions,
    sharing,
    uploads,
    work,
)

__all__ = [
    "accounts",
    "check",
    "contacts",
    "deletion",
    "display",
    "documents",
    "exposure",
    "history",
    "keypairs",
    "masterkey",
    "notices",
    "pages",
    "people",
    "recovery",
    "rekey",
    "resets",
    "selection",
    "sessions",
    "sharing",
    "uploads",
    "work",
]
