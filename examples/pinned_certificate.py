"""A self-signed certificate, trusted by its fingerprint and by nothing else.

python examples/pinned_certificate.py
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

from loopback import SERVER_NAME, serving, towards

import taps_security as taps
from taps_security.crypto.issuing import self_signed


async def main() -> None:
    """The right pin, and a wrong one."""
    loaded = self_signed([SERVER_NAME], algorithm="ed25519", at=time.time(), random=os.urandom)
    # What an administrator would read to you: `openssl x509 -noout -fingerprint -sha256 -in cert.pem`
    fingerprint = hashlib.sha256(loaded.chain[0]).hexdigest()
    print(f"pin sha256:{fingerprint}")
    async with serving(taps.SecurityParameters(identity=taps.Identity(loaded))) as port:
        pinned = taps.SecurityParameters(pins=[f"sha256:{fingerprint}"], server_name=SERVER_NAME)
        async with await towards(port, pinned).initiate(timeout=5) as connection:
            await connection.send(b"hello")
            print(bytes(await connection.receive()).decode())

        wrong = pinned.replace(trust=None, pins=[f"sha256:{'00' * 32}"])
        try:
            await towards(port, wrong).initiate(timeout=5)
        except taps.EstablishmentError as error:
            print(f"refused: {error.failures[0].error}")


if __name__ == "__main__":
    asyncio.run(main())
