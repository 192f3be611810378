"""Every use of a key, a hash or a signature, by name: the one list of domain separation labels.

A purpose names its fields and their types, so that one purpose has exactly one encoding (`encoding.enc`) and
no two uses can produce the same bytes. A name that was ever released is never given another meaning; a
changed field list is a new name with a higher number.
"""

from dataclasses import dataclass, field

PREFIX = "docvault/v1/"

# Field types, as FORMAT.md names them. "?" after a type means that the field may be absent.
KINDS = ("id", "key", "bytes", "text", "number", "time", "list")


@dataclass(frozen=True, slots=True)
class Purpose:
    """Name one use and the fields it binds, each written as ``"name:type"`` or ``"name:type?"``."""

    name: str
    fields: tuple[str, ...] = ()
    kinds: tuple[str, ...] = field(init=False, repr=False, compare=False)
    head: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name.startswith(PREFIX) or len(self.name) == len(PREFIX):
            raise ValueError("a purpose begins with " + PREFIX)
        kinds = tuple(entry.partition(":")[2] for entry in self.fields)
        for kind in kinds:
            if kind.removesuffix("?") not in KINDS:
                raise ValueError(f"{self.name}: no such field type: {kind!r}")
        name = self.name.encode("ascii")
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "head", len(name).to_bytes(4, "big") + name)


# --- keys made of the master key (HKDF-SHA256 info) ---
KEY_ID = Purpose("docvault/v1/master/key-id")
MASTER_ACCOUNTS = Purpose("docvault/v1/master/accounts")
MASTER_DIRECTORY = Purpose("docvault/v1/master/directory")
MASTER_ROWS = Purpose("docvault/v1/master/rows")
MASTER_SESSIONS = Purpose("docvault/v1/master/sessions")
MASTER_TOKENS = Purpose("docvault/v1/master/tokens")
MASTER_UPLOADS = Purpose("docvault/v1/master/uploads")
MASTER_FLASK = Purpose("docvault/v1/master/flask")

# --- keys made of an account key, of a session secret, and of a recovery code (HKDF-SHA256 info) ---
ACCOUNT_PRIVATE_KEYS = Purpose("docvault/v1/account/private-keys")
ACCOUNT_CONTACTS = Purpose("docvault/v1/account/contacts")
ACCOUNT_INDEX = Purpose("docvault/v1/account/index")
ACCOUNT_UPLOADS = Purpose("docvault/v1/account/uploads", ("day:number",))
ACCOUNT_UPLOAD_NAMES = Purpose("docvault/v1/account/upload-names")
ACCOUNT_REKEY = Purpose("docvault/v1/account/rekey")
ACCOUNT_WAITS = Purpose("docvault/v1/account/waits")
SESSION_KEY = Purpose("docvault/v1/session/key")
RECOVERY_KEK = Purpose("docvault/v1/recovery/kek", ("user:id", "method:id"))

# --- contexts of seals (Cobblestone-256) ---
_UNLOCK_FIELDS = (
    "user:id",
    "method:id",
    "kind:text",
    "memory_kib:number?",
    "iterations:number?",
    "lanes:number?",
    "salt:bytes?",
)
UNLOCK_INNER = Purpose("docvault/v1/unlock/inner", _UNLOCK_FIELDS)
UNLOCK_OUTER = Purpose("docvault/v1/unlock/outer", _UNLOCK_FIELDS)
PRIVATE_WRAP_KEY = Purpose(
    "docvault/v1/private-key/wrap", ("user:id", "key_version:number", "fingerprint:key")
)
PRIVATE_SIGN_KEY = Purpose(
    "docvault/v1/private-key/sign", ("user:id", "key_version:number", "fingerprint:key")
)
CONTACT = Purpose("docvault/v1/contact", ("user:id", "other:id"))
INDEX = Purpose("docvault/v1/index", ("document:id", "reader:id"))
SESSION = Purpose(
    "docvault/v1/session",
    ("session:id", "user:id", "created_at:time", "expires_at:time", "generation:number"),
)
MANIFEST = Purpose("docvault/v1/manifest", ("document:id", "version:id", "revision:number"))
PART = Purpose("docvault/v1/part", ("segment:id", "offset:number", "suffix:bytes?"))
UPLOAD_TOKEN = Purpose("docvault/v1/upload/token")
UPLOAD_SEGMENT_KEY = Purpose("docvault/v1/upload/segment-key", ("upload:id", "user:id"))
UPLOAD_METADATA = Purpose("docvault/v1/upload/metadata", ("upload:id", "user:id"))
REKEY = Purpose("docvault/v1/rekey", ("work:id", "user:id"))
WAIT = Purpose("docvault/v1/wait", ("work:id", "user:id", "document:id", "reader:id"))

# --- labels of RSA-OAEP ---
DEK_WRAP = Purpose(
    "docvault/v1/dek-wrap",
    ("document:id", "version:id", "reader:id", "key_version:number", "fingerprint:key"),
)

# --- messages of RSA-PSS ---
GRANT = Purpose(
    "docvault/v1/grant",
    (
        "document:id", "version:id", "epoch:number", "granter:id", "granter_key_version:number",
        "reader:id", "permission:text", "expires_at:time?",
    ),
)  # fmt: skip
KEY_ROTATION = Purpose(
    "docvault/v1/key-rotation",
    (
        "user:id", "old_key_version:number", "old_fingerprint:key", "new_key_version:number",
        "new_fingerprint:key",
    ),
)  # fmt: skip
VERSION = Purpose(
    "docvault/v1/version",
    (
        "document:id", "version:id", "number:number", "revision:number", "epoch:number", "owner:id",
        "owner_key_version:number", "origin:bytes?", "manifest_sha256:key", "parts_blake3:key",
    ),
)  # fmt: skip

# --- messages of HMAC-SHA256 ---
DIRECTORY = Purpose("docvault/v1/directory", ("user:id", "key_version:number", "fingerprint:key"))
SUBJECT = Purpose("docvault/v1/subject", ("kind:text", "text:text"))
ROW = Purpose(
    "docvault/v1/row", ("table:text", "schema:number", "row_id:bytes", "row_version:number", "columns:list")
)
ETAG = Purpose("docvault/v1/etag", ("version:id", "revision:number"))

# --- inputs of SHA-256 ---
FINGERPRINT = Purpose("docvault/v1/fingerprint", ("wrap_public:bytes", "sign_public:bytes"))
AUDIT = Purpose("docvault/v1/audit", ("previous:key", "sequence:number", "fields:list"))

# --- bodies: plaintexts that are sealed, digested or kept with the audit log ---
MANIFEST_BODY = Purpose(
    "docvault/v1/manifest/body",
    (
        "document:id", "version:id", "number:number", "revision:number", "owner:id", "owner_fingerprint:key",
        "path:list", "name:text", "media_type:text", "size:number", "segments:list", "parts_blake3:key",
        "sha256:key?",
    ),
)  # fmt: skip
INDEX_BODY = Purpose(
    "docvault/v1/index/body",
    (
        "owner:id", "owner_fingerprint:key", "number:number", "revision:number", "epoch:number", "size:number",
        "name:text", "media_type:text", "path:list",
    ),
)  # fmt: skip
PARTS_BODY = Purpose("docvault/v1/parts/body", ("parts:list",))
TOUCHED_BODY = Purpose("docvault/v1/touched/body", ("rows:list",))
REKEY_BODY = Purpose(
    "docvault/v1/rekey/body",
    (
        "at_once:number", "version:id?", "revision:number", "segment:id?", "segment_key:key?", "part_size:number",
        "done:number",
    ),
)  # fmt: skip
WAIT_BODY = Purpose("docvault/v1/wait/body", ("since:time", "expires_at:time?", "epoch:number"))

PURPOSES: tuple[Purpose, ...] = (
    KEY_ID, MASTER_ACCOUNTS, MASTER_DIRECTORY, MASTER_ROWS, MASTER_SESSIONS, MASTER_TOKENS, MASTER_UPLOADS,
    MASTER_FLASK,
    ACCOUNT_PRIVATE_KEYS, ACCOUNT_CONTACTS, ACCOUNT_INDEX, ACCOUNT_UPLOADS, ACCOUNT_UPLOAD_NAMES,
    ACCOUNT_REKEY, ACCOUNT_WAITS, SESSION_KEY, RECOVERY_KEK,
    UNLOCK_INNER, UNLOCK_OUTER, PRIVATE_WRAP_KEY, PRIVATE_SIGN_KEY, CONTACT, INDEX, SESSION, MANIFEST, PART,
    UPLOAD_TOKEN, UPLOAD_SEGMENT_KEY, UPLOAD_METADATA, REKEY, WAIT,
    DEK_WRAP, GRANT, KEY_ROTATION, VERSION, DIRECTORY, SUBJECT, ROW, ETAG, FINGERPRINT, AUDIT,
    MANIFEST_BODY, INDEX_BODY, PARTS_BODY, TOUCHED_BODY, REKEY_BODY, WAIT_BODY,
)  # fmt: skip

# Names and fields that FORMAT.md reserves for what is not written yet; nothing else may take them.
RESERVED: tuple[Purpose, ...] = ()
