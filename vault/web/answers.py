"""The three ways in which a view answers: a page, a page with words beside the wrong field, or "done, go there"."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import flash, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from vault.errors import AccountDisabled, BadInput, KeyChanged, VaultError, WrongLogin


def page(template: str, form: FlaskForm | None = None, **shown: Any) -> tuple[str, int]:
    """Render a page; with something wrong in its form it is a 400."""
    return render_template(template, form=form, **shown), 400 if form is not None and form.errors else 200


def put_beside(form: FlaskForm, error: VaultError, field: str = "") -> None:
    """Put the words of an error beside the field that it names, or above the form where it names none of it."""
    name = field or getattr(error, "field", "")
    if isinstance(error, KeyChanged):
        form.changed = error.username  # the page then leads to the dialog that confirms his key
    if name in form:
        form[name].errors = [*form[name].errors, str(error)]
    else:
        form.form_errors.append(str(error))


@contextmanager
def beside_fields(form: FlaskForm, *, wrong_login: str = "") -> Iterator[None]:
    """Catch what a service refuses because of what was typed; the view then shows its form again.

    Where somebody who is logged in repeats his passphrase, ``wrong_login`` names the field of it.
    """
    try:
        yield
    except WrongLogin as error:
        put_beside(form, error, wrong_login)
    except (BadInput, KeyChanged, AccountDisabled) as error:
        put_beside(form, error)


def confirmed() -> bool:
    """Tell whether the person has seen the page that asks, and said yes there."""
    return request.method == "POST" and "confirm" in request.form


def wants_json() -> bool:
    """Tell whether one of our own scripts asks, which wants an address to go to and no redirect to follow."""
    return request.headers.get("X-Vault-Script") == "1"


def done(text: str, url: str) -> ResponseReturnValue:
    """Say that it is done on the next page. The text waits in a cookie: never put a name into it."""
    flash(text)
    return {"location": url} if wants_json() else redirect(url, 303)
