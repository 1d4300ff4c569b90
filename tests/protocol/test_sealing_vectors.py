"""The seal's bytes against a second implementation, written from the RFCs and drafts with other primitives.

HPKE: RFC 9180 sections 5.1 and 5.2, mode base. KEM: draft-ietf-hpke-pq, MLKEM768-X25519 (id 0x647a), whose combiner is
that of X-Wing (draft-connolly-cfrg-xwing-kem): SHA3-256(ss_M || ss_X || ct_X || pk_X || label).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import SealContext, open_sealed, seal

VECTOR: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "sealed_s1.json").read_text(encoding="utf-8"))
SEEDS = {name: bytes.fromhex(seed) for name, seed in VECTOR["seeds"].items()}
KEYS = IdentityKeys(**SEEDS, signing_post_quantum=bytes(32))  # younger than the vector; a seal does not depend on it
CONTEXT = SealContext(**{**VECTOR["context"], "manifest_digest": bytes.fromhex(VECTOR["context"]["manifest_digest"])})
SUITE_ID = b"HPKE" + (0x647A).to_bytes(2, "big") + (0x0003).to_bytes(2, "big") + (0x0002).to_bytes(2, "big")
XWING_LABEL = b"\\.//^\\"


def labelled_extract(salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(64), b"HPKE-v1" + SUITE_ID + label + material, "sha512")


def labelled_expand(key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    message = length.to_bytes(2, "big") + b"HPKE-v1" + SUITE_ID + label + info
    return hmac.digest(key, message + b"\x01", "sha512")[:length]  # one block: length <= 64


def open_by_hand(sealed: bytes, info: bytes) -> bytes:
    assert sealed[:2] == b"\x01\x01"
    ct_m, ct_x, box = sealed[2:1090], sealed[1090:1122], sealed[1122:]
    x25519 = X25519PrivateKey.from_private_bytes(SEEDS["kem_classic"])
    ss_m = MLKEM768PrivateKey.from_seed_bytes(SEEDS["kem_post_quantum"]).decapsulate(ct_m)
    ss_x = x25519.exchange(X25519PublicKey.from_public_bytes(ct_x))
    shared = hashlib.sha3_256(ss_m + ss_x + ct_x + x25519.public_key().public_bytes_raw() + XWING_LABEL).digest()
    schedule = b"\x00" + labelled_extract(b"", b"psk_id_hash", b"") + labelled_extract(b"", b"info_hash", info)
    secret = labelled_extract(shared, b"secret", b"")
    key = labelled_expand(secret, b"key", schedule, 32)
    nonce = labelled_expand(secret, b"base_nonce", schedule, 12)
    return AESGCM(key).decrypt(nonce, box, b"")


def test_the_stored_seal_still_opens() -> None:
    sealed = bytes.fromhex(VECTOR["sealed"])
    assert open_sealed(sealed, keys=KEYS, context=CONTEXT) == b"a vector of suite S1"


def test_the_stored_seal_opens_by_the_text_of_the_rfcs() -> None:
    assert open_by_hand(bytes.fromhex(VECTOR["sealed"]), bytes.fromhex(VECTOR["info"])) == b"a vector of suite S1"


def test_a_new_seal_opens_by_the_text_of_the_rfcs() -> None:
    sealed = seal(b"new", recipient=KEYS.public, context=CONTEXT)
    assert open_by_hand(sealed, CONTEXT.to_bytes()) == b"new"


def test_the_context_still_encodes_as_stored() -> None:
    assert CONTEXT.to_bytes().hex() == VECTOR["info"]
