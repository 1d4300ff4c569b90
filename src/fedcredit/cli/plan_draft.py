"""From a coordinator's options to a run plan."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final

from fedcredit.cli.texts import tr
from fedcredit.config.federation import FEDERATION_FILE
from fedcredit.config.plan import MIN_HIDDEN, MIN_HONEST_SHARES, RunPlan, usual_threshold
from fedcredit.config.reading import validate
from fedcredit.contract import Contract, shipped_contract
from fedcredit.errors import ConfigValueError, NotAMemberError, UsageError
from fedcredit.lab.settings import Consortium, PrivacyChoice, aggregation_values, plan_values, settings_for
from fedcredit.rounds.coordinator import Coordinator, require_schema


def draft_plan(
    coordinator: Coordinator,
    *,
    name: str,
    contract_name: str,
    privacy: PrivacyChoice,
    borrowers: Sequence[str],
    model: str,
    rounds: int | None,
    quorum: int | None,
    aggregation: str,
    threshold: int | None,
    retries: int,
    deadline_s: float,
) -> RunPlan:
    """Return a plan for the members named in ``borrowers``.

    Raises:
        UsageError: an entry of ``borrowers`` is not INSTITUTION=COUNT[:MODALITY,…], or the threshold is one that a
            person has to choose, or has no use.
        NotAMemberError: it names an institution that is not approved.
        SchemaVersionError: one does not speak the contract's version of the canonical data set.
        ConfigValueError: a value lies outside its range.
    """
    contract = shipped_contract(contract_name)
    requests = {request.institution: request for request in coordinator.members()}
    institutions, sizes = {}, []
    for entry in borrowers:
        institution, size, modalities = _entry(entry, contract)
        if institution in institutions:
            raise UsageError(problem=f"--borrowers names {institution} twice", hint="Give one entry per institution.")
        if institution not in requests:
            raise NotAMemberError(institution=institution)
        sizes.append(size)
        member = requests[institution].member()
        institutions[institution] = {
            "kind": str(member.kind),
            "identity": member.identity_digest,
            "expected_borrowers": size,
            "modalities": modalities,
        }
    require_schema(contract, [requests[name] for name in institutions])
    needed = quorum or len(institutions)
    consortium = Consortium(members=len(institutions), borrowers=sum(sizes), quorum=needed)
    raw = plan_values(
        settings_for(contract, model, privacy, consortium),
        name=name,
        consortium=coordinator.config.consortium,
        contract=contract,
        rounds=rounds,
        holdout=(coordinator.config.holdout.salt, coordinator.config.holdout.fraction),
        out_of_time=_out_of_time(coordinator, contract),
        privacy=privacy,
        quorum=needed,
        retries=retries,
        deadline_s=deadline_s,
        aggregation=aggregation_values(
            aggregation, threshold=_threshold(threshold, aggregation, consortium=consortium, privacy=privacy)
        ),
        institutions=institutions,
    )
    return validate(RunPlan, raw, source="coord plan new")


def _out_of_time(coordinator: Coordinator, contract: Contract) -> datetime.date | None:
    if contract.tables is None:
        return None
    day = coordinator.config.holdout.out_of_time
    if day is None:
        path = str(coordinator.folder / FEDERATION_FILE)
        problem = "is needed for a contract on canonical tables: the day that all members name as oot_date"
        raise ConfigValueError(path=path, key="holdout.out_of_time", problem=problem)
    return day


SMALL_CONSORTIUM: Final = 4
"""Up to so many members no rule serves everybody: a person weighs drop-outs against colluders."""


def _threshold(given: int | None, aggregation: str, *, consortium: Consortium, privacy: PrivacyChoice) -> int:
    """Return how many members must agree to open a sum; in a small consortium a person says it."""
    members = consortium.members
    if aggregation == "open":
        if given is not None:
            raise UsageError(
                problem=tr("--threshold has no use with --aggregation open: nobody has to agree to open a sum"),
                hint=tr("Leave one of the two options out."),
            )
        return members
    if members == 1:
        raise UsageError(
            problem=tr("the sum over a single institution hides nothing"),
            hint=tr(
                "Name more members with --borrowers, or say --aggregation open: then its noised messages are read."
            ),
        )
    if given is None and members <= SMALL_CONSORTIUM:
        raise UsageError(
            problem=tr(
                "of {members} institutions, how many must agree to open a sum is for you to say", members=members
            ),
            hint=_choices(consortium, privacy),
        )
    return usual_threshold(members) if given is None else given


def _choices(consortium: Consortium, privacy: PrivacyChoice) -> str:
    """Return the thresholds that a plan of this consortium may have, and what each bears (PROTOCOL.md)."""
    members, quorum = consortium.members, consortium.quorum
    hidden = MIN_HONEST_SHARES if privacy.noise == "shared" else MIN_HIDDEN
    borne = {threshold: min(2 * threshold - members - 1, quorum - hidden) for threshold in range(quorum, 1, -1)}
    lines = [
        tr(
            "--threshold {threshold}: {lost} may drop out after their uploads, {colluders} may collude",
            threshold=threshold,
            lost=members - threshold,
            colluders=colluders,
        )
        for threshold, colluders in borne.items()
        if colluders >= privacy.colluders
    ]
    return "; ".join(lines) or tr("No threshold bears so many colluders with this quorum: lower --colluders.")


def _entry(entry: str, contract: Contract) -> tuple[str, int, list[str]]:
    institution, _, rest = entry.partition("=")
    size, _, names = rest.partition(":")
    if not institution or not (size.isascii() and size.isdigit()):
        raise UsageError(
            problem=f'"{entry}" is not INSTITUTION=COUNT[:MODALITY,…]', hint="Example: --borrowers bank-a=7200"
        )
    known = [modality.name for modality in contract.modalities]
    modalities = names.split(",") if names else known
    strange = [name for name in modalities if name not in known]
    if strange:
        raise UsageError(
            problem=f'The contract {contract.name} has no modality "{strange[0]}"', hint=f"It has: {', '.join(known)}"
        )
    return institution, int(size), modalities
