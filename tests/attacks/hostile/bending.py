"""Change one thing in a genuine request and make everything around it right again: digests, signatures, seals."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
from attacks.hostile.world import Moment, Scene
from consortium import CONSORTIUM, COORDINATOR, Question, keys_of

from fedcredit.crypto.channels import Channel
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import SealContext, seal
from fedcredit.crypto.signatures import sign_lasting
from fedcredit.encoding import decode, encode
from fedcredit.envelope import MANIFEST_TAG, OpenedRequest, open_request
from fedcredit.errors import FedcreditError
from fedcredit.messages import MAX_MESSAGE_BYTES, Manifest, Stage
from fedcredit.parties import COORDINATOR as COORDINATOR_NAME

REMOVED = object()
"""In the place of a field that is left out."""
Fields = Mapping[str, Any]


def opened(asked: Question) -> OpenedRequest:
    """Open a genuine request as its recipient does."""
    return open_request(
        asked.sealed,
        consortium=CONSORTIUM,
        institution=asked.site.name,
        keys=asked.site.keys,
        coordinator=COORDINATOR.public,
        channels=asked.site.state.memory.channel,
    )


def changed(data: bytes, changes: Fields) -> bytes:
    """Return an encoded message with other fields; it is canonical, whatever its fields are."""
    fields = decode(data, what="message", limit=MAX_MESSAGE_BYTES)
    assert isinstance(fields, dict)
    kept = {key: value for key, value in {**fields, **changes}.items() if value is not REMOVED}
    return bytes(cbor2.dumps(kept, canonical=True))


def bent(
    asked: Question,
    *,
    manifest: Fields | None = None,
    body: Fields | None = None,
    fields: Fields | None = None,
    signer: IdentityKeys = COORDINATOR,
    tag: str = MANIFEST_TAG,
) -> Question:
    """Return the request with other fields in its manifest, its body or itself.

    A changed manifest is signed anew, by ``signer`` under ``tag``; the whole is sealed as it was.
    """
    request = opened(asked).request
    outer: dict[str, Any] = {}
    if manifest is not None or signer is not COORDINATOR or tag != MANIFEST_TAG:
        encoded = changed(request.manifest, manifest or {})
        outer |= {"manifest": encoded, "signature": sign_lasting(signer, tag=tag, body=encoded)}
    if body is not None:
        outer["body"] = changed(request.body, body)
    outer |= fields or {}
    result = resealed(asked, changed(request.to_bytes(), outer))
    if outer.get("stage") in set(Stage):
        result = replace(result, stage=Stage(outer["stage"]))
    return named(result, outer.get("manifest", request.manifest))


def named(asked: Question, manifest: bytes) -> Question:
    """Return the question under the manifest that it now carries, if the recipient gets to know that: its answer is
    sealed to it.
    """
    with contextlib.suppress(FedcreditError):
        found = Manifest.from_bytes(manifest)
        return replace(asked, manifest=found) if found.consortium == CONSORTIUM else asked
    return asked


def plaintext_of(asked: Question) -> bytes:
    """Return what is under the seal."""
    return opened(asked).request.to_bytes()


def resealed(
    asked: Question, plaintext: bytes, *, channel: Channel | None = None, by_key: bool = False, **context: Any
) -> Question:
    """Seal any bytes as a request to the same member: with its channel if it had one, or ``channel``, or by key."""
    place: dict[str, Any] = {
        "consortium": CONSORTIUM,
        "run": "",
        "round_number": 0,
        "attempt": 0,
        "message_type": "request",
        "sender": COORDINATOR_NAME,
        "recipient": asked.site.name,
        "manifest_digest": bytes(32),
        **context,
    }
    chosen = None if by_key else channel or asked.channel
    if chosen is not None:
        sealed = chosen.seal_down(plaintext, context=SealContext(**place))
    else:
        sealed = seal(plaintext, recipient=asked.site.keys.public, context=SealContext(**place))
    return replace(asked, sealed=sealed, channel=chosen)


def on_the_wire(asked: Question, change: Callable[[bytes], bytes]) -> Question:
    """Return the question with other sealed bytes."""
    return replace(asked, sealed=change(asked.sealed))


def flipped(data: bytes, place: int) -> bytes:
    """Flip one bit."""
    result = bytearray(data)
    result[place] ^= 1
    return bytes(result)


def signed_by_one_key(asked: Question, *, post_quantum: bool) -> Question:
    """Return the request with one half of its manifest's signature made by somebody else."""
    request = opened(asked).request
    stranger = IdentityKeys.generate()
    other = sign_lasting(stranger, tag=MANIFEST_TAG, body=request.manifest)
    signature = other[:64] + request.signature[64:] if post_quantum else request.signature[:64] + other[64:]
    return bent(asked, fields={"signature": signature})


def digest(data: bytes) -> bytes:
    """Return SHA-256."""
    return hashlib.sha256(data).digest()


def event(kind: str, **fields: Any) -> bytes:
    """Return an entry of a log."""
    return encode([kind, encode(fields)])


# --- changes of the request that is honestly due ---------------------------------------------------------------------

Make = Callable[[Scene], Question]
Table = Mapping[str, tuple[Moment, str, Make]]
"""By name: when it comes, the code of the refusal, and how it is made."""
STRANGER = keys_of(77)


def outer(**fields: Any) -> Callable[[Scene], Question]:
    return lambda scene: bent(scene.genuine(), fields=fields)


def manifest(**fields: Any) -> Callable[[Scene], Question]:
    return lambda scene: bent(scene.genuine(), manifest=fields)


def body(**fields: Any) -> Callable[[Scene], Question]:
    return lambda scene: bent(scene.genuine(), body=fields)


def opened_body(scene: Scene, stage: str) -> bytes:
    """Return the body of a request of the round before."""
    return opened(scene.earlier[stage].asked).request.body


def one_weight(scene: Scene, value: float) -> np.ndarray:
    weights = scene.consortium.family.initial_weights()
    weights[-1] = value
    return weights
