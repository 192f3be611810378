"""What the attacks share: key pairs of an attacker's own, made once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from vault.crypto.keypairs import PrivateKeys, generate_keys

settings.register_profile(
    "attacks", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@pytest.fixture(scope="session")
def stranger_keys() -> PrivateKeys:
    """Key pairs that the attacker made."""
    return generate_keys()
