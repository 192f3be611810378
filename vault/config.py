"""Settings: read once from the environment or ``.env``, frozen, refusing to be half-configured."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vault.errors import Misconfigured

__all__ = ["Settings", "load_settings"]

KEY_COMMAND_SECONDS = 60
HOW_TO_MAKE_A_KEY = "Make one with `docvault keys generate` and keep a copy away from this server."


class Settings(BaseSettings):
    """Everything that can be set, with ``DOCVAULT_`` before each name. No default is a secret."""

    model_config = SettingsConfigDict(env_prefix="DOCVAULT_", env_file=".env", frozen=True, extra="ignore")

    instance: Path = Path("instance")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str = ""
    proxies: int = Field(default=0, ge=0, le=10)
    workers: int = Field(default_factory=lambda: max(2, os.cpu_count() or 1), ge=1, le=256)
    threads: int = Field(default=8, ge=1, le=512)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    database_url: SecretStr = SecretStr("")
    storage: Literal["folder", "minio"] = "folder"
    minio_endpoint: str = ""
    minio_access_key: str = ""
    minio_secret_key: SecretStr = SecretStr("")
    minio_bucket: str = "docvault"
    minio_secure: bool = True

    master_key: SecretStr = SecretStr("")
    master_key_file: Path | None = None
    master_key_command: str = ""
    master_key_fallbacks: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    master_key_fallbacks_file: Path | None = None
    master_key_fallbacks_command: str = ""

    registration: Literal["invite", "open", "closed"] = "invite"
    rsa_bits: Literal[2048, 3072, 4096] = 2048
    max_document_bytes: int = Field(default=64 * 2**30, ge=1)
    quota_bytes: int = Field(default=0, ge=0)
    max_open_uploads: int = Field(default=32, ge=1)
    part_size: int = Field(default=4 * 2**20, ge=16384, le=8 * 2**20)
    session_idle_minutes: int = Field(default=30, ge=1, le=24 * 60)
    session_hours: int = Field(default=12, ge=1, le=24 * 7)
    anchor_file: Path | None = None
    metrics_token: SecretStr = SecretStr("")
    metrics_address: str = ""

    @field_validator("master_key_fallbacks", mode="before")
    @classmethod
    def _split_fallbacks(cls, value: object) -> object:
        return tuple(_several(value)) if isinstance(value, str) else value

    @field_validator("part_size")
    @classmethod
    def _whole_chunks(cls, value: int) -> int:
        if value % 16384:
            raise ValueError("must be a multiple of 16384")
        return value

    @field_validator("public_url")
    @classmethod
    def _plain_origin(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
        ):
            raise ValueError("must look like https://vault.example.org, with no path")
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("metrics_token")
    @classmethod
    def _long_token(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters, like those of `openssl rand -hex 16`")
        return value

    @field_validator("metrics_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError("must look like 127.0.0.1:9464 or [::1]:9464")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.storage == "minio" and not (
            self.minio_endpoint and self.minio_access_key and self.minio_secret_key.get_secret_value()
        ):
            raise ValueError(
                "DOCVAULT_STORAGE=minio also needs DOCVAULT_MINIO_ENDPOINT, DOCVAULT_MINIO_ACCESS_KEY and "
                "DOCVAULT_MINIO_SECRET_KEY"
            )
        for variable, direct in (
            ("DOCVAULT_MASTER_KEY", self.master_key.get_secret_value()),
            ("DOCVAULT_MASTER_KEY_FALLBACKS", self.master_key_fallbacks),
        ):
            name = variable.removeprefix("DOCVAULT_").lower()
            sources = {
                "": direct,
                "_FILE": getattr(self, f"{name}_file"),
                "_COMMAND": getattr(self, f"{name}_command"),
            }
            named = [variable + end for end, value in sources.items() if value]
            if len(named) > 1:
                raise ValueError(f"set only one of {' and '.join(named)}")
        if self.metrics_port == self.port:
            raise ValueError("DOCVAULT_METRICS_ADDRESS needs a port of its own, another than DOCVAULT_PORT")
        return self

    @property
    def secure(self) -> bool:
        """Tell whether browsers reach the vault by https."""
        return self.public_url.startswith("https://")

    @property
    def metrics_port(self) -> int | None:
        """The port at which nothing but the metrics answers."""
        return int(self.metrics_address.rpartition(":")[2]) if self.metrics_address else None

    @property
    def session_idle(self) -> timedelta:
        return timedelta(minutes=self.session_idle_minutes)

    @property
    def session_length(self) -> timedelta:
        return timedelta(hours=self.session_hours)

    @property
    def database(self) -> str:
        """The database's URL; SQLite in the instance folder when none is set."""
        given = self.database_url.get_secret_value()
        if given.startswith("postgresql://"):
            return "postgresql+psycopg://" + given.removeprefix("postgresql://")
        return given or f"sqlite:///{(self.instance / 'vault.sqlite3').absolute()}"

    @property
    def blob_folder(self) -> Path:
        return (self.instance / "blobs").absolute()

    def refuse_plain_http_in_public(self) -> None:
        """Raise ``Misconfigured`` when passphrases would cross a network in clear."""
        if _is_loopback(self.host) or (self.secure and self.proxies >= 1):
            return
        raise Misconfigured(
            f"Refusing plain http on {self.host}: passphrases would cross the network in clear. Put a reverse proxy "
            "with TLS in front and set DOCVAULT_PUBLIC_URL=https://... and DOCVAULT_PROXIES=1, or listen on 127.0.0.1."
        )

    def refuse_absent_vault(self) -> None:
        """Raise ``Misconfigured`` when there is no vault in the instance folder: a wrong folder, most likely."""
        if self.database.startswith("sqlite") and not Path(self.database.removeprefix("sqlite:///")).exists():
            raise Misconfigured(
                f"There is no vault in {self.instance.absolute()}. Set DOCVAULT_INSTANCE to its folder, or make one "
                "with `docvault serve`."
            )

    @property
    def names_master_key(self) -> bool:
        """Tell whether a source of the master key is set, without asking it."""
        return bool(self.master_key.get_secret_value() or self.master_key_file or self.master_key_command)

    def read_master_key(self) -> str:
        """Return the master key's text from the one source that is set, or an empty string when none is.

        Raises ``Misconfigured`` when the file cannot be read or others may read it, or the command fails; no
        character of a key is ever part of a message.
        """
        if self.master_key_file is not None:
            return _not_blank(
                _read_private(self.master_key_file), "DOCVAULT_MASTER_KEY_FILE names an empty file"
            )
        if self.master_key_command:
            name = "DOCVAULT_MASTER_KEY_COMMAND"
            return _not_blank(_run_for_key(self.master_key_command, name), f"{name} printed nothing")
        return self.master_key.get_secret_value()

    def read_fallbacks(self) -> list[str]:
        """Return the texts of the keys that only open, from the one source that is set; raises ``Misconfigured``."""
        if self.master_key_fallbacks_file is not None:
            return _several(_read_private(self.master_key_fallbacks_file))
        if self.master_key_fallbacks_command:
            name = "DOCVAULT_MASTER_KEY_FALLBACKS_COMMAND"
            return _several(_run_for_key(self.master_key_fallbacks_command, name))
        return [key.get_secret_value() for key in self.master_key_fallbacks]


def load_settings(**given: object) -> Settings:
    """Build the settings from the environment and ``given``; raises ``Misconfigured`` that names each wrong setting."""
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as wrong:
        lines = [
            _explain(error)
            for error in wrong.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise Misconfigured("The configuration is not usable:\n  " + "\n  ".join(lines)) from None


def _explain(error: object) -> str:
    location, text = error["loc"], error["msg"]  # type: ignore[index]
    text = str(text).removeprefix("Value error, ")
    return f"DOCVAULT_{str(location[0]).upper()}: {text}" if location else text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read_private(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"The master key file {path} cannot be read. {HOW_TO_MAKE_A_KEY}") from error
    if mode & 0o077:
        raise Misconfigured(f"The master key file {path} can be read by others. Run: chmod 600 {path}")
    return text.strip()


def _not_blank(text: str, what: str) -> str:
    if not text:
        raise Misconfigured(f"{what}. {HOW_TO_MAKE_A_KEY}")
    return text


def _several(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _run_for_key(command: str, name: str) -> str:
    # The operator writes this command into the configuration, shell syntax included; no user can reach it.
    try:
        done = subprocess.run(  # noqa: S602
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=KEY_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Misconfigured(f"{name} gave no key within {KEY_COMMAND_SECONDS} seconds.") from None
    if done.returncode != 0:
        raise Misconfigured(f"{name} ended with exit code {done.returncode} and gave no key.")
    return done.stdout.decode("ascii", errors="replace").strip()
