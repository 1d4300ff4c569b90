"""The released models computed again, from the public start and the replayed sums, and compared bit for bit.

With open aggregation nobody keeps the answers, so there a model is taken from its checkpoint, and only its place in the
chain, its manifest and its digests are checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedcredit.aggregation.server_step import ServerState, ServerStep, server_step
from fedcredit.checkpoint import Checkpoint, CheckpointStore
from fedcredit.encoding import DIGEST_LENGTH
from fedcredit.errors import CheckpointError, StoreCorruptError
from fedcredit.evaluation import ScoreCounts, score_edges
from fedcredit.messages import COUNT_GRID, Purpose, weights_to_bytes
from fedcredit.parties import InstitutionId
from fedcredit.rounds.containment import NO_SUM, Containment, kept_total
from fedcredit.rounds.drive import EVALUATION_FILE, evaluation_record
from fedcredit.rounds.evidence_log import Line
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.rounds.exchange import RoundResult

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
CHECKPOINTS: Final = "checkpoints"
_NO_DIGEST: Final = bytes(DIGEST_LENGTH)
_NAMES: Final = ("weights", "velocity", "average", "averaged", "released", "total")


class Models:
    """Follows the models of a run from release to release; every entry is checked when it is taken."""

    def __init__(self, opening: Opening, folder: Path) -> None:
        self.released = 0
        """Rounds released."""
        self.recomputed = 0
        """Models that were computed again, the starting point included."""
        self.prepared = False
        self.release_index = 0
        """The entry that released the last model."""
        self.digest = b""
        """Of the last model's checkpoint."""
        self.contained: Final = Containment(opening.plan, opening.family)
        """The bounds of the next round."""
        self._family = opening.family
        self._store = CheckpointStore(folder / CHECKPOINTS)
        self._step: ServerStep = server_step(
            opening.plan, opening.family.layout, input_scale=opening.family.input_scale
        )
        self._state = ServerState.initial(opening.family.initial_weights())

    def weights_digest(self, purpose: Purpose) -> bytes:
        """Return what the manifest of a round of this purpose says of its weights."""
        first = purpose in {Purpose.PREPARE, Purpose.TRAIN}
        return _digest_of(self._state.weights if first else self._state.released())

    def start(self, line: Line) -> None:
        """Take the opening, whose model follows from the plan."""
        checkpoint = self._load(line, parent=_NO_DIGEST, manifest=_NO_DIGEST)
        self._keep(line, self._checked(line, checkpoint, self._state, NO_SUM))

    def prepare(self, line: Line, total: Integers | None) -> None:
        """Take the preparation's release; ``total`` is its sum where that can be computed again."""
        line.require(not self.prepared and not self.released, "prepares a run that has begun")
        self._require_place(line)
        checkpoint = self._load(line, parent=self.digest, manifest=line.octets("manifest"), prepared=True)
        state = None
        if total is not None:
            with line.naming("names a model that does not follow from its sum"):
                state = ServerState.initial(self._family.prepared(self._state.weights, total))
        self._keep(line, self._checked(line, checkpoint, state, NO_SUM))
        self.prepared = True

    def release(self, line: Line, total: Integers | None, contributors: Sequence[InstitutionId]) -> None:
        """Take a round's release; ``total`` is its sum where that can be computed again.

        Otherwise the sum is the one beside the model: the coordinator's word, and still bound by what it says itself.
        """
        self.released += 1
        self._require_place(line)
        checkpoint = self._load(line, parent=self.digest, manifest=line.octets("manifest"))
        with line.naming("names a model that is not in its place"):
            stated = kept_total(checkpoint, lanes=self._family.lanes) if total is None else total
        with line.naming("releases a sum that its contributors cannot have made within their bounds"):
            self.contained.require(stated, contributors, round_number=self.released)
        state = None
        if total is not None:
            with line.naming("names a model that does not follow from its sum"):
                state = self._step.apply(self._state, total, contributors)
        self._keep(line, self._checked(line, checkpoint, state, stated))
        self.contained.follow(stated, contributors)

    def _require_place(self, line: Line) -> None:
        line.require(line.fields.get("round", 0) == self.released, "releases a round out of order")
        line.require(line.octets("parent") == self.digest, "names another parent model")

    def _load(self, line: Line, *, parent: bytes, manifest: bytes, prepared: bool = False) -> Checkpoint:
        with line.naming("names a model that is not in its place"):
            checkpoint = self._store.load(self.released, digest=line.octets("checkpoint"), prepared=prepared)
        line.require(checkpoint.manifest_digest == manifest, "names another manifest than its model")
        line.require((checkpoint.round, checkpoint.parent) == (self.released, parent), "names another model's place")
        return checkpoint

    def _checked(self, line: Line, checkpoint: Checkpoint, state: ServerState | None, total: Integers) -> ServerState:
        """Return the state that the entry releases: the computed one, or what the checkpoint says of itself."""
        if state is None:
            with line.naming("names a model that is not in its place"):
                state = self._stated(checkpoint)
        else:
            self.recomputed += 1
        self._compare(line, checkpoint, _tensors(state, total))
        for name, values in (("weights", state.weights), ("released", state.released())):
            line.require(line.octets(name) == _digest_of(values), f"names other {name} than its model has")
        return state

    def _compare(self, line: Line, checkpoint: Checkpoint, expected: Mapping[str, Floats]) -> None:
        tensors = checkpoint.tensors
        line.require(set(tensors) == set(expected), "names a model with other parts than a model has")
        for name, tensor in expected.items():
            same = (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
            line.require(
                same and tensors[name].tobytes() == tensor.tobytes(),
                f"names a model whose {name} do not follow from the sum and the model before",
            )

    def _stated(self, checkpoint: Checkpoint) -> ServerState:
        tensors, size = checkpoint.tensors, self._family.layout.size
        shapes = {name: (size,) for name in _NAMES} | {"averaged": (1,), "total": tensors["total"].shape}
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise CheckpointError(path=CHECKPOINTS, problem="has another layout than the plan")
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            raise CheckpointError(path=CHECKPOINTS, problem="holds a number that is not finite")
        return ServerState(
            round=checkpoint.round,
            weights=tensors["weights"],
            velocity=tensors["velocity"],
            average=tensors["average"],
            averaged=int(tensors["averaged"][0]),
        )

    def _keep(self, line: Line, state: ServerState) -> None:
        self._state, self.digest, self.release_index = state, line.octets("checkpoint"), line.index


def check_evaluation(
    folder: Path, line: Line, opening: Opening, total: Integers | None, contributors: Sequence[InstitutionId]
) -> int:
    """Return how many figures of evaluation.json follow from the counts; 0 without the file or the counts.

    What else the file has, the traffic of the round, is the coordinator's word.

    Raises:
        AuditError: a figure is another one, or the file does not decode.
    """
    path = folder / EVALUATION_FILE
    if not path.exists():
        return 0
    with line.naming(f"is followed by figures in {EVALUATION_FILE} that are none"):
        stated = read_json(path)
    line.require(stated.get("contributors") == list(contributors), f"has other contributors than {EVALUATION_FILE}")
    if total is None:
        return 0
    with line.naming("names a sum that gives no figures"):
        lanes = np.rint(total / COUNT_GRID).astype(np.int64)
        counts = ScoreCounts.from_lanes(lanes, edges=score_edges(opening.plan.model.base_rate))
        result = RoundResult(manifest_digest=line.octets("manifest"), total=total, contributors=list(contributors))
        record = evaluation_record(counts, result, opening.privacy)
    computed: dict[str, Any] = json.loads(json.dumps(record))
    for name in sorted(computed.keys() | stated.keys() - {"traffic"}):
        line.require(
            name in computed and stated.get(name) == computed[name],
            f"has a sum from which {name[:40]} in {EVALUATION_FILE} does not follow",
        )
    return sum(isinstance(value, float) for value in computed.values())


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the one JSON object in ``path``.

    Raises:
        StoreCorruptError: there is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreCorruptError(path=path.name, problem="it is not JSON") from error
    if not isinstance(value, dict):
        raise StoreCorruptError(path=path.name, problem="it is no record")
    return value


def _tensors(state: ServerState, total: Integers) -> dict[str, Floats]:
    """Return what a checkpoint of ``state`` holds, made from ``total``."""
    averaged, summed = np.array([float(state.averaged)]), total.astype(np.float64)
    values = (state.weights, state.velocity, state.average, averaged, state.released(), summed)
    return dict(zip(_NAMES, values, strict=True))


def _digest_of(weights: Floats) -> bytes:
    return hashlib.sha256(weights_to_bytes(weights)).digest()
