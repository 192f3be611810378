"""Log in, lock, the list of one's sessions, the time that is left."""

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf.csrf import generate_csrf

from vault.http.identity import brought, current_account, log_in_response, log_out_response, safe_next
from vault.web import pages
from vault.web.answers import beside_fields, done, page
from vault.web.clients import describe_client
from vault.web.forms import LoginForm
from vault.wiring import services


@pages.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Log in. Unknown name and wrong passphrase are one answer; the throttle's 429 is a page of its own."""
    form = LoginForm(next=request.args.get("next", ""))
    target = safe_next(form.next.data) or url_for(".documents")
    if request.method != "POST" and current_user.is_authenticated:
        return redirect(target, 303)
    if form.validate_on_submit():
        with beside_fields(form):
            name, words = form.username.data or "", form.passphrase.data or ""
            client = describe_client(request.user_agent.string)
            return log_in_response(
                services().sessions.log_in(name, words, client=client, **brought()), target
            )
    return page("sessions/login.html", form, registration_open=services().accounts.registration_open())


@pages.post("/logout")
def logout() -> ResponseReturnValue:
    services().sessions.log_out(current_account())
    return log_out_response()


@pages.get("/session")
def session() -> ResponseReturnValue:
    """Tell a script how long the session lasts, and what a page that outlived a login needs to go on: whose it is,
    and the token of its forms. Asking is a sign of life, unless it asks with ``?quiet``.
    """
    account, left = current_account(), current_user.seconds_left
    return {"seconds_left": left, "user": account.user_id.hex(), "csrf_token": generate_csrf()}


@pages.post("/account/sessions/<id:session_id>/end")
def end_session(session_id: bytes) -> ResponseReturnValue:
    account = current_account()
    services().sessions.end(account, session_id)
    return (
        log_out_response()
        if session_id == account.session_id
        else done("Signed out there.", url_for(".account"))
    )


@pages.post("/account/sessions/end-all")
def end_all_sessions() -> ResponseReturnValue:
    services().sessions.end_all(current_account())
    return log_out_response()
