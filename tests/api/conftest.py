from tests.house import house, standing, vault

__all__ = ["house", "standing", "vault"]
