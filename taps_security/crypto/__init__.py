"""Cryptographic primitives: the only room that imports `cryptography` and `nacl`.

Import the module you need (`aead`, `kdf`, `agreement`, `signature`, `certificates`, `issuing`, `trust`); the package
itself imports nothing, so that a process which needs only one of them starts fast.
"""
