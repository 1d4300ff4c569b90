"""The acceptance table of a simulated world: what it should do, and what it did."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from fedcredit.lab.rank_power import RankPower, rank_power
from fedcredit.lab.world_tally import MONTHS, Applications, Tally, new_year_months
from fedcredit.simulator.economy import BEV, COMM, ICE, PHEV
from fedcredit.simulator.generate import Plan
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import logistic
from fedcredit.simulator.repayment import YEAR

STANDARD_ERRORS: Final = 3.0
"""A figure this many standard errors outside its target is called outside; for normal errors 3 in 1,000 of them."""
CALIBRATION: Final = 0.03
"""Relative standard error of the default rate that a member's intercept aims at."""
ALL: Final = "all"
Verdict = Literal["inside", "within noise", "outside"]
_RETENTION: Final = {ICE: ("ICE", 0.60), PHEV: ("PHEV", 0.50), BEV: ("BEV", 0.45), COMM: ("COMM", 0.52)}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line of the acceptance table."""

    name: str
    member: str
    low: float
    high: float
    value: float
    error: float
    """Standard error of ``value``."""

    @property
    def verdict(self) -> Verdict:
        """Return how the figure stands to its target."""
        if self.low <= self.value <= self.high:
            return "inside"
        room = STANDARD_ERRORS * self.error
        return "within noise" if self.low - room <= self.value <= self.high + room else "outside"


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """The table and what its figures are drawn from."""

    facts: tuple[Fact, ...]
    power: RankPower


def acceptance(planned: Plan, counts: Tally) -> Acceptance:
    """Return the acceptance table of a world."""
    numbers = planned.world.numbers
    power = rank_power(counts.applications, cut=int(numbers.calendar.oot_month))
    books = {name: Applications.stack(parts) for name, parts in counts.applications.items()}
    control = planned.world.scenario == "negative_control"
    facts = [
        *(fact for name, book in books.items() for fact in _by_member(numbers, name, book, control=control)),
        *_pooled(Applications.stack(list(books.values()))),
        *_chain(numbers, counts),
        *_ranks(power, control=control),
        *_claims(counts),
        *_prices(planned),
        *_missing(numbers, Applications.stack(list(books.values()))),
        *_overlaps(counts),
    ]
    return Acceptance(facts=tuple(facts), power=power)


def own_target(numbers: Section, member: str) -> float:
    """Return the default rate of a member's own contracts: a bank's guaranteed ones are not among them."""
    rules = numbers.members[member]
    target = float(rules.pd12)
    for place, fund in enumerate(("G1", "G2")):
        copies = rules.guaranteed[place] * numbers.members[fund].accepted / rules.accepted
        target -= float(copies * (numbers.members[fund].pd12 - rules.pd12))
    return target


def _by_member(numbers: Section, name: str, book: Applications, *, control: bool) -> Iterator[Fact]:
    accepted, target = book["accepted"], own_target(numbers, name)
    bad = _bad(book)[accepted]
    noise = math.sqrt(target * (1 - target) / bad.size + (CALIBRATION * target) ** 2)
    yield Fact(name="pd12", member=name, low=target, high=target, value=float(bad.mean()), error=noise)
    if control:  # without correlated traits an officer sees less, and so chooses less well
        return
    taken, rejected = book["pd"][accepted], book["pd"][~accepted]
    ratio = float(rejected.mean() / taken.mean())
    error = ratio * math.hypot(_relative(taken), _relative(rejected))
    yield Fact(name="rejected_over_accepted", member=name, low=2, high=4, value=ratio, error=error)


def _bad(book: Applications) -> np.ndarray:
    flags: np.ndarray = (book["default_month"] > 0) & (book["default_month"] <= YEAR)
    return flags


def _relative(values: np.ndarray) -> float:
    return float(values.std() / math.sqrt(values.size) / values.mean())


def _pooled(book: Applications) -> Iterator[Fact]:
    accepted = book["accepted"]
    default, bad = book["default_month"][accepted], _bad(book)[accepted]
    old = book["month"][accepted] <= 36
    first, third = int((bad & old).sum()), int(((default > 0) & (default <= 36) & old).sum())
    error = third / first * math.sqrt(1 / first - 1 / third)
    yield Fact(name="cum36_over_pd12", member=ALL, low=2.5, high=3.5, value=third / first, error=error)
    late = int(book["ever_30"][accepted].sum())
    error = late / bad.sum() * math.sqrt(1 / bad.sum() - 1 / late)
    yield Fact(name="ever30_over_pd12", member=ALL, low=2, high=3, value=float(late / bad.sum()), error=float(error))
    loss = book["loss"][accepted & (book["default_month"] > 0)]
    yield _share("lgd_near_zero", 0.20, 0.35, loss < 0.05)
    error = float(loss.std() / math.sqrt(loss.size))
    yield Fact(name="lgd_mean", member=ALL, low=0.40, high=0.65, value=float(loss.mean()), error=error)
    ends = min((loss < 0.2).mean(), (loss > 0.8).mean()) / max(((loss > 0.4) & (loss < 0.6)).mean(), 1e-9)
    yield Fact(name="lgd_ends_over_middle", member=ALL, low=1.5, high=math.inf, value=float(ends), error=0.5)
    seen = np.minimum(book["months_seen"][accepted], 36)
    closed = (book["prepaid"][accepted] > 0) & (book["prepaid"][accepted] <= 36)
    months = np.where(closed, book["prepaid"][accepted], seen).sum()
    rate = 1 - (1 - closed.sum() / months) ** YEAR
    yield Fact(
        name="prepaid_a_year",
        member=ALL,
        low=0.06,
        high=0.12,
        value=float(rate),
        error=float(rate / closed.sum() ** 0.5),
    )


def _share(name: str, low: float, high: float, flags: np.ndarray) -> Fact:
    share = float(flags.mean())
    error = math.sqrt(max(share * (1 - share), 1e-9) / flags.size)
    return Fact(name=name, member=ALL, low=low, high=high, value=share, error=error)


def hazard_peak(hazard: np.ndarray) -> tuple[float, float]:
    """Return (month of the peak, its standard error): the vertex of a weighted parabola in log months.

    ``hazard`` holds defaults and contracts at risk by month on book; months 5 to 36 are fitted.
    """
    months = np.arange(5, 37)
    bad, alive = hazard[0, months], hazard[1, months]
    x = np.log(months) - math.log(12)
    design = np.column_stack([np.ones(x.size), x, x**2])
    # Poisson regression by reweighting; zeros are no trouble.
    rate = np.log((bad.sum() + 1) / alive.sum()) * np.array([1.0, 0.0, 0.0])
    for _ in range(25):
        expected = alive * np.exp(design @ rate)
        step = np.linalg.solve(design.T @ (design * expected[:, None]), design.T @ (bad - expected))
        rate = rate + np.clip(step, -1, 1)
    variance = np.linalg.inv(design.T @ (design * (alive * np.exp(design @ rate))[:, None]))
    slope = np.array([0.0, -1 / (2 * rate[2]), rate[1] / (2 * rate[2] ** 2)])
    peak = 12 * math.exp(-rate[1] / (2 * rate[2]))
    return peak, peak * math.sqrt(float(slope @ variance @ slope))


def _chain(numbers: Section, counts: Tally) -> Iterator[Fact]:
    peak, error = hazard_peak(counts.hazard)
    yield Fact(name="hazard_peak_month", member=ALL, low=10, high=16, value=peak, error=error)
    chain = numbers.chain
    for state, roll in ((1, chain.roll_1), (2, chain.roll_2), (3, chain.roll_3)):
        total = counts.rolls[state, :3].sum()
        share = counts.rolls[state, 2] / total
        centre = float(logistic(np.array([roll]))[0])
        # Who is late is riskier than the average, so the rate lies above the chain's rate at index 0.
        error = math.sqrt(share * (1 - share) / total)
        yield Fact(
            name=f"roll_{state}", member=ALL, low=centre - 0.04, high=centre + 0.12, value=float(share), error=error
        )
    odds, error = new_year_odds(numbers, counts.entries)
    yield Fact(name="new_year_odds", member=ALL, low=1.13, high=1.23, value=odds, error=error)


def new_year_odds(numbers: Section, entries: np.ndarray) -> tuple[float, float]:
    """Return (odds of a missed payment in January and February over December and March, standard error)."""
    months = np.arange(entries.shape[1])
    bump = new_year_months(numbers)
    near = np.roll(bump, 1) | np.roll(bump, -1)
    beside = near & ~bump & (months > 0) & (months < months.size - 1)
    inside = bump & (months > 0)
    late, all_ = entries[:, inside].sum(axis=1)
    other, others = entries[:, beside].sum(axis=1)
    odds = (late / (all_ - late)) / (other / (others - other))
    return float(odds), float(odds * math.sqrt(1 / late + 1 / other))


def _ranks(power: RankPower, *, control: bool) -> Iterator[Fact]:
    for member, bads in power.bads.items():
        error = 0.28 / math.sqrt(bads) / 2  # half of Hanley and McNeil's: soft labels carry more than hard ones
        application = power.application[member]
        if not control:  # without correlated traits the ranks are other ones
            yield Fact(name="auc_application", member=member, low=0.69, high=0.79, value=application, error=error)
            yield Fact(name="auc_oracle", member=member, low=0.74, high=0.83, value=power.oracle[member], error=error)
        low, high = (-0.003, 0.003) if control else (0.001, 0.020)
        lift = power.lift(member)
        yield Fact(name="telematics_lift", member=member, low=low, high=high, value=lift, error=0.025 / math.sqrt(bads))
    low, high = (-0.003, 0.003) if control else (0.004, 0.020)
    error = 0.025 / math.sqrt(sum(power.bads.values()))
    yield Fact(name="telematics_lift", member=ALL, low=low, high=high, value=power.mean_lift(), error=error)


def _claims(counts: Tally) -> Iterator[Fact]:
    claims, years = counts.claims
    rates = claims / years
    overall = float(claims.sum() / years.sum())
    yield Fact(
        name="claims_a_year", member=ALL, low=0.22, high=0.30, value=overall, error=overall / math.sqrt(claims.sum())
    )
    ratio = float(rates[1] / rates[0])
    error = ratio * math.sqrt(float((1 / claims).sum()))
    yield Fact(name="claims_nev_over_other", member=ALL, low=1.2, high=2.0, value=ratio, error=error)


def _prices(planned: Plan) -> Iterator[Fact]:
    """Return the jumps of the index against the script, and what three quiet years leave of a price."""
    numbers, index = planned.world.numbers, planned.economy.log_index
    prices, v = numbers.prices, numbers.vehicles
    for place, jump in enumerate((prices.first_jump, prices.second_jump)):
        month = int(prices.jump_months[place])
        for name, price_class in (("ICE", ICE), ("PHEV", PHEV), ("BEV", BEV)):
            change, script = float(index[price_class, month] - index[price_class, month - 1]), float(jump[price_class])
            sd = math.hypot(float(prices.sd[price_class]), 0.003)
            yield Fact(name=f"price_jump_{place + 1}", member=name, low=script, high=script, value=change, error=sd)
    for price_class, (name, target) in _RETENTION.items():
        kept = math.exp(-v.first_drop[price_class] - 36 * (v.depreciation[price_class] - prices.drift[price_class]))
        yield Fact(name="retention_3y", member=name, low=target - 0.02, high=target + 0.02, value=kept, error=0.0)


def _missing(numbers: Section, book: Applications) -> Iterator[Fact]:
    """Return how much more often the dishonest unplug their box: the ratio of shares above and below the mean."""
    high = book["dishonesty"] > 0
    shares = [book["unplugged"][rows].mean() for rows in (high, ~high)]
    counts = [book["unplugged"][rows].sum() for rows in (high, ~high)]
    ratio = float(shares[0] / shares[1])
    error = ratio * math.sqrt(float(sum(1 / count for count in counts)))
    flat = numbers.telematics.unplugged_dishonesty == 0
    low, top = (0.95, 1.05) if flat else (2.0, 4.0)
    yield Fact(name="unplugged_dishonest", member=ALL, low=low, high=top, value=ratio, error=error)


def _overlaps(counts: Tally) -> Iterator[Fact]:
    yield _of_counts("multi_lending", ALL, 0.08, 0.12, sum(counts.multiple.values(), start=np.zeros(2)))
    if "L1" in counts.multiple:
        yield _of_counts("multi_lending", "L1", 0.10, 0.20, counts.multiple["L1"])
    yield _of_counts("guaranteed_on_a_bank", ALL, 1.0, 1.0, counts.guaranteed)
    for name, pair in counts.insured.items():
        if name.startswith("B"):
            yield _of_counts("insured_by_a_member", name, 0.35, 0.60, pair)
    for name, pair in counts.financed.items():
        yield _of_counts("financed_by_a_member", name, 0.45, 0.75, pair)


def _of_counts(name: str, member: str, low: float, high: float, pair: np.ndarray) -> Fact:
    share = float(pair[1] / pair[0])
    error = math.sqrt(max(share * (1 - share), 0.0) / pair[0])
    return Fact(name=name, member=member, low=low, high=high, value=share, error=error)


def hazard_curve(counts: Tally) -> np.ndarray:
    """Return the hazard of default by month on book, month 1 first."""
    curve: np.ndarray = counts.hazard[0, 1 : MONTHS + 1] / np.maximum(counts.hazard[1, 1 : MONTHS + 1], 1)
    return curve


def worst(facts: Sequence[Fact]) -> Mapping[Verdict, int]:
    """Return how many facts have each verdict."""
    found: dict[Verdict, int] = {"inside": 0, "within noise": 0, "outside": 0}
    for fact in facts:
        found[fact.verdict] += 1
    return found
