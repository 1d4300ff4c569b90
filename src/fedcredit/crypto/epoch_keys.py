"""A key pair that lives for one epoch's set-up: others seal a secret to it, then its private half is deleted.

Suite S1 as in ``sealing``: HPKE base mode (RFC 9180), KEM ``MLKEM768_X25519``, KDF ``HKDF_SHA512``, AEAD
``AES_256_GCM``. It does not authenticate the sender: whoever sends a box signs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from fedcredit.errors import CannotOpenError, MalformedMessageError

SEED_LENGTH: Final = 96
PUBLIC_LENGTH: Final = 32 + 1184
SECRET_LENGTH: Final = 32
BOX_LENGTH: Final = 32 + 1088 + SECRET_LENGTH + 16
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA512, AEAD.AES_256_GCM)


class EpochKeys:
    """The private half; ``seed`` is all of it. Neither ``repr`` nor an error shows it."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_LENGTH:
            raise ValueError(f"the seed of epoch keys has {SEED_LENGTH} bytes, got {len(seed)}")
        classic = X25519PrivateKey.from_private_bytes(seed[:32])
        post_quantum = MLKEM768PrivateKey.from_seed_bytes(seed[32:])
        self._key = MLKEM768X25519PrivateKey(post_quantum, classic)
        self.seed: Final = seed
        self.public: Final = classic.public_key().public_bytes_raw() + post_quantum.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, entropy: Callable[[int], bytes]) -> Self:
        """Make new keys from ``entropy``, for example ``os.urandom``."""
        return cls(entropy(SEED_LENGTH))

    def __repr__(self) -> str:
        return "EpochKeys()"

    def open(self, box: bytes, *, info: bytes, sender: str) -> bytes:
        """Return the secret that ``seal_secret`` put into a box under the same ``info``.

        Raises:
            CannotOpenError: another key, another ``info``, or a changed byte.
        """
        if len(box) != BOX_LENGTH:
            raise CannotOpenError(sender=sender)
        try:
            return _SUITE.decrypt(box, self._key, info=info)
        except (InvalidTag, ValueError) as error:
            raise CannotOpenError(sender=sender) from error


def seal_secret(secret: bytes, *, to: bytes, info: bytes) -> bytes:
    """Return ``BOX_LENGTH`` bytes that only the owner of the public key ``to`` opens, only under ``info``.

    Raises:
        MalformedMessageError: ``to`` is no key, or one of small order.
        ValueError: the secret has another length than ``SECRET_LENGTH``.
    """
    if len(secret) != SECRET_LENGTH:
        raise ValueError(f"a secret has {SECRET_LENGTH} bytes, got {len(secret)}")
    if len(to) != PUBLIC_LENGTH:
        raise MalformedMessageError(what="epoch key", problem=f"it has {len(to)} bytes, not {PUBLIC_LENGTH}")
    try:
        classic = X25519PublicKey.from_public_bytes(to[:32])
        key = MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(to[32:]), classic)
        return _SUITE.encrypt(secret, key, info=info)
    except ValueError as error:
        raise MalformedMessageError(what="epoch key", problem="it is not a key of suite S1") from error
