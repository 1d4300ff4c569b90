"""``fedcredit node preview``: what a plan would make this site send, and what that costs, before anybody approves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, next_step, note, say, table
from fedcredit.cli.plan_view import seen_twice, tell_claim, tell_members, tell_terms, tell_warnings
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.cli.plan_check import CheckedPlan, Epsilon
    from fedcredit.config.node import NodeConfig
    from fedcredit.errors import PrivacyError
    from fedcredit.institution.forecast import Forecast, Refused
    from fedcredit.training.plan_review import InstitutionReview, PlannedRelease


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A plan that a node has been offered, read with the node's own configuration."""

    config: NodeConfig
    checked: CheckedPlan
    own: InstitutionReview
    """What the plan means here."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the ledger of a node says to an offered plan."""

    forecasts: tuple[Forecast, ...]
    """One for each partition that the plan touches."""
    charged: int
    """How many releases of this very plan are charged already."""

    @property
    def fits(self) -> bool:
        """Return whether no release of the plan would be refused by the ledger, repetitions included."""
        return not self.charged and all(item.fitting == item.releases for item in self.forecasts)


def read_offer(folder: Path, path: Path) -> Offer:
    """Return the plan in ``path`` as the node in ``folder`` would have to carry it out; nothing is changed.

    Raises:
        NotAMemberError: it does not name this institution.
        WrongContextError: it is for another data contract than the node's.
        PolicyError: it counts on modalities that are not held, or declares far too few borrowers.
        DeltaTooLargeError, AccountantError, PrivacyPlanError, NoiseRangeError: it cannot keep its claim.
        DataError: the node's table does not follow the contract.
    """
    from fedcredit.cli.plan_check import check_plan
    from fedcredit.config.node import NodeConfig
    from fedcredit.config.plan import RunPlan
    from fedcredit.errors import NotAMemberError, PolicyError
    from fedcredit.institution.node import holdings_of

    config, plan = NodeConfig.read(folder), RunPlan.read(path)
    if config.institution not in plan.institutions:
        raise NotAMemberError(institution=config.institution)
    absent = sorted(set(plan.modalities(config.name)) - set(config.data.modalities))
    if absent:
        raise PolicyError(reason=f"the plan counts on modalities that are not held: {', '.join(absent)}")
    holdings = holdings_of(folder, config)
    # Rounding and delta are judged by the declared number.
    if len(holdings.table) > 2 * plan.expected_borrowers()[config.name]:
        raise PolicyError(reason="the plan's expected_borrowers is less than half of this table")
    checked = check_plan(plan, holdings.contract)
    own = next(review for review in checked.review.institutions if review.institution == config.name)
    return Offer(config=config, checked=checked, own=own)


def read_outlook(folder: Path, offer: Offer) -> Outlook:
    """Return what the ledger of the node in ``folder`` says to the offer; nothing is written.

    Raises:
        StateDirInUseError: the node is running.
        PrivacyError, AuditError, StorageError: see ``NodeRecord.read``.
    """
    from fedcredit.institution.forecast import forecast
    from fedcredit.institution.node import NodeRecord
    from fedcredit.privacy.ledger_entries import Charge

    plan = offer.checked.plan
    digest = plan.digest()
    with NodeRecord.read(folder, offer.config) as record:
        charged = sum(isinstance(entry, Charge) and entry.plan == digest for entry in record.ledger.entries())
    forecasts = forecast(
        offer.own,
        repetitions=plan.rounds.retries,
        spent={name: record.spent(name) for name in record.caps},
        caps=record.caps,
    )
    return Outlook(forecasts=forecasts, charged=charged)


@guarded
def preview(
    folder: Annotated[Path, typer.Argument(help="The node's folder.", metavar="NODE")],
    plan: Annotated[Path, typer.Option(help="The run plan that the coordinator sent round.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Show what would leave this site under a plan, and what it costs; nothing changes. The node must not run."""
    from fedcredit.cli.plan_check import release_values, warning_values

    offer = read_offer(folder, plan)
    outlook = read_outlook(folder, offer)
    digest = offer.checked.plan.digest().hex()
    done(
        tr(
            "nothing is sent or changed: this is what {institution} would do under plan {digest} ({plan})",
            institution=offer.config.institution,
            digest=digest[:16],
            plan=offer.checked.plan.run.name,
        )
    )
    tell_terms(offer.checked.plan)
    tell_claim(offer.checked)
    tell_members(offer.checked.plan)
    tell_departures(offer)
    _tell_readers(offer)
    _tell_costs(offer, outlook.forecasts)
    _tell_forever()
    refusal = tell_refusal(offer)
    tell_shortfalls(outlook)
    tell_warnings(offer.checked, at=offer.config.name)
    if outlook.fits and refusal is None:
        done(tr("all of it stays within this institution's caps and policy"))
        next_step(f"fedcredit node approve {folder} {plan}")
    else:
        next_step(f"fedcredit node budget show {folder}")
    return {
        "institution": offer.config.institution,
        "plan": digest,
        "leaves": [release_values(offer.checked.plan, item) for item in offer.own.releases],
        "budget": {item.partition: _budget(item) for item in outlook.forecasts},
        "refused_by_policy": refusal.code if refusal else None,
        "charged_already": outlook.charged,
        "warnings": warning_values(offer.checked, at=offer.config.name),
    }


def tell_departures(offer: Offer) -> None:
    """Print every kind of message that leaves under the plan: how often, how many numbers, how many bytes."""
    from fedcredit.cli.plan_check import bytes_at_most, messages_at_most, sealed_bytes

    plan, own = offer.checked.plan, offer.own
    lines = [
        [
            _contents(item, offer),
            f"{item.at_most:,}",
            f"{item.release.dimension:,}",
            f"{sealed_bytes(plan, item):,}",
            f"{item.at_most * sealed_bytes(plan, item):,}",
        ]
        for item in own.releases
    ]
    lines.append([tr("together"), f"{messages_at_most(own):,}", "", "", f"{bytes_at_most(plan, own):,}"])
    lines.append([tr("instead of any of them: a refusal, one error code"), "", "0", tr("as many"), ""])
    table(
        tr("What leaves {institution}", institution=own.institution),
        [tr("message"), tr("at most"), tr("numbers"), tr("bytes each"), tr("bytes in all")],
        lines,
    )


def _contents(item: PlannedRelease, offer: Offer) -> str:
    """Return what a message holds, in words."""
    from fedcredit.messages import Purpose

    if item.purpose is Purpose.PREPARE:
        return tr("histogram of categories by outcome, before round 1")
    if item.purpose is Purpose.EVALUATE:
        return tr("counts of held-out borrowers by score and outcome")
    if item.purpose is Purpose.CLOSE:
        return tr("the vote on the model; the counts behind it stay here")
    model = offer.checked.plan.model.kind
    if model == "trees":
        return tr("sums of residuals and curvatures in tree leaves")
    if offer.checked.plan.training.kind == "fedavg":
        return tr("change of the weights after local training")
    return tr("sums of clipped gradients")


def _tell_readers(offer: Offer) -> None:
    say(tr("   each also holds digests of its request and the ledger's last entry, and a signature on the log"))
    say(tr("   each is signed and sealed to the coordinator; the relay sees its length and time"))
    if offer.checked.plan.secure is not None:
        say(tr("   its numbers are masked: the coordinator reads their sum over all members, and no institution's own"))
        say(tr("   beside them go fresh keys, a signature on whose numbers are in each sum, and shares of masks"))
    elif offer.checked.review.facts.protects:
        say(tr("   the coordinator opens each and sees its numbers, every one with its full noise"))
    else:
        say(tr("   the coordinator opens each and sees its numbers WITHOUT protecting noise"))
    say(tr("   never leave: rows, identifiers, scores of a borrower, exact counts, losses, error texts, keys"))


def _tell_costs(offer: Offer, forecasts: Sequence[Forecast]) -> None:
    # An earlier plan may have shared its noise where this one does not.
    shared = any(item.at_most.shared for item in forecasts)
    title = (
        tr("What it costs, by this site's ledger: epsilon of the sum / if a message is read alone")
        if shared
        else tr("What it costs, by this site's ledger: epsilon")
    )
    columns = [
        tr("borrowers"),
        tr("now"),
        tr("after the plan"),
        tr("with repetitions"),
        tr("cap"),
        tr("found at most"),
    ]
    table(title, columns, [_cost_line(item, shared=shared) for item in forecasts])
    say(tr("   found: the largest share of the borrowers that any membership test with 1 % false alarms can find"))
    delta = forecasts[0].cap.delta
    if delta != offer.checked.plan.privacy.delta:
        say(
            tr(
                "   counted at the ledger's delta {delta:g}; the plan states its epsilon at {planned:g}",
                delta=delta,
                planned=offer.checked.plan.privacy.delta,
            )
        )


def _cost_line(item: Forecast, *, shared: bool) -> list[str]:
    found = _found(item)
    states = (item.spent, item.planned, item.at_most)
    return [
        word(item.partition),
        *(seen_twice(state.epsilon, state.epsilon_alone, shared=shared) for state in states),
        f"{item.cap.epsilon:.3f}",
        seen_twice(found.claimed, found.alone, shared=shared, spec=".1%"),
    ]


def _found(item: Forecast) -> Epsilon:
    """Return the largest share of borrowers that a membership test with 1 % false alarms finds after all of it."""
    from fedcredit.cli.plan_check import FALSE_ALARMS, Epsilon

    state = item.at_most
    return Epsilon(claimed=state.tpr_ceiling(fpr=FALSE_ALARMS), alone=state.tpr_ceiling_alone(fpr=FALSE_ALARMS))


def tell_refusal(offer: Offer) -> PrivacyError | None:
    """Say, and return, with which error this institution's policy would refuse the plan; ``None`` if it would not."""
    from fedcredit.institution.admission import policy_refusal

    refusal = policy_refusal(offer.checked.plan, offer.config.policy)
    if refusal is not None:
        note(tr("every request would be refused ({code}): {reason}", code=refusal.code, reason=refusal.describe()))
    return refusal


def tell_shortfalls(outlook: Outlook) -> None:
    """Say where the ledger stops the plan, if it does."""
    if outlook.charged:
        note(
            tr(
                "a run has used this plan already: {charged} of its releases are counted as spent, and a second run "
                "of it is refused",
                charged=outlook.charged,
            )
        )
    for item in outlook.forecasts:
        if item.fitting < item.releases:
            note(_shortfall(item))


def _shortfall(item: Forecast) -> str:
    """Return where the cap stops the plan: at a step of the run itself, or among its repetitions only."""
    if item.refused is None:
        return tr(
            "{partition}: only {fitting} of at most {releases} releases fit under the cap; more would be refused",
            partition=word(item.partition),
            fitting=item.fitting,
            releases=item.releases,
        )
    return tr(
        "{step} would be refused (FC-4101): epsilon of {partition} would be {would_be:.3f}, above {cap:.3f}",
        step=_step(item.refused),
        partition=word(item.partition),
        would_be=item.refused.would_be,
        cap=item.cap.epsilon,
    )


def _step(refused: Refused) -> str:
    """Return what would be refused first, in words."""
    from fedcredit.messages import Purpose

    if refused.purpose is Purpose.PREPARE:
        return tr("the histogram before round 1")
    if refused.purpose is Purpose.EVALUATE:
        return tr("the evaluation")
    if refused.purpose is Purpose.CLOSE:
        return tr("the vote on the model")
    return tr("round {round}", round=refused.number)


def _tell_forever() -> None:
    say(tr("   cannot be undone: what has left is not called back; no epsilon is refunded if a round fails;"))
    say(tr("                     an approval serves one run of exactly this plan"))


def _budget(item: Forecast) -> dict[str, Any]:
    states = {"spent": item.spent, "planned": item.planned, "at_most": item.at_most}
    return {
        **{name: {"epsilon": state.epsilon, "epsilon_alone": state.epsilon_alone} for name, state in states.items()},
        "cap": item.cap.epsilon,
        "delta": item.cap.delta,
        "tpr_ceiling": asdict(_found(item)),
        "refused": asdict(item.refused) if item.refused else None,
        "releases": item.releases,
        "fitting": item.fitting,
    }
