"""One family of errors, a class for each decision that a caller makes.

No HTTP number stands here; ``vault.http.problems`` translates. A text is written for the person who reads it and
says what to do next; it never holds a secret.
"""


class VaultError(Exception):
    """The base of every error that the vault raises on purpose."""

    text = "The vault could not do this."

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text or self.text)


class Unreadable(VaultError):
    """Refuse to open something. The text never tells which check failed; ``reason`` is for the audit log alone."""

    text = (
        "This could not be opened: it is damaged, or not what it should be. The operator can find out more."
    )

    def __init__(
        self, reason: str = "unspecified", kind: str | None = None, object_id: bytes | None = None
    ) -> None:
        super().__init__()
        self.reason = reason
        self.kind = kind
        self.object_id = object_id
        self.recorded = False


class UnderUnknownKey(Unreadable):
    """A token under a master key that is not here: that key is over, or this server is behind; the caller asks."""


class KeyUnavailable(VaultError):
    """A row is under a master key that this server was not given: never damage, always configuration."""

    text = "The server was not given the master key that this needs. The operator must add it to the configuration."


class KeyOver(KeyUnavailable):
    """The master key that this server seals with was retired, or is known to somebody else: it seals nothing more."""

    text = "The master key of this server is out of use. The operator must give it the new one."


class Misconfigured(VaultError):
    """Refuse to start; the text says which setting, and what to do."""


class SchemaTooNew(Misconfigured):
    """The database was written by a newer release."""


class BadInput(VaultError):
    """Something typed or sent is not acceptable; ``field`` names where the message belongs."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class BadPassphrase(BadInput):
    """A passphrase that is not text of an acceptable length or strength."""

    def __init__(self, text: str) -> None:
        super().__init__("passphrase", text)


class NameTaken(BadInput):
    """The user name belongs, or once belonged, to somebody else."""

    def __init__(self) -> None:
        super().__init__("username", "This user name is taken. Choose another one.")


class CodeInvalid(BadInput):
    """A set-up or invitation code that is unknown, used, withdrawn or expired: all four the same."""

    def __init__(self) -> None:
        super().__init__("code", "This code is not valid (any more). Ask an administrator for a new one.")


class CodeMistyped(BadInput):
    """A recovery code whose length, characters or check symbol are wrong: a slip, which tells nothing of any code."""

    def __init__(self) -> None:
        super().__init__(
            "code", "There is a slip in this code. Compare it with your kit, character by character."
        )


class LoginRequired(VaultError):
    text = "Please log in."


class WrongLogin(VaultError):
    """The user name is unknown or the passphrase is wrong: the same words and the same work."""

    text = "User name and passphrase do not fit together."


class AccountDisabled(VaultError):
    """Said only to who knows the passphrase."""

    text = "This account is disabled. Ask an administrator."


class TooManyAttempts(VaultError):
    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many attempts. Try again in {max(1, (retry_after + 59) // 60)} minutes.")
        self.retry_after = retry_after


class Forbidden(VaultError):
    """The caller may see that this exists, but may not do this with it."""

    text = "Only the owner of this document may do this."


class NotFound(VaultError):
    """There is nothing here that the caller may know of."""

    text = "There is nothing here."


class Conflict(VaultError):
    text = "This was changed by somebody else meanwhile. Reload and try again."


class PreconditionFailed(VaultError):
    text = "This was changed since you last looked. Reload and try again."


class KeyChanged(VaultError):
    """Somebody's key is not the one first met; sharing and opening stop until a person has confirmed it."""

    def __init__(self, username: str) -> None:
        super().__init__(
            f"The key of {username} is not the one that you know. Nothing was shared or opened. "
            f"Ask {username} for the six words on the account page, by telephone or in person, before you go on."
        )
        self.username = username


class TooLarge(VaultError):
    def __init__(self, limit: int, text: str | None = None) -> None:
        super().__init__(text or f"This is larger than the vault accepts ({limit:,} bytes).")
        self.limit = limit


class BrokenOff(VaultError):
    """The body ended before its announced length; nothing of it became a document."""

    text = "The upload broke off before its end. Nothing was stored. Please send it again."


class OffsetMismatch(Conflict):
    """Somebody else was faster, or the client guessed: ``HEAD`` tells the offset."""

    text = "The upload goes on at another offset. Ask for it and send from there."


class Gone(VaultError):
    """An upload that was ended or has expired; its address never works again."""

    text = "This upload was ended or has expired. Start it again."


class Locked(VaultError):
    """An upload needs its owner's open session for what comes next; what has arrived is kept."""

    text = "Log in again to go on with this upload. What has arrived is kept."
    retry_after = 15


class ChecksumMismatch(VaultError):
    """What arrived is not what was sent; none of it was kept."""

    text = "The checksum does not fit. Nothing of this piece was kept; send it again."


class QuotaExceeded(VaultError):
    """The owner has no room left for this, open uploads counted."""

    def __init__(self, quota: int) -> None:
        super().__init__(
            f"There is no room for this: you may store {quota:,} bytes, older versions included."
        )


class TooManyUploads(VaultError):
    def __init__(self, most: int) -> None:
        super().__init__(f"You have {most} uploads under way. Finish or cancel one of them first.")


class RangeUnsatisfiable(VaultError):
    def __init__(self, size: int) -> None:
        super().__init__("The requested range is not part of this document.")
        self.size = size


class Busy(VaultError):
    """Too much at once, or a lock held too long: the same request may succeed a little later."""

    text = "The vault is busy. Try again in a moment."

    def __init__(self, retry_after: int = 5, text: str | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class ReadOnly(Busy):
    """Nothing may be changed until a person has looked; ``reason`` is a short sentence that anybody may read."""

    text = (
        "The vault is read-only for the moment. What is in it can be read and downloaded; nothing is changed."
    )

    def __init__(self, reason: str = "") -> None:
        super().__init__(60, f"{self.text} {reason}".strip())
        self.reason = reason


class AuditBroken(VaultError):
    """The audit chain or a seal does not verify; nothing is destroyed until a person has looked."""

    text = "The audit chain does not verify. Run `docvault check` before anything else."


class StorageError(VaultError):
    """The base of what a blob store raises."""


class Exists(StorageError):
    text = "A blob of this name exists already."


class Missing(StorageError):
    text = "A blob of this name does not exist."


class StoreUnavailable(StorageError):
    text = "The blob store does not answer. Nothing was lost; try again in a moment."
    retry_after = 10


class StoreFull(StorageError):
    text = "The blob store is full. Nothing was lost; the operator must make room."
