"""Bad models, logs and epochs: what comes before a member has uploaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from attacks.hostile.bending import (
    STRANGER,
    Make,
    Table,
    bent,
    body,
    changed,
    digest,
    event,
    flipped,
    manifest,
    one_weight,
    outer,
)
from attacks.hostile.world import TARGET, Moment, Scene
from consortium import RUN, Question, question

from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG
from fedcredit.messages import WEIGHT_LIMIT, LogProof, weights_to_bytes
from fedcredit.secagg.epoch import EpochOffer
from fedcredit.secagg.wire import EpochKey

# --- the model, the log, the keys of the first round -----------------------------------------------------------------


def named_by_the_log(value: float) -> Make:
    """Ask with weights that the log did release: only their values are wrong."""

    def make(scene: Scene) -> Question:
        with scene.other_log():
            return question(scene.consortium, TARGET, round=scene.number, weights=one_weight(scene, value))

    return make


def a_weight_too_few(scene: Scene) -> Question:
    with scene.other_log():
        fewer = scene.consortium.family.initial_weights()[1:]
        return question(scene.consortium, TARGET, round=scene.number, weights=fewer)


def unsigned_model(scene: Scene) -> Question:
    """Ask with weights that manifest and body agree on and the log's entry does not name."""
    weights = weights_to_bytes(one_weight(scene, 0.5))
    return bent(scene.genuine(), manifest={"weights_digest": digest(weights)}, body={"weights": weights})


def entry_of(leaf: Callable[[Scene], bytes]) -> Make:
    """Ask with another entry of the log, which is in it."""

    def make(scene: Scene) -> Question:
        right, entry = scene.genuine(), leaf(scene)
        with scene.other_log() as log:
            index, tree = log.add(entry), log.tree
            return bent(
                right,
                manifest={"release": index, "log_size": tree.size, "log_root": tree.root()},
                body={
                    "release": entry,
                    "release_path": list(tree.inclusion(index, size=tree.size)),
                    "log_proofs": list(log.proofs()),
                },
            )

    return make


def initial_digest(scene: Scene) -> bytes:
    return digest(weights_to_bytes(scene.consortium.family.initial_weights()))


def released(scene: Scene, **fields: Any) -> bytes:
    weights = initial_digest(scene)
    return event(
        "round-released", **{"run": RUN, "round": scene.number - 1, "weights": weights, "released": weights, **fields}
    )


def first_boxes(change: Callable[[tuple[bytes, ...], Scene], list[bytes]]) -> Make:
    return lambda scene: bent(
        scene.genuine(), body={"roots": change(scene.consortium.epochs[RUN].boxes[TARGET], scene)}
    )


MODELS: Table = {
    "a weight that is not a number": (Moment.UPLOAD, "FC-3101", named_by_the_log(np.nan)),
    "a weight that is infinite": (Moment.UPLOAD, "FC-3101", named_by_the_log(-np.inf)),
    "a weight that is too large": (Moment.UPLOAD, "FC-3101", named_by_the_log(2 * WEIGHT_LIMIT)),
    "a weight too few": (Moment.UPLOAD, "FC-3101", a_weight_too_few),
    "other weights than the manifest's": (Moment.UPLOAD, "FC-3106", body(weights=bytes(8))),
    "a model that the log does not name": (Moment.UPLOAD, "FC-3116", unsigned_model),
    "the model of an earlier round": (
        Moment.UPLOAD,
        "FC-3116",
        entry_of(lambda it: released(it, round=it.number - 2)),
    ),
    "the model of another run": (Moment.UPLOAD, "FC-3116", entry_of(lambda it: released(it, run="another"))),
    "a model that an aborted round left": (
        Moment.UPLOAD,
        "FC-3116",
        entry_of(lambda it: event("round-aborted", run=RUN, round=it.number - 1, weights=initial_digest(it))),
    ),
    "an entry that is not in the log": (
        Moment.UPLOAD,
        "FC-3304",
        lambda it: bent(it.genuine(), body={"release": released(it, x=1)}),
    ),
    "an entry at another place": (Moment.UPLOAD, "FC-3304", manifest(release=0)),
    "a path that is cut short": (Moment.UPLOAD, "FC-3304", body(release_path=[])),
    "a log that forks": (Moment.UPLOAD, "FC-3302", manifest(log_root=b"\1" * 32)),
    "a log that was cut": (Moment.UPLOAD, "FC-3303", manifest(log_size=1)),
    "a log of no entries": (Moment.UPLOAD, "FC-3305", manifest(log_size=0)),
    "no proof from where the member stands": (Moment.UPLOAD, "FC-3304", body(log_proofs=[])),
    "a proof that proves another growth": (
        Moment.UPLOAD,
        "FC-3302",
        lambda it: bent(
            it.genuine(),
            body={
                "log_proofs": [
                    LogProof(size=proof.size, path=(bytes(32), *proof.path[1:])).to_bytes()
                    for proof in map(LogProof.from_bytes, it.consortium.log(RUN).proofs())
                ]
            },
        ),
    ),
    "no secrets in the first round": (Moment.FIRST, "FC-3101", first_boxes(lambda _, __: [])),
    "a secret too many": (Moment.FIRST, "FC-3101", first_boxes(lambda mine, _: [*mine, mine[0]])),
    "a secret cut short": (Moment.FIRST, "FC-3101", first_boxes(lambda mine, _: [mine[0][:-1], *mine[1:]])),
    "a flipped bit in a secret": (
        Moment.FIRST,
        "FC-3103",
        first_boxes(lambda mine, _: [flipped(mine[0], 9), *mine[1:]]),
    ),
    "two members' secrets exchanged": (
        Moment.FIRST,
        "FC-3103",
        first_boxes(lambda mine, _: [mine[1], mine[0], mine[2]]),
    ),
    "another member's secrets": (
        Moment.FIRST,
        "FC-3103",
        first_boxes(lambda _, it: [*it.consortium.epochs[RUN].boxes["bank-b"]]),
    ),
    "a secret that a stranger signed": (
        Moment.FIRST,
        "FC-3103",
        first_boxes(lambda mine, _: [mine[0][:-64] + sign(STRANGER, tag=ANSWER_TAG, body=b""), *mine[1:]]),
    ),
}


# --- set-up ----------------------------------------------------------------------------------------------------------


def keys(change: Callable[[list[EpochKey], Scene], list[EpochKey]]) -> Make:
    return lambda scene: bent(
        scene.genuine(), body={"keys": [key.to_bytes() for key in change(scene.begun.in_order, scene)]}
    )


def forged_key(scene: Scene, member: str, *, setup: bytes | None = None, signer: Any = STRANGER) -> EpochKey:
    _, key = EpochOffer.make(
        setup=setup or scene.begun.manifest.digest(), member=member, keys=signer, entropy=os.urandom
    )
    return key


def in_place_of(position: int, make: Callable[[EpochKey, Scene], EpochKey]) -> Make:
    def change(right: list[EpochKey], scene: Scene) -> list[EpochKey]:
        return [*right[:position], make(right[position], scene), *right[position + 1 :]]

    return keys(change)


def bent_key(changes: Mapping[str, Any]) -> Make:
    def make(scene: Scene) -> Question:
        encoded = [key.to_bytes() for key in scene.begun.in_order]
        return bent(scene.genuine(), body={"keys": [*encoded[:3], changed(encoded[3], changes)]})

    return make


SETUPS: Table = {
    "its own epoch key exchanged": (
        Moment.KEYS,
        "FC-3106",
        in_place_of(0, lambda _, it: forged_key(it, TARGET, signer=it.site.keys)),
    ),
    "another member's epoch key exchanged": (
        Moment.KEYS,
        "FC-3103",
        in_place_of(1, lambda _, it: forged_key(it, "bank-b")),
    ),
    "an epoch key under another's signature": (
        Moment.KEYS,
        "FC-3103",
        in_place_of(1, lambda right, it: replace(forged_key(it, "bank-b"), signature=right.signature)),
    ),
    "an epoch key signed with the classic key only": (
        Moment.KEYS,
        "FC-3103",
        in_place_of(1, lambda right, _: replace(right, signature=right.signature[:64] + bytes(3309))),
    ),
    "an epoch key signed with the post-quantum key only": (
        Moment.KEYS,
        "FC-3103",
        in_place_of(1, lambda right, _: replace(right, signature=bytes(64) + right.signature[64:])),
    ),
    "an epoch key of an earlier set-up": (
        Moment.KEYS,
        "FC-3106",
        in_place_of(
            1, lambda _, it: forged_key(it, "bank-b", setup=b"\1" * 32, signer=it.consortium.sites["bank-b"].keys)
        ),
    ),
    "a stranger's epoch key": (Moment.KEYS, "FC-3106", keys(lambda right, it: [*right, forged_key(it, "stranger")])),
    "one member's epoch key twice": (Moment.KEYS, "FC-3106", keys(lambda right, _: [right[0], right[1], *right[1:]])),
    "epoch keys out of order": (Moment.KEYS, "FC-3106", keys(lambda right, _: right[::-1])),
    "epoch keys of fewer than the minimum": (Moment.KEYS, "FC-3106", keys(lambda right, _: right[:2])),
    "epoch keys of the others only": (Moment.KEYS, "FC-3106", keys(lambda right, _: right[1:])),
    "an epoch key of the version before": (Moment.KEYS, "FC-3101", bent_key({"version": 2})),
    "an epoch key cut short": (Moment.KEYS, "FC-3101", bent_key({"key": bytes(32)})),
    "an epoch key of nine kilobytes": (Moment.KEYS, "FC-3101", body(keys=[bytes(9 * 1024)] * 4)),
    "secrets asked for before a key": (
        Moment.SETUP,
        "FC-3113",
        lambda it: it.begun.roots(TARGET, keys=[forged_key(it, TARGET), *it.begun.in_order]),
    ),
    "an agreement in a set-up": (Moment.KEYS, "FC-3106", outer(stage="accept")),
}
