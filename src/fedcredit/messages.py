"""What crosses the wire between coordinator and institution: frozen values and their exact bytes.

    coordinator → institution   Request   signed manifest, weights; the plan and the roster until first answered
    institution → coordinator   Answer    TrainAnswer | CountsAnswer | Refusal, signed, padded to one length

Everything here is inside a sealed envelope (``crypto.sealing``). Encodings are canonical (``encoding``), start with a
version, and refuse unknown fields, wrong types and trailing bytes.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt

from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import MalformedMessageError

WIRE_VERSION: Final = 2
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
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

LARGEST_COHORT: Final = 100_000
NO_HEAD: Final = bytes(32)
"""Stands for a privacy ledger that the coordinator has seen no head of."""

_CODE: Final = re.compile(r"FC-[0-9]{4}")

MessageT = TypeVar("MessageT", bound="Message")


class Purpose(enum.StrEnum):
    """What a request asks for."""

    PREPARE = "prepare"
    TRAIN = "train"
    EVALUATE = "evaluate"


class Message:
    """Base of the wire values: a tag, a version and the dataclass fields, nothing else."""

    TAG: ClassVar[str]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        body: dict[str, Encodable] = {"type": self.TAG, "version": WIRE_VERSION}
        for field in fields(cast(Any, self)):
            value = getattr(self, field.name)
            body[field.name] = list(value) if isinstance(value, tuple) else value
        return encode(body)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode exactly one message of this type; anything else raises ``MalformedMessageError``."""
        value = decode(data, what=cls.TAG, limit=MAX_MESSAGE_BYTES)
        return cls._from_value(value)

    @classmethod
    def _from_value(cls, value: Encodable) -> Self:
        if not isinstance(value, Mapping):
            raise MalformedMessageError(what=cls.TAG, problem="it is not a map")
        if value.get("type") != cls.TAG:
            raise MalformedMessageError(what=cls.TAG, problem="it is of another type")
        # True == 1 in Python, but it is another encoding.
        if value.get("version") is True or value.get("version") != WIRE_VERSION:
            raise MalformedMessageError(what=cls.TAG, problem=f"its version is not {WIRE_VERSION}")
        checks = cls.checks()
        if set(value) != set(checks) | {"type", "version"}:
            raise MalformedMessageError(what=cls.TAG, problem="its fields are not the expected ones")
        arguments: dict[str, Any] = {}
        for name, check in checks.items():
            item = value[name]
            if not check(item):
                raise MalformedMessageError(what=cls.TAG, problem=f"the field {name} has a wrong type or size")
            arguments[name] = tuple(item) if isinstance(item, list) else item
        return cls(**arguments)

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        raise NotImplementedError


def _text(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and 0 < len(value) <= limit


def _natural(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def _octets(limit: int, *, exactly: int | None = None) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, bytes) and len(value) <= limit and exactly in (None, len(value))


def _digests(limit: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list)
        and len(value) <= limit
        and all(isinstance(item, bytes) and len(item) == 32 for item in value)
    )


def _names(limit: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list)
        and len(value) <= limit
        and all(isinstance(item, str) and 0 < len(item) <= 63 for item in value)
        and len({*value}) == len(value)
    )


_DIGEST: Final = _octets(32, exactly=32)
_COUNT: Final = _natural(2**53)


@dataclass(frozen=True, kw_only=True)
class Manifest(Message):
    """What all parties of one round agree on; the coordinator signs it, everything else is bound to its digest."""

    TAG: ClassVar[str] = "manifest"

    consortium: str
    run: str
    round: int
    attempt: int
    purpose: str
    plan_digest: bytes
    roster_digest: bytes
    weights_digest: bytes
    cohort: tuple[str, ...]
    ledger_heads: tuple[bytes, ...]
    """Per member of the cohort: the head of its privacy ledger that the coordinator saw last, or 32 zero bytes. An
    institution whose ledger does not contain it has been set back and releases nothing."""
    quorum: int
    deadline: int
    """Seconds since the epoch."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "consortium": _text(63),
            "run": _text(63),
            "round": _COUNT,
            "attempt": _COUNT,
            "purpose": lambda value: isinstance(value, str) and value in set(Purpose),
            "plan_digest": _DIGEST,
            "roster_digest": _DIGEST,
            "weights_digest": _DIGEST,
            "cohort": _names(LARGEST_COHORT),
            "ledger_heads": _digests(LARGEST_COHORT),
            "quorum": _COUNT,
            "deadline": _COUNT,
        }

    def digest(self) -> bytes:
        """Return SHA-256 of the encoding: the name of this round in every other message."""
        return hashlib.sha256(self.to_bytes()).digest()


@dataclass(frozen=True, kw_only=True)
class Request(Message):
    """What the coordinator sends to one institution."""

    TAG: ClassVar[str] = "request"

    manifest: bytes
    signature: bytes
    weights: bytes
    """Global weights, float64 little-endian."""
    plan: bytes
    """The plan as TOML, or empty once the institution has answered in this run."""
    roster: bytes
    """The encoded roster, or empty likewise."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest": _octets(16 * 1024 * 1024),
            "signature": _octets(64, exactly=64),
            "weights": _octets(MAX_MESSAGE_BYTES),
            "plan": _octets(16 * 1024 * 1024),
            "roster": _octets(64 * 1024 * 1024),
        }


@dataclass(frozen=True, kw_only=True)
class TrainAnswer(Message):
    """One institution's noised integer sum for one round."""

    TAG: ClassVar[str] = "train-answer"

    manifest_digest: bytes
    ledger_head: bytes
    """Head of the institution's privacy ledger, this charge included."""
    lanes: bytes
    """int32 little-endian, one lane per number of the round; zero where the institution has no modality."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"manifest_digest": _DIGEST, "ledger_head": _DIGEST, "lanes": _octets(MAX_MESSAGE_BYTES)}


@dataclass(frozen=True, kw_only=True)
class CountsAnswer(Message):
    """One institution's noised counts: of scores of held-out borrowers, or of categories before the first round."""

    TAG: ClassVar[str] = "counts-answer"

    manifest_digest: bytes
    ledger_head: bytes
    """Head of the institution's privacy ledger, this charge included."""
    lanes: bytes
    """int32 little-endian. Scores: good per bin, then bad per bin. Categories: good and bad of each bin in turn."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"manifest_digest": _DIGEST, "ledger_head": _DIGEST, "lanes": _octets(MAX_MESSAGE_BYTES)}


@dataclass(frozen=True, kw_only=True)
class Refusal(Message):
    """A code instead of an answer. Texts stay with the institution: they could quote its data."""

    TAG: ClassVar[str] = "refusal"

    manifest_digest: bytes
    ledger_head: bytes
    """Head of the institution's privacy ledger."""
    code: str

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest_digest": _DIGEST,
            "ledger_head": _DIGEST,
            "code": lambda value: isinstance(value, str) and _CODE.fullmatch(value) is not None,
        }


@dataclass(frozen=True, kw_only=True)
class Signed(Message):
    """An answer with its sender's signature (HPKE base mode does not authenticate the sender)."""

    TAG: ClassVar[str] = "signed"

    body: bytes
    signature: bytes

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"body": _octets(MAX_MESSAGE_BYTES), "signature": _octets(64, exactly=64)}


def pad(content: bytes, *, length: int) -> bytes:
    """Return an 8-byte big-endian length, ``content``, and zeros up to ``length`` bytes in all.

    Answers of one run have one length, so that neither the relay nor the sizes in a log tell a refusal from an update.
    """
    framed = len(content).to_bytes(8, "big") + content
    if len(framed) > length:
        raise ValueError(f"{len(framed)} bytes do not fit into {length}")
    return framed.ljust(length, b"\0")


def unpad(data: bytes, *, what: str) -> bytes:
    """Return what ``pad`` was given; a wrong length or a byte that is not zero raises ``MalformedMessageError``."""
    size = int.from_bytes(data[:8], "big")
    if len(data) < 8 or size > len(data) - 8:
        raise MalformedMessageError(what=what, problem="its length does not fit")
    if any(data[8 + size :]):
        raise MalformedMessageError(what=what, problem="its padding is not zero")
    return data[8 : 8 + size]


Answer = TrainAnswer | CountsAnswer | Refusal
_ANSWERS: Final[dict[str, type[TrainAnswer] | type[CountsAnswer] | type[Refusal]]] = {
    kind.TAG: kind for kind in (TrainAnswer, CountsAnswer, Refusal)
}


def decode_answer(data: bytes) -> Answer:
    """Decode one answer of any type; the type is what the bytes say, the caller checks that it fits."""
    value = decode(data, what="answer", limit=MAX_MESSAGE_BYTES)
    kind = _ANSWERS.get(str(value.get("type"))) if isinstance(value, Mapping) else None
    if kind is None:
        raise MalformedMessageError(what="answer", problem="its type is not known")
    return kind._from_value(value)


def answer_length(lanes: int) -> int:
    """Return the one plaintext length of all answers in a run whose longest vector has ``lanes`` lanes."""
    content = lanes * LANE_BYTES + 512
    return -(-content // PADDING_STEP) * PADDING_STEP


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
