"""Write ``secagg.json``: derived keys, commitments, shares and masks, made without fedcredit.

A second, slow implementation of the same definitions: HKDF from HMAC, counter mode from single AES blocks, polynomials
term by term, lanes as Python integers. The file never changes for a released version: members of that version still
compute these masks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from math import comb
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

PRIME = 2**256 + 297
ENTROPY = bytes(range(32))
SECRETS = [bytes(32), b"\xff" * 32, bytes(range(100, 132))]
DERIVED: list[tuple[bytes, str, Any, int]] = [
    (bytes(range(64)), "pair root", ["epoch", "bank-a", "fund-b"], 32),
    (bytes(range(32)), "mask", [bytes(32)], 32),
    (bytes(range(32)), "box", [bytes(32), "bank-a", "fund-b"], 32),
    (bytes(range(32)), "ratchet", ["epoch", 7], 32),
    (bytes(range(32)), "long", None, 100),
]
SHARED = [(2, 3), (3, 5), (7, 10)]
KEYS = [bytes([number]) * 32 for number in range(1, 6)]


def content() -> dict[str, Any]:
    """Return what the file holds; byte strings as hexadecimal text."""
    return {
        "derived": [
            {
                "key": key.hex(),
                "label": label,
                "context": cbor2.dumps(context, canonical=True).hex(),
                "length": length,
                "bytes": derived(key, label, context, length).hex(),
            }
            for key, label, context, length in DERIVED
        ],
        "commitments": [
            {"seed": seed.hex(), "context": bytes(32).hex(), "commitment": committed(seed, bytes(32)).hex()}
            for seed in SECRETS
        ],
        "shares": [
            {
                "threshold": threshold,
                "holders": holders,
                "entropy": ENTROPY.hex(),
                "secrets": [secret.hex() for secret in SECRETS],
                "dealt": [[share.hex() for share in row] for row in dealt(threshold, holders)],
            }
            for threshold, holders in SHARED
        ],
        "masks": [
            {
                "bits": bits,
                "plus": [key.hex() for key in KEYS[:2]],
                "minus": [key.hex() for key in KEYS[2:]],
                "lanes": list(range(20)),
                "masked": masked(list(range(20)), bits=bits),
            }
            for bits in (16, 32)
        ],
    }


def derived(key: bytes, label: str, context: Any, length: int) -> bytes:
    """RFC 5869 without a salt."""
    info = cbor2.dumps(["fedcredit derive 1", label, context], canonical=True)
    extracted = hmac.digest(bytes(32), key, "sha256")
    block = out = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        out += block
    return out[:length]


def committed(seed: bytes, context: bytes) -> bytes:
    return hashlib.sha256(cbor2.dumps(["fedcredit commit 1", context, seed], canonical=True)).digest()


def stream(key: bytes, count: int) -> bytes:
    """NIST SP 800-38A section 6.5, the counter from zero."""
    encrypt = Cipher(AES256(key), ECB()).encryptor().update  # noqa: S305 - one block at a time is the definition
    return b"".join(encrypt(number.to_bytes(16, "big")) for number in range(-(-count // 16)))[:count]


def dealt(threshold: int, holders: int) -> list[list[bytes]]:
    drawn = stream(ENTROPY, 48 * (threshold - 1) * len(SECRETS))

    def coefficient(secret: int, k: int) -> int:
        start = 48 * ((k - 1) * len(SECRETS) + secret)
        return int.from_bytes(drawn[start : start + 48], "big") % PRIME

    def share(secret: int, x: int) -> bytes:
        terms: Iterable[int] = (coefficient(secret, k) * comb(x, k) for k in range(1, threshold))
        return ((int.from_bytes(SECRETS[secret], "big") + sum(terms)) % PRIME).to_bytes(33, "big")

    return [[share(secret, holder + 1) for secret in range(len(SECRETS))] for holder in range(holders)]


def masked(lanes: list[int], *, bits: int) -> list[int]:
    width = bits // 8
    for number, key in enumerate(KEYS):
        mask = stream(key, width * len(lanes))
        sign = 1 if number < 2 else -1
        lanes = [
            (lane + sign * int.from_bytes(mask[width * at : width * (at + 1)], "little")) % 2**bits
            for at, lane in enumerate(lanes)
        ]
    return lanes


def main() -> None:
    path = Path(__file__).with_name("secagg.json")
    path.write_text(json.dumps(content(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
