"""What the privacy ledger writes down: an opening, charges, amendments. **A stored field never changes its meaning.**

Real numbers are stored as ``float.hex`` text: every bit, one spelling. Times are whole seconds since 1970.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from fedcredit.encoding import DIGEST_LENGTH, Encodable, decode, encode
from fedcredit.errors import AmendmentError, ConfigValueError, MalformedMessageError, PrivacyPlanError
from fedcredit.parties import InstitutionId, institution_id
from fedcredit.privacy.accounting import check_delta, check_epsilon
from fedcredit.privacy.release import Release
from fedcredit.privacy.spending import BudgetCap
from fedcredit.store.journal import Entry

OPENED_KIND: Final = "ledger-opened"
CHARGE_KIND: Final = "privacy-charge"
AMENDED_KIND: Final = "cap-amended"
LEDGER_VERSION: Final = 2
"""Of every kind of entry. Version 1 had charges only, without plan and time."""
_LARGEST_ENTRY: Final = 16_384
LARGEST_TIME: Final = 253_402_300_799
"""The last second of the year 9999: a later one is no date."""
_LONGEST_NAME: Final = 100
_LONGEST_REASON: Final = 500
_MOST_APPROVERS: Final = 10


@dataclass(frozen=True, kw_only=True)
class LedgerOpened:
    """The first entry of a ledger, or the one after the last charge of version 1.

    Raises:
        ConfigValueError: the institution's name breaks the rules for names.
    """

    time: int
    institution: InstitutionId
    caps: Mapping[str, BudgetCap]
    """Per partition, as node.toml had them; they change by an amendment only."""
    salt: bytes
    """32 random bytes: other parties see heads of the chain, and must not guess from them what is in it."""

    def __post_init__(self) -> None:
        """Refuse a name that could be stored but never read again."""
        institution_id(self.institution)
        if len(self.salt) != DIGEST_LENGTH:
            raise PrivacyPlanError(problem=f"the salt of a ledger has {DIGEST_LENGTH} bytes, not {len(self.salt)}")

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        caps = {name: {"epsilon": _stored(cap.epsilon), "delta": _stored(cap.delta)} for name, cap in self.caps.items()}
        return encode(
            {
                "version": LEDGER_VERSION,
                "institution": self.institution,
                "time": self.time,
                "caps": caps,
                "salt": self.salt,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One release that was charged before anything was computed for it.

    Raises:
        PrivacyPlanError: ``plan`` is no digest.
    """

    release: Release
    delta: float
    plan: bytes | None
    """Digest of the run plan that asked for it; ``None`` in version 1, which did not say."""
    time: int | None
    """``None`` in version 1."""

    def __post_init__(self) -> None:
        """Refuse what could be stored but never read again."""
        if self.plan is not None and len(self.plan) != DIGEST_LENGTH:
            raise PrivacyPlanError(problem=f"the digest of a plan has {DIGEST_LENGTH} bytes, not {len(self.plan)}")

    @property
    def run(self) -> str:
        """The run that the release belongs to; release ids are "run/round/attempt/kind"."""
        # From the right: the coordinator chooses the run's name, and one with "/" must not hide its charges.
        return self.release.release_id.rsplit("/", 3)[0]

    @property
    def kind(self) -> str:
        """What the release was for: the last part of its id, as "train", "prepare" or "evaluate"."""
        return self.release.release_id.rsplit("/", 1)[-1]

    @property
    def round(self) -> str:
        """The round as the release id spells it; empty if the id has another form."""
        parts = self.release.release_id.rsplit("/", 3)
        return parts[1] if len(parts) == 4 else ""

    def to_bytes(self) -> bytes:
        """Return the canonical encoding in the newest version."""
        return encode(
            {
                "version": LEDGER_VERSION,
                "release": self.release.to_bytes(),
                "delta": _stored(self.delta),
                "plan": self.plan,
                "time": self.time,
            }
        )


@dataclass(frozen=True, kw_only=True)
class CapAmended:
    """A new cap of one partition, on the word of at least two people; delta stays.

    Raises:
        AmendmentError: fewer than two different names, or a text that is empty, too long or not one line.
    """

    time: int
    partition: str
    epsilon: float
    approvers: tuple[str, ...]
    reason: str

    def __post_init__(self) -> None:
        """Refuse an amendment that nobody, or one person alone, answers for."""
        _require(_is_line(self.reason, _LONGEST_REASON), f"a reason is one line of 1 to {_LONGEST_REASON} characters")
        _require(
            all(_is_line(name, _LONGEST_NAME) for name in self.approvers),
            f"the name of an approver is one line of 1 to {_LONGEST_NAME} characters",
        )
        persons = {_person(name) for name in self.approvers}
        _require(
            2 <= len(persons) == len(self.approvers) <= _MOST_APPROVERS,
            f"it takes two different approvers, at most {_MOST_APPROVERS}",
        )

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(
            {
                "version": LEDGER_VERSION,
                "partition": self.partition,
                "epsilon": _stored(self.epsilon),
                "approvers": list(self.approvers),
                "reason": self.reason,
                "time": self.time,
            }
        )


LedgerEntry: TypeAlias = LedgerOpened | Charge | CapAmended


def tidy(text: str) -> str:
    """Return a typed text as it is stored: in normal form C, without space around it."""
    return unicodedata.normalize("NFC", text).strip()


def decode_entry(entry: Entry) -> LedgerEntry:
    """Return what a journal entry says; all of it is understood.

    Raises:
        MalformedMessageError, MessageTooLargeError: another kind, version, field, type or range.
        PrivacyPlanError, UnknownMechanismError: a number or a mechanism that cannot be accounted for.
        AmendmentError: an amendment that nobody answers for.
    """
    if entry.kind == CHARGE_KIND:
        return _charge(_fields(entry, "charge"))
    if entry.kind == OPENED_KIND:
        return _opened(_fields(entry, "opening"))
    if entry.kind == AMENDED_KIND:
        return _amended(_fields(entry, "amendment"))
    raise MalformedMessageError(what="ledger entry", problem="its kind is unknown")


def _charge(fields: Mapping[str, Encodable]) -> Charge:
    what, plan, time = "charge", None, None
    if _version(fields, what, oldest=1) == 1:
        _exactly(fields, what, "release", "delta")
    else:
        _exactly(fields, what, "release", "delta", "plan", "time")
        plan, time = _typed(fields, what, "plan", bytes), _time(fields, what)
    delta = _number(fields, what, "delta")
    check_delta(delta)
    return Charge(release=Release.from_bytes(_typed(fields, what, "release", bytes)), delta=delta, plan=plan, time=time)


def _opened(fields: Mapping[str, Encodable]) -> LedgerOpened:
    what = "opening"
    _version(fields, what, oldest=LEDGER_VERSION)
    _exactly(fields, what, "institution", "time", "caps", "salt")
    caps = {}
    for name, cap in _typed(fields, what, "caps", dict).items():
        if not isinstance(cap, Mapping) or set(cap) != {"epsilon", "delta"}:
            raise MalformedMessageError(what=what, problem="a cap has other fields than epsilon and delta")
        caps[name] = BudgetCap(epsilon=_number(cap, what, "epsilon"), delta=_number(cap, what, "delta"))
    institution = InstitutionId(_typed(fields, what, "institution", str))
    try:
        salt = _typed(fields, what, "salt", bytes)
        return LedgerOpened(time=_time(fields, what), institution=institution, caps=caps, salt=salt)
    except ConfigValueError as error:
        raise MalformedMessageError(what=what, problem="its institution has no possible name") from error
    except PrivacyPlanError as error:
        raise MalformedMessageError(what=what, problem="its salt has another length") from error


def _amended(fields: Mapping[str, Encodable]) -> CapAmended:
    what = "amendment"
    _version(fields, what, oldest=LEDGER_VERSION)
    _exactly(fields, what, "partition", "epsilon", "approvers", "reason", "time")
    epsilon = _number(fields, what, "epsilon")
    check_epsilon(epsilon)
    names: list[object] = _typed(fields, what, "approvers", list)
    return CapAmended(
        time=_time(fields, what),
        partition=_typed(fields, what, "partition", str),
        epsilon=epsilon,
        approvers=tuple(_text(name, what) for name in names),
        reason=_typed(fields, what, "reason", str),
    )


T = TypeVar("T")


def _fields(entry: Entry, what: str) -> Mapping[str, Encodable]:
    value = decode(entry.body, what=what, limit=_LARGEST_ENTRY)
    if not isinstance(value, Mapping) or "version" not in value:
        raise MalformedMessageError(what=what, problem="its fields are not the expected ones")
    return value


def _version(fields: Mapping[str, Encodable], what: str, *, oldest: int) -> int:
    version = fields["version"]
    if type(version) is not int or not oldest <= version <= LEDGER_VERSION:
        raise MalformedMessageError(what=what, problem="its version is unknown")
    return version


def _exactly(fields: Mapping[str, Encodable], what: str, *names: str) -> None:
    if set(fields) != {"version", *names}:
        raise MalformedMessageError(what=what, problem="its fields are not the expected ones")


def _typed(fields: Mapping[str, Encodable], what: str, name: str, kind: type[T]) -> T:
    value = fields[name]
    # The exact type: a boolean is no number.
    if type(value) is not kind:
        raise MalformedMessageError(what=what, problem=f"{name} has the wrong type")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise MalformedMessageError(what=what, problem="a name has the wrong type")
    return value


def _time(fields: Mapping[str, Encodable], what: str) -> int:
    time = _typed(fields, what, "time", int)
    if not 0 <= time <= LARGEST_TIME:
        raise MalformedMessageError(what=what, problem="its time is out of range")
    return time


def _stored(number: float) -> str:
    return float(number).hex()


def _number(fields: Mapping[str, Encodable], what: str, name: str) -> float:
    text = _typed(fields, what, name, str)
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError) as error:
        raise MalformedMessageError(what=what, problem=f"its {name} is not a number") from error


def _is_line(text: str, longest: int) -> bool:
    return text.isprintable() and tidy(text) == text and 0 < len(text) <= longest


def _person(name: str) -> str:
    """Return a name so that two spellings of one person are equal: case, width of letters and spaces do not count."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise AmendmentError(problem=problem)
