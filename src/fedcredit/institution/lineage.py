"""Whether a round's weights are the model that the coordinator's log released last, and whether that log only grew.

A server that may choose the weights reads rows through any sum (QUALITY.md 5.1), and one that shows members different
weights reads each of them. So every member follows one log, sees in it where the weights come from, and signs what it
has seen: whoever is shown another log later can prove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from fedcredit.audit.checkpoint_note import LogCheckpoint
from fedcredit.audit.log import EventKind, decode_leaf, log_origin
from fedcredit.audit.merkle import verify_inclusion
from fedcredit.audit.witness import WitnessState, advance
from fedcredit.encoding import Encodable
from fedcredit.errors import LineageError, LogProofError
from fedcredit.messages import LogProof, Manifest, Purpose, RoundBody

_RELEASES: Final = {EventKind.RUN_OPENED, EventKind.PREPARED, EventKind.ROUND_RELEASED}


def checkpoint_of(manifest: Manifest) -> LogCheckpoint:
    """Return the state of the coordinator's log that a manifest names.

    Raises:
        CheckpointNoteError: there is no such log.
    """
    return _checkpoint(manifest.consortium, manifest.run, manifest.log_size, manifest.log_root)


@lru_cache(maxsize=8)
def _checkpoint(consortium: str, run: str, size: int, root: bytes) -> LogCheckpoint:
    return LogCheckpoint(origin=log_origin(consortium=consortium, run=run), size=size, root=root)


def follow(state: WitnessState, manifest: Manifest, body: RoundBody) -> WitnessState:
    """Return the state after seeing a manifest whose log continues the one that ``state`` stands for.

    Raises:
        LogRolledBackError, LogForkError: the log is not the one that was seen before.
        LogProofError: no proof begins where this member stands.
    """
    checkpoint = checkpoint_of(manifest)
    if state.size in {0, checkpoint.size}:
        return advance(state, checkpoint, ())
    proofs = [_decode_proof(proof) for proof in body.log_proofs]
    path = next((proof.path for proof in proofs if proof.size == state.size), None)
    if path is None and checkpoint.size > state.size:
        raise LogProofError(what="consistency proof", problem=f"none begins at {state.size} entries")
    return advance(state, checkpoint, path or ())


def require_lineage(manifest: Manifest, body: RoundBody, *, prepared: bool, initial: bytes) -> None:
    """Return if the log's entry in ``body`` released these weights for this round, and is in the manifest's log.

    ``initial`` is the digest of the weights that the plan begins with, ``prepared`` whether a histogram comes first.

    Raises:
        LineageError: the entry is another one.
        LogProofError: it is not in the log.
    """
    verify_inclusion(
        body.release,
        index=manifest.release,
        size=manifest.log_size,
        root=manifest.log_root,
        proof=body.release_path,
    )
    kind, fields = _decode_release(body.release)
    if kind not in _RELEASES or fields.get("run") != manifest.run:
        raise LineageError(round=manifest.round, problem="the log's entry is no release of this run")
    if kind is not _expected_kind(manifest, prepared=prepared) or fields.get("round", 0) != _expected_round(manifest):
        raise LineageError(round=manifest.round, problem="the log's entry released another round's model")
    if _digest_for(manifest, fields) != manifest.weights_digest:
        raise LineageError(round=manifest.round, problem="they differ from those that the log names")
    if kind is EventKind.RUN_OPENED and manifest.weights_digest != initial:
        raise LineageError(round=manifest.round, problem="the run began with other weights than its plan says")


@lru_cache(maxsize=8)
def _decode_release(leaf: bytes) -> tuple[EventKind, Mapping[str, Encodable]]:
    """Decode a log's entry; in one process all members are shown the same one."""
    kind, fields = decode_leaf(leaf)
    return kind, MappingProxyType(dict(fields))


@lru_cache(maxsize=16)
def _decode_proof(proof: bytes) -> LogProof:
    return LogProof.from_bytes(proof)


def _digest_for(manifest: Manifest, fields: Mapping[str, Encodable]) -> Encodable:
    return fields.get("weights" if manifest.purpose in {Purpose.PREPARE, Purpose.TRAIN} else "released")


def _expected_round(manifest: Manifest) -> int:
    return manifest.round if manifest.purpose in {Purpose.EVALUATE, Purpose.CLOSE} else manifest.round - 1


def _expected_kind(manifest: Manifest, *, prepared: bool) -> EventKind:
    if _expected_round(manifest):
        return EventKind.ROUND_RELEASED
    return EventKind.PREPARED if prepared and manifest.purpose != Purpose.PREPARE else EventKind.RUN_OPENED
