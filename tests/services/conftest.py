from tests.house import house, standing

__all__ = ["house", "standing"]
