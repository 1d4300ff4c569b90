"""Small secrets from one member to another under a key that both derived (AES-256-GCM, random 96-bit nonce).

One key serves one box: the pair, the direction, the round and the attempt are in its derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedcredit.errors import CannotOpenError

KEY_LENGTH: Final = 32
NONCE_LENGTH: Final = 12
BOX_OVERHEAD: Final = NONCE_LENGTH + 16


def seal_box(plaintext: bytes, *, key: bytes, context: bytes, entropy: Callable[[int], bytes]) -> bytes:
    """Return nonce and ciphertext, ``BOX_OVERHEAD`` bytes longer than ``plaintext``, bound to ``context``.

    Raises:
        ValueError: the key is not ``KEY_LENGTH`` bytes long, or ``entropy`` gave too few or too many.
    """
    cipher = _cipher(key)
    nonce = entropy(NONCE_LENGTH)
    if len(nonce) != NONCE_LENGTH:
        raise ValueError(f"entropy gave {len(nonce)} bytes instead of {NONCE_LENGTH}")
    return nonce + cipher.encrypt(nonce, plaintext, context)


def open_box(box: bytes, *, key: bytes, context: bytes, sender: str) -> bytes:
    """Return what ``seal_box`` was given under the same key and context.

    Raises:
        CannotOpenError: anything else.
        ValueError: the key is not ``KEY_LENGTH`` bytes long.
    """
    cipher = _cipher(key)
    if len(box) < BOX_OVERHEAD:
        raise CannotOpenError(sender=sender)
    try:
        return cipher.decrypt(box[:NONCE_LENGTH], box[NONCE_LENGTH:], context)
    except InvalidTag as error:
        raise CannotOpenError(sender=sender) from error


def _cipher(key: bytes) -> AESGCM:
    # The library would take 16 or 24 bytes too, and be AES-128 or AES-192 without a word.
    if len(key) != KEY_LENGTH:
        raise ValueError(f"a key has {KEY_LENGTH} bytes, this one {len(key)}")
    return AESGCM(key)
