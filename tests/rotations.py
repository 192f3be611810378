"""Servers of one vault that were given different master keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from tests.cast import Vault, settings_for
from vault.crypto.masterkey import MasterKeys, parse_master_key

NEW = "a1" * 32
NEXT = "b2" * 32


def key_of(vault: Vault) -> str:
    """The master key that a vault seals with, as its operator has it."""
    return vault.settings.read_master_key() or (vault.instance / "master.key").read_text().strip()


def key_id(key: str) -> bytes:
    return MasterKeys(parse_master_key(key)).key_id


@contextmanager
def server(vault: Vault, key: str, *fallbacks: str, **given: Any) -> Iterator[Vault]:
    """Another server of the same vault, which seals with ``key``; members have the tokens that they had."""
    made = Vault(
        vault.instance,
        settings_for(
            vault.instance, registration="open", database_url=vault.settings.database_url, master_key=key,
            master_key_fallbacks=" ".join(fallbacks), **given,
        ),
        {name: member.elsewhere() for name, member in vault.members.items()},
    )  # fmt: skip
    try:
        yield made
    finally:
        made.close()


def keys_in_rows(vault: Vault) -> dict[str, set[bytes]]:
    """Every master key id in every row, by table and column, past all services."""
    found: dict[str, set[bytes]] = {}
    with vault.services() as bundle:
        connection = bundle.transactions.session.connection()
        for table in vault_tables():
            for column in table.columns:
                if column.key.endswith("key_id") and table.name != "master_key":
                    values = connection.execute(text(f'SELECT DISTINCT "{column.key}" FROM "{table.name}"'))
                    found[f"{table.name}.{column.key}"] = {bytes(value) for value in values.scalars()}
    return found


def vault_tables() -> list[Any]:
    from vault.extensions import Base

    return [mapper.local_table for mapper in Base.registry.mappers]
