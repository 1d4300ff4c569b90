"""A release: one thing that leaves an institution as a function of private rows, described so that it can be charged.

What was done is kept apart from what it costs (``accounting``): a better accountant may re-read an old ledger.
**The meaning of a stored field never changes**; a new meaning takes a new version number.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, cast

from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import MalformedMessageError, PrivacyPlanError, UnknownMechanismError

RELEASE_VERSION: Final = 2
"""Version 1 had neither ``honest_shares`` nor ``sampled_per_million``; it meant 1 share and full batches."""
FULL_BATCH: Final = 1_000_000
BORROWER: Final = "borrower"
ADD_OR_REMOVE_ONE: Final = "add-or-remove-one"

SMALLEST_SIGMA: Final = 8
"""Below it the grid is so coarse that clipping and rounding, not noise, decide the error."""
LARGEST_SIGMA: Final = 200_000
"""Above it the noise table leaves every cache and takes minutes to build."""
SAMPLER_DISTANCE_BITS: Final = -66
"""log2 of the total-variation distance that is charged per number drawn; ``noise`` refuses a table above it."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")
_PURPOSE_LENGTH: Final = 200
_LARGEST_ENCODING: Final = 4096
_LARGEST_DIMENSION: Final = 1 << 31


class Mechanism(enum.StrEnum):
    """How the released numbers are protected."""

    ROUNDED_GAUSSIAN = "rounded-gaussian"
    """Integer vector of L2 sensitivity sqrt(``sensitivity_squared``), plus round(N(0, ``sigma``^2)) per number."""
    SKELLAM = "skellam"
    """The same, plus the difference of two Poisson numbers with variance ``sigma``^2 in all."""
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    """The same, plus an integer k with probability proportional to exp(-k^2 / 2 ``sigma``^2)."""
    NONE = "none"
    """Nothing is added; nobody is protected."""

    @classmethod
    def parse(cls, text: object) -> Mechanism:
        """Return the mechanism of that name.

        Raises:
            UnknownMechanismError: the accountant has no such mechanism, so it cannot be charged.
        """
        for mechanism in cls:
            if text == mechanism.value:
                return mechanism
        raise UnknownMechanismError(mechanism=str(text)[:40], known=", ".join(cls))


@dataclass(frozen=True, kw_only=True)
class Release:
    """One integer vector that leaves an institution, with everything that decides its privacy.

    Raises:
        PrivacyPlanError: a field is out of range, or the fields contradict each other.
        UnknownMechanismError: ``mechanism`` is not one of ``Mechanism``.
    """

    release_id: str
    """Names the release for ever, for example "run/round/attempt/kind"."""
    partition: str
    """The disjoint set of borrowers it is computed from, for example "train" or "holdout"."""
    purpose: str
    """What it is for, in words for a report."""
    mechanism: Mechanism
    unit: str
    """Whose presence is protected: "borrower", one borrower with all rows at the institution."""
    neighbours: str
    """Which data sets must look alike: "add-or-remove-one" unit."""
    sensitivity_squared: int
    """Bound on the squared L2 norm by which one unit changes the integer vector, in grid units; 0 says that there is no
    bound, for ``NONE`` only."""
    sigma: int
    """Deviation of the noise per number, in grid units; 0 for ``NONE`` only."""
    dimension: int
    """How many numbers are released."""
    honest_shares: int
    """How many shares of deviation ``sigma`` carry the claim: 1 if the message is private alone; more if only the sum
    of all institutions' messages is claimed to be, and at least so many honest ones are in it."""
    sampled_per_million: int
    """Chance of each unit to be in the batch, drawn anew for this release; 1,000,000 for everybody."""
    test_noise: bool
    """The noise is fixed and repeatable: it protects nobody and marks whatever is made from it."""

    def __post_init__(self) -> None:
        """Refuse a description that cannot be charged."""
        for name, text in (("release_id", self.release_id), ("partition", self.partition)):
            _require(_NAME.fullmatch(text) is not None, f"{name} must be 1 to 200 of A-Z a-z 0-9 . _ : / -")
        _require(
            self.purpose.isprintable() and 0 < len(self.purpose) <= _PURPOSE_LENGTH,
            "purpose must be one line of text",
        )
        _require(unicodedata.is_normalized("NFC", self.purpose), "purpose must be in normal form C")
        _require(self.unit == BORROWER, f'the unit must be "{BORROWER}"')
        _require(self.neighbours == ADD_OR_REMOVE_ONE, f'the relation must be "{ADD_OR_REMOVE_ONE}"')
        # The type as well: False == 0, but it would be stored as something that never decodes again.
        none = type(self.sensitivity_squared) is int and self.sensitivity_squared == 0
        if not (none and self.mechanism == Mechanism.NONE):
            _require_count("sensitivity_squared", self.sensitivity_squared, largest=1 << 96)
        _require_count("dimension", self.dimension, largest=_LARGEST_DIMENSION)
        _require_count("honest_shares", self.honest_shares, largest=100_000)
        _require_count("sampled_per_million", self.sampled_per_million, largest=FULL_BATCH)
        _require(type(self.test_noise) is bool, "test_noise must be true or false")
        if Mechanism.parse(self.mechanism) is Mechanism.NONE:
            _require(self.sigma == 0 and not self.test_noise, 'mechanism "none" has no noise')
            _require(self.honest_shares == 1, 'mechanism "none" has no noise to share')
        else:
            _require(
                type(self.sigma) is int and SMALLEST_SIGMA <= self.sigma <= LARGEST_SIGMA,
                f"sigma must be an integer from {SMALLEST_SIGMA} to {LARGEST_SIGMA}",
            )
            sampled = self.sampled_per_million != FULL_BATCH
            _require(
                not sampled or self.mechanism is Mechanism.ROUNDED_GAUSSIAN,
                f'batches are sampled with mechanism "{Mechanism.ROUNDED_GAUSSIAN}" only',
            )

    @property
    def protects(self) -> bool:
        """Whether the release has a finite cost: it has noise, and nobody can repeat that noise."""
        return self.mechanism is not Mechanism.NONE and not self.test_noise

    @property
    def is_gaussian(self) -> bool:
        """Whether its cost is exactly that of a Gaussian mechanism, so that mu^2 adds up."""
        return self.mechanism is Mechanism.ROUNDED_GAUSSIAN and self.sampled_per_million == FULL_BATCH

    @property
    def variance(self) -> int:
        """The variance of the noise that the claim rests on, per number: that of all honest shares together."""
        return self.honest_shares * self.sigma * self.sigma

    @property
    def sampler_distance(self) -> Fraction:
        """Bound on the total-variation distance of the noise from the stated law: 2**-66 per number and share."""
        return Fraction(self.dimension * self.honest_shares, 1 << -SAMPLER_DISTANCE_BITS) if self.sigma else Fraction(0)

    def alone(self) -> Release:
        """Return what the release is to somebody who reads this message without the others: one share is left."""
        return self._alone

    @cached_property
    def _alone(self) -> Release:
        return replace(self, honest_shares=1)

    def to_bytes(self) -> bytes:
        """Return the canonical encoding in the newest version: equal releases have equal bytes."""
        return encode({"version": RELEASE_VERSION, **{name: _plain(getattr(self, name)) for name in _FIELDS}})

    @classmethod
    def from_bytes(cls, data: bytes) -> Release:
        """Decode exactly one release of a known version.

        Raises:
            MalformedMessageError, MessageTooLargeError: other bytes, fields, types, ranges or another version.
            UnknownMechanismError: the mechanism is not one this version can account for.
        """
        value, known = _versioned(decode(data, what="release", limit=_LARGEST_ENCODING))
        for name, kind in known.items():
            if type(value[name]) is not kind:
                raise MalformedMessageError(what="release", problem=f"{name} has the wrong type")
        fields = {**_VERSION_1, **{name: value[name] for name in known if name != "mechanism"}}
        mechanism = Mechanism.parse(value["mechanism"])
        try:
            return cls(mechanism=mechanism, **cast("dict[str, Any]", fields))
        except PrivacyPlanError as error:
            raise MalformedMessageError(what="release", problem=str(error.fields["problem"])) from error


_FIELDS: Final[Mapping[str, type]] = {
    "release_id": str,
    "partition": str,
    "purpose": str,
    "mechanism": str,
    "unit": str,
    "neighbours": str,
    "sensitivity_squared": int,
    "sigma": int,
    "dimension": int,
    "honest_shares": int,
    "sampled_per_million": int,
    "test_noise": bool,
}
_VERSION_1: Final = {"honest_shares": 1, "sampled_per_million": FULL_BATCH}
"""What version 1 did not say, because nothing else existed."""


def _versioned(value: Encodable) -> tuple[Mapping[str, Encodable], Mapping[str, type]]:
    """Return the fields of a release and their types in its version."""
    if not isinstance(value, Mapping):
        raise MalformedMessageError(what="release", problem="its fields are not those of a release")
    version = value.get("version")
    if type(version) is not int or not 1 <= version <= RELEASE_VERSION:
        raise MalformedMessageError(what="release", problem="its version is unknown")
    fields = {name: kind for name, kind in _FIELDS.items() if version > 1 or name not in _VERSION_1}
    if set(value) != {"version", *fields}:
        raise MalformedMessageError(what="release", problem="its fields are not those of a release")
    return value, fields


def _plain(value: Encodable) -> Encodable:
    return value.value if isinstance(value, Mechanism) else value


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise PrivacyPlanError(problem=problem)


def _require_count(name: str, value: int, *, largest: int) -> None:
    if type(value) is not int or not 1 <= value <= largest:
        raise PrivacyPlanError(problem=f"{name} must be an integer from 1 to {largest}")
