"""Lengths, lanes and weights: how numbers become bytes, and how all answers of a stage become equally long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.encoding import Buffer
from fedcredit.errors import MalformedMessageError

PADDING_STEP: Final = 1024
LANE_BYTES: Final = 4
LANE_LIMIT: Final = 2**31 - 1
WEIGHT_LIMIT: Final = 2.0**20
"""Largest global weight in magnitude. Inputs are bounded too, so nothing that an institution computes overflows: a
refusal for a non-finite number would tell, without noise, that a certain borrower is there."""
AVERAGING_GRID: Final = 2**24
"""Grid steps per unit of weight change in federated averaging."""
SCORE_BINS: Final = 10
"""Score bins of an evaluation (``evaluation.score_edges``)."""
COUNT_GRID: Final = 64
"""Grid steps per counted borrower in a score histogram; finer steps make the integer noise finer."""
SHARE_LENGTH: Final = 33
"""Bytes of one share of a secret (``secagg.shamir``)."""
BOX_OVERHEAD: Final = 12 + 16
"""Bytes that a box adds to the shares in it (``crypto.boxes``)."""
_AROUND: Final = 768
_DIGEST_IN_LIST: Final = 34


def frame(content: bytes, *, bulk: Sequence[Buffer] = (), length: int) -> tuple[Buffer, ...]:
    """Return the parts of a frame: two 8-byte big-endian lengths, ``content``, ``bulk``, zeros up to ``length`` bytes.

    Answers of one stage have one length, so that neither the relay nor the sizes in a log tell a refusal from an
    update. Bulk data stays outside the canonical encoding, which would copy it several times; here nothing is copied.

    Raises:
        ValueError: they do not fit into ``length``.
    """
    size = sum(map(len, bulk))
    head = len(content).to_bytes(8, "big") + size.to_bytes(8, "big")
    used = len(head) + len(content) + size
    if used > length:
        raise ValueError(f"{used} bytes do not fit into {length}")
    return (head, content, *bulk, bytes(length - used))


def pad(content: bytes, *, bulk: Buffer = b"", length: int) -> bytes:
    """Return the parts of ``frame``, joined."""
    return b"".join(frame(content, bulk=(bulk,), length=length))


def unpad(data: Buffer, *, what: str) -> tuple[bytes, memoryview]:
    """Return the content of a frame, and its bulk as a read-only view of ``data``.

    Raises:
        MalformedMessageError: a length is wrong, or a byte of the padding is not zero.
    """
    size, bulk = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big")
    if len(data) < 16 or size + bulk > len(data) - 16:
        raise MalformedMessageError(what=what, problem="its length does not fit")
    end = 16 + size + bulk
    if bytes(data[end:]).count(0) != len(data) - end:
        raise MalformedMessageError(what=what, problem="its padding is not zero")
    return bytes(data[16 : 16 + size]), memoryview(data)[16 + size : end].toreadonly()


def padded_length(size: int) -> int:
    """Return the plaintext length of all answers of a stage whose longest content and bulk have ``size`` bytes.

    Signature, digests and names around them fit into what is added.
    """
    return -(-(size + _AROUND) // PADDING_STEP) * PADDING_STEP


def box_length(neighbours: int) -> int:
    """Return the bytes of a box of shares: one of the dealer's own seed, one per neighbour."""
    return (1 + neighbours) * SHARE_LENGTH + BOX_OVERHEAD


def upload_length(lane_bytes: int, *, neighbours: int) -> int:
    """Return the plaintext length of all uploads of a round, for a vector of so many bytes and so many boxes."""
    return padded_length(lane_bytes + neighbours * box_length(neighbours) + (1 + neighbours) * _DIGEST_IN_LIST)


def answer_length(lanes: int) -> int:
    """Return the plaintext length of all answers of an open run whose longest vector has ``lanes`` lanes."""
    return padded_length(lanes * LANE_BYTES)


def to_lanes(values: npt.NDArray[np.int64]) -> bytes:
    """Return integers as int32 little-endian lanes; a value that does not fit raises ``OverflowError``."""
    # Not abs(): the smallest int64 is its own absolute value.
    if values.size and not -LANE_LIMIT <= int(values.min()) <= int(values.max()) <= LANE_LIMIT:
        raise OverflowError("a lane does not fit into 32 bits")
    return values.astype("<i4").tobytes()


def from_lanes(data: bytes, *, what: str, count: int) -> npt.NDArray[np.int64]:
    """Return exactly ``count`` lanes as int64; another length raises ``MalformedMessageError``."""
    if len(data) != count * LANE_BYTES:
        raise MalformedMessageError(
            what=what, problem=f"{count * LANE_BYTES} bytes of lanes are expected, it has {len(data)}"
        )
    return np.frombuffer(data, dtype="<i4").astype(np.int64)


def weights_to_bytes(weights: npt.NDArray[np.float64]) -> bytes:
    """Return weights as float64 little-endian."""
    return weights.astype("<f8").tobytes()


def weights_from_bytes(data: bytes, *, count: int) -> npt.NDArray[np.float64]:
    """Return exactly ``count`` weights of at most ``WEIGHT_LIMIT``; anything else raises ``MalformedMessageError``."""
    if len(data) != count * 8:
        raise MalformedMessageError(what="weights", problem=f"{count * 8} bytes are expected, there are {len(data)}")
    weights = np.frombuffer(data, dtype="<f8").astype(np.float64)
    if not np.isfinite(weights).all():
        raise MalformedMessageError(what="weights", problem="an entry is not finite")
    if np.abs(weights).max(initial=0.0) > WEIGHT_LIMIT:
        raise MalformedMessageError(what="weights", problem="an entry is too large")
    return weights


def sorted_cohort(names: Sequence[str]) -> tuple[str, ...]:
    """Return the cohort in the one order in which it is encoded."""
    return tuple(sorted(names))
