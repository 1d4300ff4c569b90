"""From a coordinator's options to a run plan."""

from __future__ import annotations

from collections.abc import Sequence

from fedcredit.config.plan import RunPlan
from fedcredit.config.reading import validate
from fedcredit.contract import Contract, shipped_contract
from fedcredit.errors import NotAMemberError, UsageError
from fedcredit.lab.settings import Consortium, PrivacyChoice, plan_values, settings_for
from fedcredit.rounds.coordinator import Coordinator


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
    retries: int,
    deadline_s: float,
) -> RunPlan:
    """Return a plan for the members named in ``borrowers``.

    Raises:
        UsageError: an entry of ``borrowers`` is not INSTITUTION=COUNT[:MODALITY,…].
        NotAMemberError: it names an institution that is not approved.
        ConfigValueError: a value lies outside its range.
    """
    contract = shipped_contract(contract_name)
    members = {request.institution: request.kind for request in coordinator.members()}
    institutions, sizes = {}, []
    for entry in borrowers:
        institution, size, modalities = _entry(entry, contract)
        if institution in institutions:
            raise UsageError(problem=f"--borrowers names {institution} twice", hint="Give one entry per institution.")
        if institution not in members:
            raise NotAMemberError(institution=institution)
        sizes.append(size)
        institutions[institution] = {
            "kind": members[institution],
            "expected_borrowers": size,
            "modalities": modalities,
        }
    needed = quorum or len(institutions)
    consortium = Consortium(members=len(institutions), borrowers=sum(sizes), quorum=needed)
    raw = plan_values(
        settings_for(contract, model, privacy, consortium),
        name=name,
        consortium=coordinator.config.consortium,
        contract=contract,
        rounds=rounds,
        holdout=(coordinator.config.holdout.salt, coordinator.config.holdout.fraction),
        privacy=privacy,
        quorum=needed,
        retries=retries,
        deadline_s=deadline_s,
        institutions=institutions,
    )
    return validate(RunPlan, raw, source="coord plan new")


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
