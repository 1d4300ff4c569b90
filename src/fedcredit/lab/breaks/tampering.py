"""What takes the place of a message: a request that a dishonest coordinator signs, an answer that a member bends.

Everything is signed and sealed with the keys of the one who cheats, so only what the other side checks can stop it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedcredit.audit.log import AuditLog, decode_leaf
from fedcredit.audit.merkle import MerkleTree
from fedcredit.crypto.signatures import sign
from fedcredit.encoding import Buffer, encode
from fedcredit.envelope import seal_answer, seal_request, sign_manifest
from fedcredit.errors import FedcreditError
from fedcredit.lab.breaks.scene import Delivery, Heard, Scene
from fedcredit.messages import LogProof, Manifest, Message, RoundBody, Stage
from fedcredit.secagg.aggregator import AggregatorRound
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.wire import AcceptBody, Reveal, Selection, Upload


def rewritten(
    scene: Scene,
    delivery: Delivery,
    *,
    body: Message | None = None,
    manifest: Mapping[str, Any] | None = None,
    stage: Stage | None = None,
) -> Delivery:
    """Return the request with another body, manifest or stage, signed and sealed by the coordinator."""
    request = delivery.opened.request
    if manifest is not None:
        other = replace(delivery.manifest, **manifest)
        request = replace(request, manifest=other.to_bytes(), signature=sign_manifest(other, scene.coordinator.keys))
    if body is not None:
        request = replace(request, body=body.to_bytes())
    if stage is not None:
        request = replace(request, stage=str(stage))
    sealed = seal_request(
        request,
        consortium=scene.study.plan.run.consortium,
        to=delivery.to,
        identity=scene.identity_of(delivery.to),
        channel=delivery.opened.channel,
    )
    return scene.delivery(delivery.to, sealed)


def answered(scene: Scene, delivery: Delivery, answer: Message, bulk: Buffer) -> bytes:
    """Return ``answer``, signed by the member whom ``delivery`` asked and sealed to the coordinator."""
    return seal_answer(
        answer,
        opened=delivery.opened,
        institution=delivery.to,
        keys=scene.keys_of(delivery.to),
        coordinator=scene.coordinator.keys.public,
        bulk=(bulk,),
    )


def flipped(data: Buffer, *, at: int) -> bytes:
    """Return ``data`` with the lowest bit of one byte flipped."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def forged_log(audit: AuditLog, manifest: Manifest, body: RoundBody) -> tuple[dict[str, Any], RoundBody]:
    """Return the manifest's fields and the body that a log would prove in which ``body``'s weights were released.

    Every proof in them is right for the forged log; only a member who remembers the true one can tell.
    """
    leaves = [audit.leaf(index) for index in range(manifest.log_size)]
    kind, fields = decode_leaf(leaves[manifest.release])
    digest = hashlib.sha256(body.weights).digest()
    leaves[manifest.release] = encode([str(kind), encode({**fields, "weights": digest, "released": digest})])
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    sizes = [LogProof.from_bytes(proof).size for proof in body.log_proofs]
    forged = replace(
        body,
        release=leaves[manifest.release],
        release_path=tree.inclusion(manifest.release, size=manifest.log_size),
        log_proofs=tuple(
            LogProof(size=size, path=tree.consistency(size, manifest.log_size)).to_bytes() for size in sizes
        ),
    )
    return {"weights_digest": digest, "log_root": tree.root()}, forged


def selection_for(delivery: Delivery) -> Selection:
    """Return the selection that a request asks to agree to."""
    return Selection.from_bytes(AcceptBody.from_bytes(delivery.opened.request.body).selection)


def signed_selection(scene: Scene, delivery: Delivery, selection: Selection) -> Delivery:
    """Return the request to agree to ``selection``, which the coordinator signs, in the attempt of ``delivery``."""
    encoded = selection.to_bytes()
    signature = sign(scene.coordinator.keys, tag=SELECTION_TAG, body=encoded)
    return rewritten(scene, delivery, body=AcceptBody(selection=encoded, signature=signature), stage=Stage.ACCEPT)


def alone(scene: Scene, delivery: Delivery, heard: Heard) -> Delivery:
    """Return the request to agree that one member's upload is added up by itself."""
    signed = heard.read.signed
    selection = Selection(
        manifest_digest=delivery.opened.manifest_digest,
        members=(delivery.to,),
        uploads=(hashlib.sha256(signed.body).digest(),),
        signatures=(signed.signature,),
    )
    return signed_selection(scene, delivery, selection)


def without(selection: Selection, name: str) -> Selection:
    """Return the selection with one member left out."""
    kept = [place for place, member in enumerate(selection.members) if member != name]
    return replace(
        selection,
        members=tuple(selection.members[place] for place in kept),
        uploads=tuple(selection.uploads[place] for place in kept),
        signatures=tuple(selection.signatures[place] for place in kept),
    )


class Desk:
    """The coordinator's side of one secure round, made again from its messages: what it accepts, what it can open."""

    def __init__(self, scene: Scene, delivery: Delivery, *, lanes: int) -> None:
        secure, plan = scene.study.plan.secure, scene.study.plan
        if secure is None:
            raise RuntimeError("open aggregation has no such round")
        manifest = delivery.manifest
        self._scene = scene
        self.sum = AggregatorRound(
            manifest_digest=delivery.opened.manifest_digest,
            cohort=Cohort.of(manifest.cohort, seed=manifest.epoch, threshold=secure.threshold),
            count=lanes,
            bits=secure.lane_bits,
            smallest=manifest.quorum,
            colluders=plan.privacy.colluders,
        )

    def take(self, delivery: Delivery, payload: bytes) -> None:
        """Take an answer to a request for an upload or for shares; any other is let pass.

        Raises:
            SecurityError: the coordinator does not accept it; the error says why.
        """
        opened = self._scene.read(delivery, payload)
        if isinstance(opened.answer, Upload):
            self.sum.take_upload(
                delivery.to,
                opened.answer,
                digest=hashlib.sha256(opened.signed.body).digest(),
                signature=opened.signed.signature,
                bulk=opened.bulk,
            )
        elif isinstance(opened.answer, Reveal):
            self.sum.take_reveal(delivery.to, bytes(opened.bulk))

    def refusal(self, delivery: Delivery, payload: bytes) -> FedcreditError | None:
        """Return the error with which the coordinator refuses an answer, or ``None`` if it takes it.

        Its log has the code only; the same checks on the same bytes give the sentence.
        """
        try:
            self.take(delivery, payload)
        except FedcreditError as error:
            return error
        return None
