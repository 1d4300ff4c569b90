"""How a plan and its costs read on a terminal: ``coord plan new`` and ``check``, ``node preview`` and ``approve``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fedcredit.cli.output import note, say, table
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.cli.plan_check import CheckedPlan, Epsilon
    from fedcredit.config.plan import RunPlan
    from fedcredit.parties import InstitutionId
    from fedcredit.privacy.spending import Spending
    from fedcredit.training.plan_review import InstitutionReview


def tell_terms(plan: RunPlan) -> None:
    """Print what is trained, on which part of the borrowers."""
    say(
        tr(
            "   trains      {model}, {rounds} rounds, quorum {quorum}",
            model=word(plan.model.kind),
            rounds=plan.run.rounds,
            quorum=plan.rounds.quorum,
        )
    )
    secure = plan.secure
    if secure is None:
        say(tr("   sums        OPEN: the coordinator reads every institution's noised message"))
    else:
        say(
            tr(
                "   sums        secure: {threshold} of {institutions} must agree to open one, {colluders} may collude; "
                "{bits}-bit numbers",
                threshold=secure.threshold,
                institutions=len(plan.institutions),
                colluders=plan.privacy.colluders,
                bits=secure.lane_bits,
            )
        )
    _tell_containment(plan)
    say(
        tr(
            "   split       {fraction:.0%} of borrowers held out by key {salt}; contract {contract}",
            fraction=plan.run.holdout_fraction,
            salt=plan.run.holdout_salt,
            contract=plan.run.contract,
        )
    )
    if plan.run.out_of_time is not None:
        say(tr("               nobody trains on what was observed on {day} or later", day=plan.run.out_of_time))


def _tell_containment(plan: RunPlan) -> None:
    """Print what one institution can do to the model, and who says whether it is released."""
    if plan.bounds_updates:
        say(tr("   bounds      every institution shortens its sum to its share of the last one"))
    else:
        say(tr("   bounds      NONE: one institution can carry the sum"))
    if plan.vote_floor is None:
        say(tr("   votes       NONE: the model is released whatever members see on their held-out borrowers"))
        return
    say(
        tr(
            "   votes       released if more than {colluders} say yes, and more yes than no or unheard; "
            "floor AUC {floor:g}",
            colluders=plan.privacy.colluders,
            floor=plan.vote_floor,
        )
    )
    if plan.evaluation.vote_share:
        say(
            tr(
                "               on counts of their own, for {share:.0%} of the held-out budget",
                share=plan.evaluation.vote_share,
            )
        )
    elif plan.privacy.mechanism == "none":
        say(tr("               on exact counts: a vote tells something of them WITHOUT protecting noise"))
    else:
        say(tr("               on the noised counts that they release anyway"))


def tell_claim(checked: CheckedPlan) -> None:
    """Print the claim, against whom it holds, and what the noise is."""
    plan, facts = checked.plan, checked.review.facts
    say(
        tr(
            "   privacy     epsilon {epsilon:g} at delta {delta:g} per {unit}, {neighbours}; held out {held_out:g}",
            epsilon=plan.privacy.epsilon if facts.protects else math.inf,
            delta=facts.delta,
            unit=word(facts.unit),
            neighbours=facts.neighbours,
            held_out=facts.evaluation_epsilon,
        )
    )
    if not facts.protects:
        say(tr("   against     nobody"))
    elif checked.shared:
        _tell_shared(checked)
    else:
        say(tr("   against     whoever opens a message: every message is private alone (local noise)"))
    say(
        tr(
            "   noise       {mechanism}, accountant {accountant}",
            mechanism=facts.mechanism,
            accountant=facts.accountant,
        )
    )


def _tell_shared(checked: CheckedPlan) -> None:
    say(
        tr(
            "   against     whoever sees the sum: {honest} honest shares of noise (quorum {quorum}, colluders "
            "{colluders})",
            honest=checked.review.facts.honest_shares,
            quorum=checked.plan.rounds.quorum,
            colluders=checked.plan.privacy.colluders,
        )
    )
    say(
        tr(
            "               if secure aggregation fails: epsilon {alone:.3f}; held out {held_out:.3f}",
            alone=max(costs.training.alone for costs in checked.costs),
            held_out=max(costs.evaluation.alone for costs in checked.costs),
        )
    )


def tell_steps(checked: CheckedPlan) -> None:
    """Print how often something is released, how a borrower's part in it is bounded, and what that allows."""
    plan, facts = checked.plan, checked.review.facts
    say(
        tr(
            "   releases    {steps} training sums ({rounds} rounds, {retries} repetitions), {preparations} histograms "
            "before, {evaluations} evaluations",
            steps=facts.steps,
            rounds=plan.run.rounds,
            retries=plan.rounds.retries,
            preparations=facts.preparations,
            evaluations=1 + plan.rounds.retries,
        )
    )
    if plan.privacy.sampling == "full-batch":
        say(tr("   sampling    none: every training borrower is in every round"))
    else:
        say(
            tr(
                "   sampling    poisson: a training borrower is in a round with chance {rate:g}",
                rate=facts.sampling_rate,
            )
        )
    if plan.training.kind != "fedavg":
        say(
            tr(
                "   clip        {clip:g}; the sums are whole numbers on a grid of {grid}",
                clip=plan.training.clip,
                grid=plan.training.grid,
            )
        )
    if not facts.protects:
        return
    say(
        tr(
            "   checked by  Renyi accounting, a second route: epsilon {second:.4f} for the training",
            second=facts.epsilon_by_renyi,
        )
    )
    if facts.epsilon_by_pld is not None:
        say(
            tr(
                "               privacy-loss distributions (no filter, for reports): epsilon {pld:.4f}",
                pld=facts.epsilon_by_pld,
            )
        )
    tell_ceiling(checked)


def tell_ceiling(checked: CheckedPlan) -> None:
    """Print what the training's epsilon means, for the institution where it means least."""
    ceilings = [costs.tpr_ceiling for costs in checked.costs]
    claimed, alone = max(item.claimed for item in ceilings), max(item.alone for item in ceilings)
    say(
        tr(
            "   it allows   a membership test with 1 % false alarms to find at most {ceiling:.1%} of the borrowers",
            ceiling=claimed,
        )
    )
    if checked.shared:
        say(tr("               and {ceiling:.1%} if secure aggregation fails", ceiling=alone))


def tell_institutions(checked: CheckedPlan) -> None:
    """Print what each institution sends."""
    from fedcredit.cli.plan_check import bytes_at_most, messages_at_most

    plan = checked.plan
    table(
        tr("What each institution is counted on for"),
        [
            tr("institution"),
            tr("modalities"),
            tr("borrowers (public)"),
            tr("messages at most"),
            tr("bytes at most"),
        ],
        [
            [
                own.institution,
                ", ".join(plan.modalities(own.institution)),
                f"{plan.expected_borrowers()[own.institution]:,}",
                f"{messages_at_most(own):,}",
                f"{bytes_at_most(plan, own):,}",
            ]
            for own in checked.review.institutions
        ],
        left=2,
    )


def tell_members(plan: RunPlan) -> None:
    """Print by which keys the plan knows each institution: who approves it approves these, and nobody else."""
    from fedcredit.crypto.keys import fingerprint_of

    table(
        tr("Members by their keys. Compare by voice: a coordinator that invented one could read more"),
        [tr("institution"), tr("kind"), tr("fingerprint")],
        [[name, word(section.kind), fingerprint_of(section.identity)] for name, section in plan.institutions.items()],
        left=3,
    )


def tell_epsilons(checked: CheckedPlan) -> None:
    """Print every institution's noise and epsilons; with shared noise the sum's and a lone message's side by side."""
    overlaps = sorted(checked.costs[0].overlap)
    title = (
        tr("Epsilon of the sum / if secure aggregation fails and a message is read alone")
        if checked.shared
        else tr("Epsilon of all messages of an institution together")
    )
    table(
        title,
        [
            tr("institution"),
            tr("noise"),
            tr("one borrower"),
            tr("ε training"),
            tr("ε held out"),
            *(tr("ε known to {members}", members=members) for members in overlaps),
        ],
        [
            [
                own.institution,
                *_noise(own),
                _epsilon(costs.training, checked),
                _epsilon(costs.evaluation, checked),
                *(_epsilon(costs.overlap[members], checked) for members in overlaps),
            ]
            for own, costs in zip(checked.review.institutions, checked.costs, strict=True)
        ],
    )
    say(tr("   noise: deviation per training number, in grid steps · one borrower: the most that one moves them"))


def tell_warnings(checked: CheckedPlan, *, at: InstitutionId | None = None) -> None:
    """Print what the plan may do and had better not, for everybody or for one institution."""
    from fedcredit.cli.plan_check import warnings_of

    for _, text in warnings_of(checked, at=at):
        note(text)


def _noise(own: InstitutionReview) -> tuple[str, str]:
    from fedcredit.cli.plan_check import release_of
    from fedcredit.messages import Purpose

    release = release_of(own, Purpose.TRAIN).release
    bound = math.sqrt(release.sensitivity_squared)
    return f"{release.sigma:,}", f"{bound:,.1f}" if bound else "∞"


def _epsilon(epsilon: Epsilon, checked: CheckedPlan) -> str:
    return seen_twice(epsilon.claimed, epsilon.alone, shared=checked.shared)


def seen_twice(claimed: float, alone: float, *, shared: bool, spec: str = ".3f") -> str:
    """Return a figure to print, in the format ``spec``; if noise was shared never without that of a lone message."""
    return f"{claimed:{spec}} / {alone:{spec}}" if shared else f"{claimed:{spec}}"


def spent_twice(spent: Spending, *, shared: bool) -> str:
    """Return the epsilon that a ledger has counted; four digits tell even small releases apart."""
    return seen_twice(spent.epsilon, spent.epsilon_alone, shared=shared, spec=".4f")


def tell_pairs(*, shared: bool) -> None:
    """Explain the pairs of figures above, if there are any."""
    if shared:
        say(tr("   a / b: a of the sum, b if secure aggregation fails and each message is read alone"))
