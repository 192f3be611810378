"""The rules of the vault, and the only room that commits.

Services are plain objects given their session, store and keys; they know no Flask, no HTTP number and no
algorithm. What opens content takes an ``UnlockedAccount``, so code without one cannot. Every row that they
read has passed its seal (``seals.py``), every change names its rows in the audit chain (``audit.py``).
"""
