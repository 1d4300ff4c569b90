"""Is the simulated consortium what its acceptance table says, at full size, and does each pack do what it is for?

    python experiments/0003-simulator/run.py [--seeds 5] [--scale paper]

Per seed: the reference world and the negative control at the scale asked for, drawn block by block, and every pack at
the small scale. SIMULATED throughout. With fewer than five seeds nothing is written.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedcredit.lab.describe import describe
from fedcredit.lab.figures import Figure, mean_over_seeds, write_results
from fedcredit.lab.world_facts import Acceptance, acceptance
from fedcredit.lab.world_folder import read_simulation
from fedcredit.lab.world_tally import tally
from fedcredit.report.world_page import write_world_page
from fedcredit.simulator.economy import BEV
from fedcredit.simulator.generate import Plan, generate, plan
from fedcredit.simulator.records import Records

HERE = Path(__file__).parent
FEWEST_SEEDS = 5
UNITS = {"auc": "auc", "telematics": "auc", "hazard": "months"}
PACKS = ("iid", "label_skew", "recession_oot", "nev_price_war", "ring", "double_pledge", "thin_file")


def accepted_table(scenario: str, scale: str, seed: int) -> Acceptance:
    planned = plan(scenario, scale, seed)
    return acceptance(planned, tally(planned))


def table_figures(scenario: str, tables: Sequence[Acceptance], seeds: Sequence[int]) -> list[Figure]:
    """Return each line of the acceptance table as a mean over the seeds."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for table in tables:
        for fact in table.facts:
            values[fact.name, fact.member].append(fact.value)
    figures = []
    for (name, member), found in values.items():
        part = re.sub(r"_", "-", name)
        unit = UNITS.get(name.partition("_")[0], "1")
        identity = f"{scenario.replace('_', '-')}.{part}.{member.lower()}"
        figures.append(mean_over_seeds(identity, found, unit=unit, seeds=seeds, data="simulated"))
    worst = [float(sum(fact.verdict == "outside" for fact in table.facts)) for table in tables]
    figures.append(
        mean_over_seeds(f"{scenario.replace('_', '-')}.outside.all", worst, unit="1", seeds=seeds, data="simulated")
    )
    return figures


def own(planned: Plan) -> Records:
    """Return the applications of all lenders, without the copies of guaranteed contracts."""
    block = planned.block(0)
    parts = [block.lenders[name] for name in planned.accepted[0]]
    return Records.stack([part if part.kind == "guarantee_fund" else part.take(~part.guaranteed) for part in parts])


def late_over_early(planned: Plan, chosen: str) -> float:
    """Return the probability of default after the out-of-time cut over that before, among accepted contracts."""
    records = own(planned)
    records = records.take(records.book.terms.accepted)
    if chosen == "bev":
        records = records.take(records.book.vehicles.price_class == BEV)
    late = records.book.terms.month >= planned.world.numbers.calendar.oot_month
    probability = records.histories.pd_path[:, -1]
    return float(probability[late].mean() / probability[~late].mean())


def pack_value(pack: str, seed: int) -> float:
    """Return the figure by which a pack is known."""
    planned = plan(pack, "ci", seed)
    records = own(planned)
    terms = records.book.terms
    if pack in ("recession_oot", "nev_price_war"):
        chosen = "bev" if pack == "nev_price_war" else "all"
        return late_over_early(planned, chosen) / late_over_early(plan("missing_modality", "ci", seed), chosen)
    if pack == "ring":
        return float((terms.ring >= 0).mean())
    if pack == "double_pledge":
        return float((terms.pledged[terms.accepted] == 2).mean())
    if pack == "thin_file":
        return float(terms.no_hit.mean())
    block = planned.block(0)
    rates = [block.lenders[name].histories.pd_path[block.lenders[name].book.terms.accepted, -1].mean() for name in
             ("B1", "B2", "B3", "A1", "L1")]  # fmt: skip
    return float(np.max(rates) / np.min(rates))


WHAT = {
    "iid": "highest-over-lowest-pd",
    "label_skew": "highest-over-lowest-pd",
    "recession_oot": "late-over-early-pd-against-reference",
    "nev_price_war": "late-over-early-pd-of-bev-against-reference",
    "ring": "applications-in-rings",
    "double_pledge": "contracts-on-a-pledged-vehicle",
    "thin_file": "unknown-to-the-bureau",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument("--scale", choices=("ci", "paper"), default="paper")
    arguments = parser.parse_args()
    seeds = list(range(1, arguments.seeds + 1))
    figures: list[Figure] = []
    for scenario in ("missing_modality", "negative_control"):
        tables = []
        for seed in seeds:
            tables.append(accepted_table(scenario, arguments.scale, seed))
            print(
                scenario, seed, [f"{f.name} {f.member}" for f in tables[-1].facts if f.verdict == "outside"], flush=True
            )
        figures += table_figures(scenario, tables, seeds)
    for pack in PACKS:
        values = [pack_value(pack, seed) for seed in seeds]
        name = f"{pack.replace('_', '-')}.{WHAT[pack]}.all"
        figures.append(mean_over_seeds(name, values, unit="1", seeds=seeds, data="simulated"))
    for figure in figures:
        print(f"{figure.id:70} {figure.value:.4f} ({figure.low:.4f}..{figure.high:.4f})")
    if len(seeds) < FEWEST_SEEDS:
        print(f"nothing written: fewer than {FEWEST_SEEDS} seeds")
        return
    write_results(
        HERE / "results.json",
        question="Is the simulated consortium what its acceptance table says, and does each pack do what it is for?",
        command="python experiments/0003-simulator/run.py",
        figures=figures,
    )
    draw(arguments.scale)


def draw(scale: str) -> None:
    """Write the picture of the reference world of seed 1."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "world"
        generate(out, scenario="missing_modality", scale=scale, seed=1, tell=lambda done, blocks: None)
        found = describe(read_simulation(out))
        counts = found.counts
        verdict = f"{counts['inside']} inside, {counts['within noise']} within noise, {counts['outside']} outside."
        write_world_page(HERE, found.picture, verdict=verdict)


if __name__ == "__main__":
    main()
