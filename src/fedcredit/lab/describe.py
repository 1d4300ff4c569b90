"""From a simulated world to its page: the world is drawn again from its seed, its files are compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fedcredit.lab.world_facts import Acceptance, Fact, acceptance, hazard_curve, worst
from fedcredit.lab.world_folder import MODALITIES, Simulation, holdings
from fedcredit.lab.world_tally import Applications, Tally, tally
from fedcredit.report.world_page import Line, WorldPicture
from fedcredit.simulator.dates import Calendar, iso
from fedcredit.simulator.generate import Plan, plan
from fedcredit.simulator.records import Records
from fedcredit.simulator.sightings import of_records
from fedcredit.simulator.telematics import drivers_of
from fedcredit.simulator.telematics_series import NEVER, five_minutes

ACCEPTED: Final = ("missing_modality", "negative_control")
"""Packs for which the acceptance table holds; the others move some of its figures on purpose."""
_LENDER: Final = "L1"
"""Its first vehicle is the one whose week is drawn."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The table and the picture of a world."""

    accepted: Acceptance
    picture: WorldPicture

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many figures have each verdict."""
        return {str(verdict): count for verdict, count in worst(self.accepted.facts).items()}


def describe(simulation: Simulation) -> Description:
    """Return the acceptance table of a folder's world and what its page shows.

    Raises:
        UnknownScenarioError: the folder names a scenario that this release does not have.
    """
    planned = plan(simulation.scenario, simulation.scale, simulation.seed)
    counts = tally(planned)
    accepted = acceptance(planned, counts)
    return Description(accepted=accepted, picture=_picture(simulation, planned, counts, accepted))


def _picture(simulation: Simulation, planned: Plan, counts: Tally, accepted: Acceptance) -> WorldPicture:
    numbers, economy = planned.world.numbers, planned.economy
    books = Applications.stack([part for parts in counts.applications.values() for part in parts])
    rates = {fact.member: (fact.low, fact.value, fact.error) for fact in accepted.facts if fact.name == "pd12"}
    power = accepted.power
    months = np.arange(numbers.calendar.months + 1)
    return WorldPicture(
        scenario=simulation.scenario,
        title=simulation.title,
        scale=simulation.scale,
        seed=simulation.seed,
        lenders=len(simulation.accepted),
        insurers=len(simulation.policies),
        accepted=f"{sum(simulation.accepted.values()):,}",
        policies=f"{sum(simulation.policies.values()):,}",
        lines=[_line(fact) for fact in accepted.facts],
        default_rates=rates,
        hazard=hazard_curve(counts),
        losses=books["loss"][books["accepted"] & (books["default_month"] > 0)],
        months=[iso(int(day)) for day in Calendar.of(numbers).start(months)],
        prices={
            str(name): 100 * np.exp(path) for name, path in zip(numbers.prices.classes, economy.log_index, strict=True)
        },
        stress=economy.national,
        missed=counts.entries[0] / np.maximum(counts.entries[1], 1),
        areas={name: (power.application[name], power.with_telematics[name], power.oracle[name]) for name in power.bads},
        institutions=counts.institutions,
        overlap=counts.overlap / np.diag(counts.overlap)[:, None],
        modalities=MODALITIES,
        held=holdings(simulation),
        week=_week(planned),
    )


def _line(fact: Fact) -> Line:
    target = f"{fact.low:.4g} to {fact.high:.4g}"
    if fact.low == fact.high:
        target = f"{fact.low:.4g}"
    elif fact.high == float("inf"):
        target = f"from {fact.low:.4g}"
    return Line(
        name=fact.name,
        where=fact.member,
        target=target,
        value=f"{fact.value:.4g}",
        error=f"{fact.error:.2g}" if fact.error else "",
        verdict=fact.verdict,
    )


def _week(planned: Plan) -> Mapping[str, np.ndarray]:
    """Return the five-minute readings of the first vehicle of a lender that is driven on most days."""
    numbers, seed = planned.world.numbers, planned.seed
    name = _LENDER if _LENDER in numbers.members else next(iter(numbers.members))
    records: Records = planned.block(0).lenders[name]
    first = records.take(np.flatnonzero(records.book.terms.accepted & ~records.book.vehicles.commercial)[:1])
    seen = of_records(np.random.default_rng(0), numbers, first, np.zeros(len(first), dtype=np.int64))
    series = five_minutes(
        seed, numbers, drivers_of(seed, numbers, seen), first=seen.day - 7, days=7, abscond=np.full(len(seen), NEVER)
    )
    return {channel: values[0] for channel, values in series.channels.items()}
