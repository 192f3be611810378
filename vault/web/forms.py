"""Forms: they check the shape of what was typed, never what it means. Meaning is decided in the services."""

import re
from datetime import UTC, datetime

from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    DateTimeLocalField,
    HiddenField,
    MultipleFileField,
    PasswordField,
    RadioField,
    SearchField,
    SelectMultipleField,
    StringField,
)
from wtforms.fields import SelectChoice
from wtforms.validators import EqualTo, InputRequired, Optional, Regexp

BETWEEN_NAMES = re.compile(r"[\s,;]+")
USERNAME = Regexp(
    r"[A-Za-z0-9._-]{2,32}\Z",
    message="A user name has 2 to 32 characters: letters a to z, digits, dot, underscore, hyphen.",
)


class LoginForm(FlaskForm):
    username = StringField("User name", [InputRequired("Type your user name.")])
    passphrase = PasswordField("Passphrase", [InputRequired("Type your passphrase.")])
    next = HiddenField()


class RegisterForm(FlaskForm):
    username = StringField("User name", [InputRequired("Choose a user name."), USERNAME])


class SetupForm(RegisterForm):
    code = StringField("Set-up code", [InputRequired("Type the code that the server printed.")])


class InvitationForm(FlaskForm):
    code = StringField("Invitation code", [InputRequired("Type the code of your invitation.")])
    agreed = HiddenField()


class PassphraseForm(FlaskForm):
    """Change the passphrase. The new one is asked for only when it is the person's own."""

    current = PasswordField("Current passphrase", [InputRequired("Type your current passphrase.")])
    choice = RadioField(
        "New passphrase",
        choices=[
            SelectChoice("generated", "Make one for me: seven random words"),
            SelectChoice("own", "I bring my own"),
        ],
        default="generated",
    )
    passphrase = PasswordField("Your own passphrase", [Optional()])
    again = PasswordField("The same again", [EqualTo("passphrase", "The two are not the same.")])

    def new(self) -> str | None:
        """The person's own new passphrase, or None where one is to be made. Never stripped: spaces count."""
        return (self.passphrase.data or "") if self.choice.data == "own" else None


class ProofForm(FlaskForm):
    """The passphrase once more, as changes that matter ask for."""

    current = PasswordField("Your passphrase", [InputRequired("Type your passphrase.")])


class RecoverForm(FlaskForm):
    username = StringField("User name", [InputRequired("Type your user name.")])
    code = StringField("Recovery code", [InputRequired("Type the code from your recovery kit.")])


class ResetForm(FlaskForm):
    code = StringField("Reset code", [InputRequired("Type the code that you were given.")])
    agreed = HiddenField()


class DeleteAccountForm(FlaskForm):
    confirm = StringField("User name once more", [InputRequired("Type the user name once more.")])


class ContactForm(FlaskForm):
    """Confirm a changed key; the words that were shown come back with the answer."""

    fingerprint = HiddenField()
    next = HiddenField()


class SearchForm(FlaskForm):
    class Meta(FlaskForm.Meta):
        csrf = False

    q = SearchField("Search by name")


class UploadForm(FlaskForm):
    """Only ever shown, never read: the body is read as a stream, by ``vault.http.receiving``."""

    recipients = StringField("Share with")
    file = MultipleFileField("Documents")


class ShareForm(FlaskForm):
    recipients = StringField("User names", [InputRequired("Type at least one user name.")])
    expires_at = DateTimeLocalField(
        "Until", [Optional()], format=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
    )

    def usernames(self) -> list[str]:
        return [name for name in BETWEEN_NAMES.split(self.recipients.data or "") if name]

    def until(self) -> datetime | None:
        """The end of the share in UTC; without scripts it is typed in UTC, and scripts send UTC."""
        moment: datetime | None = self.expires_at.data
        return None if moment is None else moment.replace(tzinfo=UTC)


class RekeyForm(FlaskForm):
    at_once = BooleanField("Destroy what is under the old keys at once")


class RevokeForm(RekeyForm):
    rekey = BooleanField("Make new keys as well")
    readers = SelectMultipleField(
        "Readers", [InputRequired("Choose at least one person.")], choices=[], validate_choice=False
    )


class RenameForm(FlaskForm):
    name = StringField("Name", [InputRequired("Type a name.")])
    etag = HiddenField()


class ConfirmForm(FlaskForm):
    """Nothing but the token: the person says yes by sending it."""


class InviteForm(FlaskForm):
    username = StringField("User name", [InputRequired("Type a user name for the new person."), USERNAME])
