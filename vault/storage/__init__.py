"""Where blobs lie: whole, small, sealed, created once and never overwritten.

This room moves bytes. It may not know what a document, a user or a key is, and imports nothing that could open a
blob; what a blob means, and when it may be destroyed, is decided by the services.
"""
