"""What a plan would do to an institution's privacy budget, told before anything is charged.

It adds up the planned releases as the ledger would, ``Spending.after`` one after the other; ``PrivacyLedger.reserve``
still decides about each when it comes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from fedcredit.messages import Purpose
from fedcredit.privacy.release import Release
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.training.plan_review import InstitutionReview, PlannedRelease


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The first planned release that a cap would refuse."""

    purpose: Purpose
    number: int
    """Its round if it is a training release, else 1."""
    would_be: float
    """The epsilon that it would bring the partition to."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one partition of the ledger has spent, and would have after a plan."""

    partition: str
    cap: BudgetCap
    spent: Spending
    planned: Spending
    """After the plan if no attempt is repeated."""
    at_most: Spending
    """After every repetition that the plan pays for as well."""
    refused: Refused | None
    """The release at which the cap stops the run even if no attempt is repeated."""
    fitting: int
    """How many of the plan's releases the cap lets out, in their order, if every repetition is used."""

    @property
    def releases(self) -> int:
        """Return how many releases the plan has at most."""
        return self.at_most.releases - self.spent.releases


def forecast(
    review: InstitutionReview, *, repetitions: int, spent: Mapping[str, Spending], caps: Mapping[str, BudgetCap]
) -> tuple[Forecast, ...]:
    """Return the forecast of every partition that the plan touches, in the order of its first release.

    ``repetitions`` is how often each kind of release may be asked again (``rounds.retries`` of the plan).

    Raises:
        AccountantError: a partition is priced exactly, and the plan's releases cannot be.
    """
    partitions = dict.fromkeys(item.release.partition for item in review.releases)
    return tuple(
        _of_partition(
            [item for item in review.releases if item.release.partition == name],
            repetitions=repetitions,
            spent=spent[name],
            cap=caps[name],
        )
        for name in partitions
    )


def _of_partition(planned: Sequence[PlannedRelease], *, repetitions: int, spent: Spending, cap: BudgetCap) -> Forecast:
    spent.require_one_price(planned[0].release)
    steps = [(item, number) for item in planned for number in range(1, item.at_most - repetitions + 1)]
    once = _after(spent, [item.release for item, _ in steps])
    repeated = _after(spent, [item.release for item in planned for _ in range(item.at_most)])
    # The ledger compares no cap with a release that protects nobody; policy alone decides about that.
    protects = all(item.release.protects for item in planned)
    first = _fitting(once, cap) if protects else len(once)
    refused = None
    if first < len(once):
        item, number = steps[first]
        refused = Refused(purpose=item.purpose, number=number, would_be=once[first].epsilon)
    return Forecast(
        partition=planned[0].release.partition,
        cap=cap,
        spent=spent,
        planned=once[-1],
        at_most=repeated[-1],
        refused=refused,
        fitting=_fitting(repeated, cap) if protects else len(repeated),
    )


def _after(spent: Spending, releases: Sequence[Release]) -> list[Spending]:
    """Return the spending after each of the releases."""
    return list(accumulate(releases, Spending.after, initial=spent))[1:]


def _fitting(after: Sequence[Spending], cap: BudgetCap) -> int:
    """Return how many releases a cap lets out, as the ledger compares: epsilon must not be above it."""
    # Epsilon only grows, and working it out thousands of times would take seconds.
    return bisect_right(after, cap.epsilon, key=lambda state: state.epsilon)
