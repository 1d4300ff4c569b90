"""What an institution says to the model at the end of a run, and the counts that it says it on.

The counts are released ones, or cost what a release costs: with local noise the table that it sent for the evaluation,
with shared noise one of its own. They stay here; the vote leaves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from fedcredit.encoding import decode, encode
from fedcredit.errors import StoreCorruptError
from fedcredit.evaluation import ScoreCounts, score_edges
from fedcredit.evaluation.vote import Reason, Vote, vote
from fedcredit.institution.releases import Integers, RunContext
from fedcredit.messages import COUNT_GRID, SCORE_BINS, Manifest


@dataclass(frozen=True, eq=False)
class VotingTable:
    """Noised score counts of the held-out borrowers, as they are kept."""

    weights: bytes
    """Digest of the model that they were scored with."""
    values: Integers
    """(2 * SCORE_BINS,), in steps of ``COUNT_GRID``."""

    @classmethod
    def of(cls, manifest: Manifest, values: Integers) -> Self:
        """Return the table of the model that ``manifest`` names."""
        return cls(weights=manifest.weights_digest, values=values)

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode([self.weights, self.values.astype("<i8").tobytes()])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode what ``to_bytes`` returned.

        Raises:
            StoreCorruptError: it is something else.
        """
        match decode(data, what="stored counts", limit=4096):
            case [bytes(weights), bytes(values)] if (len(weights), len(values)) == (
                hashlib.sha256().digest_size,
                16 * SCORE_BINS,
            ):
                return cls(weights=weights, values=np.frombuffer(values, dtype="<i8").astype(np.int64))
        raise StoreCorruptError(path="run memory", problem="the counts for a vote do not decode")


def cast_vote(context: RunContext, manifest: Manifest, table: VotingTable | None) -> Vote | None:
    """Return the vote on the model that ``manifest`` names; ``None`` if the plan says that nobody votes.

    Counts of another model say nothing about this one, so they count as none.
    """
    floor = context.terms.plan.vote_floor
    if floor is None:
        return None
    if table is None or table.weights != manifest.weights_digest:
        return Vote(reason=Reason.NO_COUNTS, auc=None)
    edges = score_edges(context.terms.plan.model.base_rate)
    counts = ScoreCounts.from_lanes(np.rint(table.values / COUNT_GRID).astype(np.int64), edges=edges)
    return vote(counts, noise_deviation=_deviation(context), floor=floor)


def votes_on_its_own_counts(context: RunContext) -> bool:
    """Return whether the vote needs a release of its own: under shared noise, where the plan pays for it."""
    return bool(context.privacy.vote_share)


def _deviation(context: RunContext) -> float:
    """Return the standard deviation of the noise in one cell, in rows."""
    privacy = context.privacy
    make = privacy.vote_release if votes_on_its_own_counts(context) else privacy.evaluation_release
    release = make(release_id="vote", sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS)
    return release.sigma / COUNT_GRID
