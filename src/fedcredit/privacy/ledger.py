"""The privacy ledger of one institution: what its borrowers' privacy has been spent on. Nothing is ever refunded.

``reserve`` puts the charge on disk and returns the ``Reservation`` without which ``noise_share`` draws no noise:
reserve before release. After any crash, what is written is at least what left.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Never

from fedcredit.encoding import decode, encode
from fedcredit.errors import (
    BudgetExhaustedError,
    FixedNoiseRefusedError,
    LedgerCorruptError,
    MalformedMessageError,
    NotReservedError,
    PrivacyError,
    PrivacyOffRefusedError,
    PrivacyPlanError,
    ReleaseConflictError,
    SecurityError,
    StoreCorruptError,
)
from fedcredit.privacy.accounting import check_delta, check_epsilon, epsilon_with_sampler, root_up
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.store.journal import Entry, Journal

CHARGE_KIND: Final = "privacy-charge"
CHARGE_VERSION: Final = 1
_LARGEST_CHARGE: Final = 8192
_ISSUED_BY_A_LEDGER: Final = object()


@dataclass(frozen=True, kw_only=True)
class BudgetCap:
    """The most that an institution lets one partition spend in its whole life.

    Raises:
        PrivacyPlanError: epsilon outside 1e-6 to 100, or delta outside 1e-15 to 0.01.
    """

    epsilon: float
    delta: float
    """Fixed by the first charge: what was spent is only comparable at one delta."""

    def __post_init__(self) -> None:
        """Refuse a cap that cannot be accounted for."""
        check_epsilon(self.epsilon)
        check_delta(self.delta)


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What one partition has spent."""

    mu_squared: Fraction
    """Exact sum over the releases that protect."""
    sampler_distance: Fraction
    """Sum of the releases' distances from their stated noise; part of what ``delta`` pays for."""
    delta: float
    releases: int
    unprotected: int
    """How many of the releases had no noise, or noise that anyone can repeat."""

    @property
    def mu(self) -> float:
        """The Gaussian-differential-privacy parameter, rounded up; infinite after an unprotected release."""
        return math.inf if self.unprotected else root_up(self.mu_squared)

    @property
    def epsilon(self) -> float:
        """The epsilon at ``delta``, sampler included, rounded up; infinite after an unprotected release."""
        return epsilon_with_sampler(self.mu, self.delta, distance=self.sampler_distance)

    def after(self, release: Release) -> Spending:
        """Return the spending once ``release`` is charged as well."""
        if not release.protects:
            return replace(self, releases=self.releases + 1, unprotected=self.unprotected + 1)
        return replace(
            self,
            releases=self.releases + 1,
            mu_squared=self.mu_squared + release.mu_squared,
            sampler_distance=self.sampler_distance + release.sampler_distance,
        )


class Reservation:
    """The right to draw the noise of one release once; only a ledger makes one, after the charge is on disk.

    Raises:
        NotReservedError: somebody else tried to make one.
    """

    __slots__ = ("_unused", "release", "repeated")

    def __init__(self, release: Release, *, repeated: bool, issuer: object) -> None:
        if issuer is not _ISSUED_BY_A_LEDGER:
            raise NotReservedError(release=release.release_id)
        self.release: Final = release
        self.repeated: Final = repeated
        """The release was charged before, so its noise may have left already: send the stored bytes again, or ask for
        a new attempt. A repeated reservation draws no noise."""
        self._unused = [] if repeated else [True]

    def use(self) -> Release:
        """Return the release and end the reservation: two noise vectors for one charge would halve the noise.

        Raises:
            NotReservedError: the noise was drawn before, by this process or an earlier one.
        """
        try:
            self._unused.pop()
        except IndexError:
            raise NotReservedError(release=self.release.release_id) from None
        return self.release

    def __reduce__(self) -> Never:
        raise TypeError("a reservation is neither copied nor stored; the ledger is")


class PrivacyLedger:
    """The charges of one institution, kept in ``journal``; the only writer of that journal while it is open.

    ``place`` is what errors call the ledger, a path. ``caps`` holds the institution's own budget per partition.
    Opening checks the chain and every entry.

    Raises:
        LedgerCorruptError: the chain is broken, or an entry is not one this version fully understands.
        PrivacyPlanError: a cap's delta is not the one that the partition was charged at before.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        place: str,
        caps: Mapping[str, BudgetCap],
        allow_no_privacy: bool,
        allow_fixed_noise: bool,
    ) -> None:
        self._journal = journal
        self._place = place
        self._caps = MappingProxyType(dict(caps))
        self._allow_no_privacy = allow_no_privacy
        self._allow_fixed_noise = allow_fixed_noise
        self._lock = threading.Lock()
        self._charged: dict[str, bytes] = {}
        self._per_run: Counter[tuple[str, str]] = Counter()
        self._spending: dict[str, Spending] = {}
        self._length = 0
        with self._storage_errors():
            journal.verify()
            for entry in journal.entries():
                self._replay(entry)
        for partition in self._caps.keys() & self._spending.keys():
            self._check_delta(partition)

    def reserve(self, release: Release) -> Reservation:
        """Charge ``release`` durably, or find it charged already, and return the reservation.

        The same release again costs nothing and comes back ``repeated``. Must not run inside an outer transaction of
        the journal's database: the charge would be durable only later. When anything is raised, nothing was charged,
        unless the disk itself failed; then opening the ledger again tells.

        Raises:
            BudgetExhaustedError: the partition's epsilon would exceed its cap.
            ReleaseConflictError: the release id was charged with other content.
            PrivacyOffRefusedError, FixedNoiseRefusedError: it protects nobody, and the institution has not agreed.
            PrivacyPlanError: the institution has no cap for the partition.
            LedgerCorruptError: somebody else wrote to the journal, or undid what this ledger wrote.
            StorageError: the charge could not be written.
        """
        with self._lock, self._storage_errors():
            self._check_sole_writer()
            content = release.to_bytes()
            before = self._charged.get(release.release_id)
            if before is not None and before != content:
                raise ReleaseConflictError(release=release.release_id)
            if before is None:
                self._charge(release, content)
            return Reservation(release, repeated=before is not None, issuer=_ISSUED_BY_A_LEDGER)

    def charges(self, *, run: str, partition: str) -> int:
        """Return how many releases of a run were charged to ``partition``; ids are "run/round/attempt/kind"."""
        return self._per_run[run, partition]

    def spent(self, partition: str) -> Spending:
        """Return what ``partition`` has spent so far.

        Raises:
            PrivacyPlanError: the partition has neither a charge nor a cap, so it has no delta either.
        """
        known = self._spending.get(partition)
        if known is not None:
            return known
        return Spending(
            mu_squared=Fraction(0),
            sampler_distance=Fraction(0),
            delta=self._cap(partition).delta,
            releases=0,
            unprotected=0,
        )

    def _charge(self, release: Release, content: bytes) -> None:
        spent = self.spent(release.partition)
        would_be = spent.after(release)
        self._check_allowed(release, spent=spent, would_be=would_be)
        entry = self._journal.append(
            CHARGE_KIND, encode({"version": CHARGE_VERSION, "release": content, "delta": spent.delta.hex()})
        )
        self._remember(entry, release, would_be)

    def _check_allowed(self, release: Release, *, spent: Spending, would_be: Spending) -> None:
        cap = self._cap(release.partition)
        if release.mechanism is Mechanism.NONE and not self._allow_no_privacy:
            raise PrivacyOffRefusedError
        if release.test_noise and not self._allow_fixed_noise:
            raise FixedNoiseRefusedError
        if release.protects and would_be.epsilon > cap.epsilon:
            raise BudgetExhaustedError(
                release=release.release_id,
                partition=release.partition,
                spent=spent.epsilon,
                would_be=would_be.epsilon,
                cap=cap.epsilon,
            )

    def _replay(self, entry: Entry) -> None:
        try:
            release, delta = _decode_charge(entry)
        except (PrivacyError, SecurityError) as error:
            raise self._corrupt(entry.index, error.describe("en").rstrip(".")) from error
        before = self._spending.get(release.partition)
        if before is not None and before.delta != delta:
            raise self._corrupt(entry.index, f"the delta of {release.partition} changes")
        if release.release_id in self._charged:
            raise self._corrupt(entry.index, "the release was charged before")
        if before is None:
            before = Spending(
                mu_squared=Fraction(0), sampler_distance=Fraction(0), delta=delta, releases=0, unprotected=0
            )
        self._remember(entry, release, before.after(release))

    def _remember(self, entry: Entry, release: Release, spending: Spending) -> None:
        self._charged[release.release_id] = release.to_bytes()
        # From the right: the coordinator chooses the run's name, and one with "/" must not hide its charges.
        run = release.release_id.rsplit("/", 3)[0]
        self._per_run[run, release.partition] += 1
        self._spending[release.partition] = spending
        self._length = entry.index + 1

    def _check_sole_writer(self) -> None:
        length = len(self._journal)
        if length != self._length:
            raise self._corrupt(min(length, self._length), "the journal changed behind the ledger's back")

    def _check_delta(self, partition: str) -> None:
        fixed, wanted = self._spending[partition].delta, self._caps[partition].delta
        if fixed != wanted:
            raise PrivacyPlanError(
                problem=f"delta of {partition} was fixed at {fixed!r} by its first charge, the cap says {wanted!r}"
            )

    def _cap(self, partition: str) -> BudgetCap:
        try:
            return self._caps[partition]
        except KeyError:
            raise PrivacyPlanError(problem=f"this institution has no budget for the partition {partition}") from None

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except StoreCorruptError as error:
            problem = str(error.fields["problem"])
            # The store names the entry in its text alone; damage of the whole file has none and counts as the first.
            named = re.search(r"\bentry (\d+)", problem)
            raise self._corrupt(int(named.group(1)) if named else 0, problem) from error

    def _corrupt(self, index: int, problem: str) -> LedgerCorruptError:
        return LedgerCorruptError(path=self._place, index=index, problem=problem)


def _decode_charge(entry: Entry) -> tuple[Release, float]:
    if entry.kind != CHARGE_KIND:
        raise MalformedMessageError(what="ledger entry", problem="its kind is unknown")
    value = decode(entry.body, what="charge", limit=_LARGEST_CHARGE)
    if not isinstance(value, Mapping) or set(value) != {"version", "release", "delta"}:
        raise MalformedMessageError(what="charge", problem="its fields are not those of a charge")
    version, release, delta = value["version"], value["release"], value["delta"]
    if type(version) is not int or version != CHARGE_VERSION:
        raise MalformedMessageError(what="charge", problem="its version is unknown")
    if not isinstance(release, bytes) or not isinstance(delta, str):
        raise MalformedMessageError(what="charge", problem="a field has the wrong type")
    try:
        number = float.fromhex(delta)
    except (ValueError, OverflowError) as error:
        raise MalformedMessageError(what="charge", problem="its delta is not a number") from error
    check_delta(number)
    return Release.from_bytes(release), number
