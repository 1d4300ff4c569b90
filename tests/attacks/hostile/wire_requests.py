"""Bad seals, which anybody on the way can make, and bad encodings, versions and sizes under a right one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
from attacks.hostile.bending import (
    REMOVED,
    Make,
    Table,
    bent,
    body,
    flipped,
    manifest,
    on_the_wire,
    opened_body,
    outer,
    plaintext_of,
    resealed,
)
from attacks.hostile.world import NAMES, TARGET, Moment, Scene
from consortium import RUN, Question

from fedcredit.crypto.channels import Channel
from fedcredit.messages import WIRE_VERSION

# --- seals: anybody on the way can do these --------------------------------------------------------------------------


def wire(change: Callable[[bytes], bytes]) -> Make:
    return lambda scene: on_the_wire(scene.genuine(), change)


def of_channel(other: Callable[[Scene], Channel | None]) -> Make:
    def make(scene: Scene) -> Question:
        asked = scene.genuine()
        return resealed(asked, plaintext_of(asked), channel=other(scene))

    return make


def of_context(**context: Any) -> Make:
    """Seal the right request to the right key in another context."""

    def make(scene: Scene) -> Question:
        asked = scene.genuine()
        return resealed(asked, plaintext_of(asked), by_key=True, **context)

    return make


def stranger_channel(_: Scene) -> Channel:
    secret = Channel.secret(coordinator=os.urandom(32), member=os.urandom(32), setup=bytes(32), name=TARGET)
    return Channel(secret, entropy=os.urandom)


SEALS: Table = {
    "an empty message": (Moment.UPLOAD, "FC-3101", wire(lambda _: b"")),
    "junk": (Moment.UPLOAD, "FC-3101", wire(lambda data: b"\xff" * len(data))),
    "the tag of the seal cut short": (Moment.UPLOAD, "FC-3102", wire(lambda data: data[:-1])),
    "the seal cut to its header": (Moment.UPLOAD, "FC-3101", wire(lambda data: data[:22])),
    "a byte after the seal": (Moment.UPLOAD, "FC-3102", wire(lambda data: data + b"\0")),
    "a flipped bit in the tag of the seal": (Moment.UPLOAD, "FC-3102", wire(lambda data: flipped(data, -1))),
    "a flipped bit under the seal": (Moment.UPLOAD, "FC-3102", wire(lambda data: flipped(data, len(data) // 2))),
    "a flipped bit in the nonce": (Moment.UPLOAD, "FC-3102", wire(lambda data: flipped(data, 12))),
    "a flipped bit in the channel's name": (Moment.UPLOAD, "FC-3102", wire(lambda data: flipped(data, 4))),
    "a seal of version 0": (Moment.UPLOAD, "FC-3101", wire(lambda data: b"\0" + data[1:])),
    "a seal of suite 0": (Moment.UPLOAD, "FC-3101", wire(lambda data: data[:1] + b"\0" + data[2:])),
    "by key, a seal of version 2": (Moment.SETUP, "FC-3102", wire(lambda data: b"\2" + data[1:])),
    "by key, a seal of suite 2": (Moment.SETUP, "FC-3101", wire(lambda data: data[:1] + b"\2" + data[2:])),
    "by key, the tag of the seal cut short": (Moment.SETUP, "FC-3102", wire(lambda data: data[:-1])),
    "by key, a flipped bit": (Moment.SETUP, "FC-3102", wire(lambda data: flipped(data, 700))),
    "a request for another member": (
        Moment.REVEAL,
        "FC-3102",
        lambda scene: replace(scene.genuine(), sealed=scene.genuine("bank-b").sealed),
    ),
    "by key, a request for another member": (
        Moment.SETUP,
        "FC-3102",
        lambda scene: replace(scene.genuine(), sealed=scene.genuine("bank-b").sealed),
    ),
    "its own answer reflected": (
        Moment.UPLOAD,
        "FC-3102",
        lambda scene: replace(scene.genuine(), sealed=scene.earlier["reveal"].reply),
    ),
    "another member's channel": (
        Moment.UPLOAD,
        "FC-3102",
        of_channel(lambda scene: scene.consortium.epochs[RUN].channels["bank-b"]),
    ),
    "a channel that nobody has": (Moment.UPLOAD, "FC-3102", of_channel(stranger_channel)),
    "another consortium's seal": (Moment.UPLOAD, "FC-3102", of_context(consortium="another")),
    "a seal for another recipient": (Moment.UPLOAD, "FC-3102", of_context(recipient="bank-b")),
    "a seal from another sender": (Moment.UPLOAD, "FC-3102", of_context(sender="bank-b")),
    "a seal of another type": (Moment.UPLOAD, "FC-3102", of_context(message_type="answer/train/upload")),
    "a seal for another run": (Moment.UPLOAD, "FC-3102", of_context(run=RUN)),
}


def plain(change: Callable[[bytes], bytes]) -> Make:
    """Change the bytes under the seal."""

    def make(scene: Scene) -> Question:
        asked = scene.genuine()
        return resealed(asked, change(plaintext_of(asked)))

    return make


# --- encodings, versions and sizes -----------------------------------------------------------------------------------


def not_canonical(data: bytes) -> bytes:
    """Encode the map's number of entries in one byte more than it needs."""
    assert data[0] == 0xA0 + 9
    return bytes([0xB8, 9]) + data[1:]


def as_float(data: bytes) -> bytes:
    fields = cbor2.loads(data)
    return bytes(cbor2.dumps({**fields, "answer_length": float(fields["answer_length"])}, canonical=True))


FORMS: Table = {
    "a byte after the request": (Moment.UPLOAD, "FC-3101", plain(lambda data: data + b"\0")),
    "a request cut short": (Moment.UPLOAD, "FC-3101", plain(lambda data: data[:-1])),
    "an encoding that is not canonical": (Moment.UPLOAD, "FC-3101", plain(not_canonical)),
    "a float": (Moment.UPLOAD, "FC-3101", plain(as_float)),
    "a request of the version before": (Moment.UPLOAD, "FC-3101", outer(version=2)),
    "a request of the version after": (Moment.UPLOAD, "FC-3101", outer(version=WIRE_VERSION + 1)),
    "a request with one field more": (Moment.UPLOAD, "FC-3101", outer(secret=b"")),
    "a request without its plan": (Moment.UPLOAD, "FC-3101", outer(plan=REMOVED)),
    "a message of another type": (Moment.UPLOAD, "FC-3101", outer(type="signed")),
    "a stage that does not exist": (Moment.UPLOAD, "FC-3101", outer(stage="unmask")),
    "an answer of half a terabyte": (Moment.UPLOAD, "FC-3101", outer(answer_length=2**39)),
    "an answer that is too short to refuse in": (Moment.ACCEPT, "FC-3101", outer(answer_length=200)),
    "a manifest of the version before": (Moment.UPLOAD, "FC-3101", manifest(version=2)),
    "a manifest with one field more": (Moment.UPLOAD, "FC-3101", manifest(threshold=1)),
    "a manifest without the log": (Moment.UPLOAD, "FC-3101", manifest(log_root=REMOVED)),
    "a round that is true": (Moment.UPLOAD, "FC-3101", manifest(round=True)),
    "a negative attempt": (Moment.UPLOAD, "FC-3101", manifest(attempt=-1)),
    "a deadline beyond every clock": (Moment.UPLOAD, "FC-3101", manifest(deadline=2**53 + 1)),
    "a run with a name of 64 letters": (Moment.UPLOAD, "FC-3101", manifest(run="r" * 64)),
    "a digest of 31 bytes": (Moment.UPLOAD, "FC-3101", manifest(plan_digest=bytes(31))),
    "a member twice in the cohort": (Moment.UPLOAD, "FC-3101", manifest(cohort=[*NAMES, TARGET])),
    "a purpose that does not exist": (Moment.UPLOAD, "FC-3101", manifest(purpose="unmask")),
    "a signature of the manifest cut short": (Moment.UPLOAD, "FC-3101", outer(signature=bytes(3372))),
    "the body of another stage": (
        Moment.UPLOAD,
        "FC-3101",
        lambda scene: bent(scene.genuine(), fields={"body": opened_body(scene, "accept")}),
    ),
    "a body of the version before": (Moment.UPLOAD, "FC-3101", body(version=2)),
    "a proof that is none": (Moment.UPLOAD, "FC-3101", body(log_proofs=[b"junk"])),
    "more proofs than there can be": (Moment.UPLOAD, "FC-3101", body(log_proofs=[b""] * 1001)),
    "a path longer than any log's": (Moment.UPLOAD, "FC-3101", body(release_path=[bytes(32)] * 65)),
    "a log entry of a hundred kilobytes": (Moment.UPLOAD, "FC-3101", body(release=bytes(100_000))),
    "half of a channel's half": (Moment.SETUP, "FC-3101", body(channel=bytes(16))),
    "a selection's signature of 65 bytes": (Moment.ACCEPT, "FC-3101", body(signature=bytes(65))),
    "a box of two megabytes": (Moment.REVEAL, "FC-3101", body(boxes=[bytes(2 << 20), b"", b""])),
}
