"""Verbs over bytes: keys, seals, signatures, tokens and their encodings. ``FORMAT.md`` beside this file is
the contract.

This room knows no Flask, no database and no blob store, and imports nothing of the vault but its errors, so
that ``docvault recover``, ``docvault watch`` and the server read and write the same bytes with the same
code, and so that a reader of this folder has seen all of the cryptography. Every verb takes the facts that
it binds as arguments and raises ``Unreadable`` when something does not open; none of them returns False for
a failure, and none logs.
"""
