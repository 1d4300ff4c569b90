"""Manifests, requests and answers of a round (``secagg.wire`` has those that only secure aggregation needs)."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from fedcredit.encoding import decode, encode
from fedcredit.errors import MalformedMessageError
from fedcredit.messages.base import (
    LARGEST_COHORT,
    MAX_MESSAGE_BYTES,
    Message,
    count_field,
    counts_field,
    digest_field,
    digests_field,
    large_count_field,
    names_field,
    octet_lists_field,
    octets_field,
    text_field,
)

NO_HEAD: Final = bytes(32)
"""Stands for a privacy ledger that the coordinator has seen no head of."""
NO_EPOCH: Final = bytes(32)
"""Stands for the epoch of a round with open aggregation."""
LASTING_SIGNATURE_LENGTH: Final = 64 + 3309
"""Ed25519 and ML-DSA-65 (``crypto.signatures``)."""
COSIGNATURE_LIMIT: Final = 256
LOG_PROOF_LIMIT: Final = 64
"""Most digests of one proof in a log: it has fewer than 2^63 entries."""
LARGEST_BLOCKS: Final = 2
"""Most blocks of numbers that a training sum is bounded by."""
LARGEST_RADIUS: Final = 2**62
REASON_LIMIT: Final = 40
NO_VOTE: Final = "none"
"""Vote and reason where the plan says that nobody votes."""

_VOTES: Final = frozenset({"yes", "no", "abstain", NO_VOTE})
_CODE: Final = re.compile(r"FC-[0-9]{4}")


class Purpose(enum.StrEnum):
    """What a request asks for."""

    SETUP = "setup"
    PREPARE = "prepare"
    TRAIN = "train"
    EVALUATE = "evaluate"
    CLOSE = "close"


class Stage(enum.StrEnum):
    """One exchange of messages with all members; the purpose says how many a manifest has."""

    KEYS = "keys"
    ROOTS = "roots"
    ANSWER = "answer"
    """The only one of open aggregation."""
    UPLOAD = "upload"
    ACCEPT = "accept"
    REVEAL = "reveal"
    CLOSE = "close"


_PURPOSES: Final = frozenset(Purpose)
_STAGES: Final = frozenset(Stage)


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
    """Of the first stage, in seconds since 1970; each further one has the plan's time again."""
    epoch: bytes
    """Whose keys mask the uploads; ``NO_EPOCH`` for open aggregation and for the set-up of an epoch."""
    step: int
    """How often the epoch's keys have been used before."""
    log_size: int
    """Entries of the coordinator's log when it signed this."""
    log_root: bytes
    """RFC 6962 root over them: a member follows the log from manifest to manifest and cosigns it."""
    release: int
    """Index of the log's entry that released these weights."""
    radii: tuple[int, ...]
    """In a training round of a plan that bounds updates: the largest norm of every member's sum, per block of numbers,
    member after member. Empty otherwise."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "consortium": text_field(63),
            "run": text_field(63),
            "round": large_count_field(),
            "attempt": large_count_field(),
            "purpose": lambda value: isinstance(value, str) and value in _PURPOSES,
            "plan_digest": digest_field(),
            "roster_digest": digest_field(),
            "weights_digest": digest_field(),
            "cohort": names_field(LARGEST_COHORT),
            "ledger_heads": digests_field(LARGEST_COHORT),
            "quorum": large_count_field(),
            "deadline": large_count_field(),
            "epoch": digest_field(),
            "step": large_count_field(),
            "log_size": large_count_field(),
            "log_root": digest_field(),
            "release": large_count_field(),
            "radii": counts_field(LARGEST_COHORT * LARGEST_BLOCKS, each=LARGEST_RADIUS),
        }

    def digest(self) -> bytes:
        """Return SHA-256 of the encoding: the name of this round in every other message."""
        return hashlib.sha256(self.to_bytes()).digest()


def radii_digest(radii: Sequence[int]) -> bytes:
    """Return SHA-256 of a manifest's radii: what a member's own log says of them, as long for any cohort."""
    return hashlib.sha256(encode(list(radii))).digest()


@dataclass(frozen=True, kw_only=True)
class Request(Message):
    """What the coordinator sends to one institution."""

    TAG: ClassVar[str] = "request"

    manifest: bytes
    signature: bytes
    """By the coordinator's two long-lived signature keys."""
    stage: str
    answer_length: int
    """Plaintext length of every answer of this stage, so that a refusal looks like any other."""
    body: bytes
    """What the stage needs: an encoded message."""
    plan: bytes
    """The plan as TOML, or empty once the institution has answered in this run."""
    roster: bytes
    """The encoded roster, or empty likewise."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest": octets_field(16 * 1024 * 1024),
            "signature": octets_field(LASTING_SIGNATURE_LENGTH, exactly=LASTING_SIGNATURE_LENGTH),
            "stage": lambda value: isinstance(value, str) and value in _STAGES,
            "answer_length": count_field(MAX_MESSAGE_BYTES),
            "body": octets_field(MAX_MESSAGE_BYTES),
            "plan": octets_field(16 * 1024 * 1024),
            "roster": octets_field(64 * 1024 * 1024),
        }


@dataclass(frozen=True, kw_only=True)
class LogProof(Message):
    """That the log of the manifest continues the one of ``size`` entries (RFC 9162 section 2.1.4)."""

    TAG: ClassVar[str] = "log-proof"

    size: int
    path: tuple[bytes, ...]

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"size": large_count_field(), "path": digests_field(LOG_PROOF_LIMIT)}


@dataclass(frozen=True, kw_only=True)
class RoundBody(Message):
    """The first stage of a round: the weights, where they come from, and how the log has grown."""

    TAG: ClassVar[str] = "round-body"

    weights: bytes
    """Global weights, float64 little-endian."""
    release: bytes
    """The log's entry that released them."""
    release_path: tuple[bytes, ...]
    """That it is in the log (RFC 9162 section 2.1.3)."""
    log_proofs: tuple[bytes, ...]
    """Encoded ``LogProof``, one from every size that the recipient may have seen last."""
    roots: tuple[bytes, ...]
    """In the first round of an epoch: the secrets from the recipient's neighbours, in order."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "weights": octets_field(MAX_MESSAGE_BYTES),
            "release": octets_field(64 * 1024),
            "release_path": digests_field(LOG_PROOF_LIMIT),
            "log_proofs": octet_lists_field(1_000, each=64 * 1024),
            "roots": octet_lists_field(LARGEST_COHORT, each=8 * 1024),
        }


@dataclass(frozen=True, kw_only=True)
class NoisedAnswer(Message):
    """One institution's noised numbers for one open round. Each kind has a tag of its own."""

    manifest_digest: bytes
    ledger_head: bytes
    """Head of the institution's privacy ledger, this charge included."""
    cosignature: str
    """Of the log checkpoint that the manifest names (C2SP ``tlog-cosignature``)."""
    lanes: bytes
    """int32 little-endian, one lane per number of the round; zero where the institution has no modality."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest_digest": digest_field(),
            "ledger_head": digest_field(),
            "cosignature": text_field(COSIGNATURE_LIMIT),
            "lanes": octets_field(MAX_MESSAGE_BYTES),
        }


@dataclass(frozen=True, kw_only=True)
class TrainAnswer(NoisedAnswer):
    """The sum of a training round."""

    TAG: ClassVar[str] = "train-answer"


@dataclass(frozen=True, kw_only=True)
class CountsAnswer(NoisedAnswer):
    """Counts: of scores of held-out borrowers, or of categories before the first round.

    Lanes of scores: good per bin, then bad per bin. Of categories: good and bad of each bin in turn.
    """

    TAG: ClassVar[str] = "counts-answer"


@dataclass(frozen=True, kw_only=True)
class CloseAnswer(Message):
    """At the end of a run: the institution has seen the whole log, cosigns it, and votes on the model."""

    TAG: ClassVar[str] = "close-answer"

    manifest_digest: bytes
    ledger_head: bytes
    cosignature: str
    vote: str
    """"yes", "no" or "abstain"; "none" where nobody votes."""
    reason: str
    """Why, a word of ``evaluation.vote.Reason``; "none" where nobody votes."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest_digest": digest_field(),
            "ledger_head": digest_field(),
            "cosignature": text_field(COSIGNATURE_LIMIT),
            "vote": lambda value: isinstance(value, str) and value in _VOTES,
            "reason": text_field(REASON_LIMIT),
        }


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
            "manifest_digest": digest_field(),
            "ledger_head": digest_field(),
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
        return {"body": octets_field(MAX_MESSAGE_BYTES), "signature": octets_field(64, exactly=64)}


Answer = TrainAnswer | CountsAnswer | Refusal
AnswerT = TypeVar("AnswerT", bound=Message)


def decode_answer(data: bytes, *kinds: type[AnswerT]) -> AnswerT:
    """Decode one answer of any of ``kinds``; which one it is, the bytes say."""
    value = decode(data, what="answer", limit=MAX_MESSAGE_BYTES)
    kind = next((kind for kind in kinds if isinstance(value, dict) and value.get("type") == kind.TAG), None)
    if kind is None:
        raise MalformedMessageError(what="answer", problem="it answers another question")
    return kind._from_value(value)
