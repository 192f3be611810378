"""Notices: what happened meanwhile, above the first pages after a login, until it is read."""

from flask import url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.services.notices import NoticeView
from vault.web import pages
from vault.web.answers import done
from vault.wiring import services


@pages.app_template_global()
def unread_notices() -> list[NoticeView]:
    """The notices of whoever looks at the page."""
    return services().notices.unread(current_account())


@pages.post("/account/notices/<id:notice_id>/read")
def read_notice(notice_id: bytes) -> ResponseReturnValue:
    services().notices.read(current_account(), notice_id)
    return done("Noted.", url_for(".account"))
