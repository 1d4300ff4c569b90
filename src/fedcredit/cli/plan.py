"""``fedcredit coord plan``: how a coordinator writes a run plan, and checks one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fedcredit.cli.options import (
    AggregationChoice,
    Debug,
    Format,
    MechanismChoice,
    ModelChoice,
    NoiseChoice,
    OutputFormat,
    guarded,
    passphrase,
)
from fedcredit.cli.output import done, next_step, note
from fedcredit.cli.plan_view import (
    tell_claim,
    tell_epsilons,
    tell_institutions,
    tell_members,
    tell_steps,
    tell_terms,
    tell_warnings,
)
from fedcredit.cli.texts import tr

app = typer.Typer(help="Run plans.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="COORDINATOR")]
AllowLarge = Annotated[
    bool, typer.Option("--allow-large-epsilon", help="Accept an epsilon above 8: for experiments on public data.")
]


@app.command("new")
@guarded
def new(
    folder: Folder,
    path: Annotated[Path, typer.Argument(help="Where to write the plan.")],
    contract: Annotated[str, typer.Option(help="Data contract: a shipped name (taiwan, sba, german, vehicle-loans).")],
    epsilon: Annotated[float, typer.Option(help="Privacy loss per borrower for the whole training; inf says: none.")],
    delta: Annotated[float, typer.Option(help="Delta of the claim.")],
    evaluation_epsilon: Annotated[float, typer.Option(help="Privacy loss of a held-out borrower.")],
    borrowers: Annotated[
        list[str], typer.Option(help="INSTITUTION=COUNT[:MODALITY,…]: public size and modalities; repeat per member.")
    ],
    model: Annotated[ModelChoice, typer.Option(help="What is trained.")] = ModelChoice.TREES,
    noise: Annotated[
        NoiseChoice, typer.Option(help="local: every message is private alone. shared: only their sum is.")
    ] = NoiseChoice.LOCAL,
    colluders: Annotated[
        int, typer.Option(min=0, help="Institutions that may work together with the coordinator.")
    ] = 0,
    aggregation: Annotated[
        AggregationChoice, typer.Option(help="secure: only sums can be read. open: the coordinator reads each message.")
    ] = AggregationChoice.SECURE,
    threshold: Annotated[
        int | None,
        typer.Option(
            min=2, help="Members who must agree to open a sum; two thirds and one if absent, above 4 members."
        ),
    ] = None,
    mechanism: Annotated[MechanismChoice, typer.Option(help="Law of the noise.")] = MechanismChoice.ROUNDED_GAUSSIAN,
    sampling_rate: Annotated[
        float, typer.Option(min=0.000001, max=1.0, help="Chance of a borrower to be in a round; 1 for everybody.")
    ] = 1.0,
    rounds: Annotated[int | None, typer.Option(min=1, help="Training rounds; recommended number if absent.")] = None,
    quorum: Annotated[int | None, typer.Option(min=1, help="Answers that a round needs; all if absent.")] = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0, help="Failed attempts of all rounds together, and again of the evaluation, that the noise pays for."
        ),
    ] = 2,
    deadline_s: Annotated[float, typer.Option(help="Seconds that a round waits.")] = 180.0,
    allow_large_epsilon: AllowLarge = False,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Write a run plan for approved members; the institutions then approve exactly this file."""
    from fedcredit.cli.plan_check import check_offer
    from fedcredit.cli.plan_draft import draft_plan
    from fedcredit.lab.settings import PrivacyChoice
    from fedcredit.rounds.coordinator import Coordinator
    from fedcredit.store.files import write_new

    coordinator = Coordinator(folder, passphrase=passphrase())
    plan = draft_plan(
        coordinator,
        name=path.stem,
        contract_name=contract,
        privacy=PrivacyChoice(
            epsilon=epsilon,
            delta=delta,
            evaluation_epsilon=evaluation_epsilon,
            mechanism=mechanism.value,
            noise=noise.value,
            colluders=colluders,
            sampling_rate=sampling_rate,
            test_noise=False,
        ),
        borrowers=borrowers,
        model=model.value,
        rounds=rounds,
        quorum=quorum,
        aggregation=aggregation.value,
        threshold=threshold,
        retries=retries,
        deadline_s=deadline_s,
    )
    # Before it is written: a plan that cannot keep its claim must not be sent round.
    checked = check_offer(plan, allow_large_epsilon=allow_large_epsilon)
    write_new(path, plan.to_toml().encode(), mode=0o644)
    digest = plan.digest().hex()
    done(
        tr(
            "wrote {path} · digest {digest} · {rounds} rounds · {institutions} institutions",
            path=path,
            digest=digest[:16],
            rounds=plan.run.rounds,
            institutions=len(plan.institutions),
        )
    )
    tell_epsilons(checked)
    tell_warnings(checked)
    next_step(
        f"fedcredit coord plan check {path} --allow-large-epsilon"
        if allow_large_epsilon
        else f"fedcredit coord plan check {path}",
        f"fedcredit node approve NODE {path}      {tr('(by every institution)')}",
        f"fedcredit coord serve {folder}",
    )
    return {"plan": str(path), "digest": digest, "rounds": plan.run.rounds}


@app.command("check")
@guarded
def check(
    path: Annotated[Path, typer.Argument(help="The run plan to check.", metavar="PLAN")],
    allow_large_epsilon: AllowLarge = False,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Say what a plan states and what it costs the borrowers of every institution; no data and no keys are needed."""
    from fedcredit.cli.plan_check import check_offer, plan_values
    from fedcredit.config.plan import RunPlan

    plan = RunPlan.read(path)
    checked = check_offer(plan, allow_large_epsilon=allow_large_epsilon)
    digest = plan.digest().hex()[:16]
    if checked.review.facts.protects:
        done(tr("this plan can keep its claim: {plan} · digest {digest}", plan=plan.run.name, digest=digest))
    else:
        note(tr("this plan claims nothing: {plan} · digest {digest}", plan=plan.run.name, digest=digest))
    tell_terms(plan)
    tell_claim(checked)
    tell_steps(checked)
    tell_members(checked.plan)
    tell_institutions(checked)
    tell_epsilons(checked)
    tell_warnings(checked)
    next_step(
        f"fedcredit node preview NODE --plan {path}      {tr('(by every institution)')}",
        f"fedcredit node approve NODE {path}      {tr('(by every institution)')}",
    )
    return plan_values(checked)
