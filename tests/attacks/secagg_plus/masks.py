"""Flower's masks and masked vectors as residues; every mask comes from Flower's own generator and key agreement."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from attacks.secagg_plus.target import Residues
from flwr.app import ConfigRecord, Message
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

MODULUS = 1 << 32
"""Flower's default, and the modulus of ``Residues``."""


def records_of(message: Message) -> ConfigRecord:
    """Return what SecAgg+ put into ``message``."""
    return message.content.config_records[RECORD_KEY_CONFIGS]


def masked_vector(upload: Message) -> Residues:
    """Return the masked weight and the masked vector as one array, weight first."""
    parts = [bytes_to_ndarray(part) for part in records_of(upload)[Key.MASKED_PARAMETERS]]
    return np.concatenate([part.ravel() for part in parts]).astype(np.uint32)


def put_masked_vector(upload: Message, residues: Residues) -> None:
    """Replace the masked weight and vector of ``upload``."""
    parts = [residues[:1].astype(np.int64), residues[1:].astype(np.int64)]
    records_of(upload)[Key.MASKED_PARAMETERS] = [ndarray_to_bytes(part) for part in parts]


def own_mask(seed: bytes, size: int) -> Residues:
    """Return the mask of one seed for the weight and ``size - 1`` coordinates."""
    return np.concatenate(pseudo_rand_gen(seed, MODULUS, [(1,), (size - 1,)])).astype(np.uint32)


def pair_secret(private: bytes, public: bytes) -> bytes:
    """Return what two members agree on; both keys are PEM text."""
    return generate_shared_key(bytes_to_private_key(private), bytes_to_public_key(public))


def pair_mask(secret: bytes, size: int, *, node: int, other: int) -> Residues:
    """Return the mask of a pair, with the sign that it has in the upload of ``node``."""
    mask = own_mask(secret, size)
    return mask if node > other else -mask


def opened(shares: Collection[bytes], threshold: int) -> bytes | None:
    """Return the secret of ``shares``, or ``None`` while there are fewer than ``threshold``."""
    return combine_shares(sorted(shares)[:threshold]) if len(shares) >= threshold else None
