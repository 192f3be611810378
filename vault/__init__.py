"""Document Vault: a multi-user vault whose documents are locked at rest."""

__version__ = "0.1.0"
