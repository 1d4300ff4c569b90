"""The budget of an institution over all its runs: what is spent, what is left, and what approved plans may still take.

The ledger decides what is released; this is what an operator reads, and the one way to change a cap.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

from fedcredit.config.node import NodeConfig, write_budget
from fedcredit.config.plan import RunPlan
from fedcredit.errors import CapMismatchError, FedcreditError, LedgerCorruptError
from fedcredit.institution.admission import policy_refusal
from fedcredit.institution.node import LEDGER, STATE, NodeRecord, NodeState, has_state
from fedcredit.parties import InstitutionId
from fedcredit.privacy.accounting import epsilon_for_mu, mu_for_epsilon
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.ledger import CAP_KEYS, PrivacyLedger
from fedcredit.privacy.ledger_entries import CapAmended, Charge, LedgerOpened
from fedcredit.privacy.ledger_record import LedgerRecord
from fedcredit.privacy.plan import HOLDOUT, TRAIN, PrivacyPlan
from fedcredit.privacy.release import FULL_BATCH, Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

_TYPICAL_DEVIATION: Final = 2000
"""Noise of about this deviation is neither so small nor so large that its rounding shows in a cost."""
_LARGEST_TYPICAL: Final = 100_000
_DIMENSION: Final = 1 << 13
_HALVINGS: Final = 30


@dataclass(frozen=True, kw_only=True)
class PartitionBudget:
    """What one group of borrowers has lost, and may lose."""

    partition: str
    cap: BudgetCap
    """The one that counts: the ledger's, or node.toml's where that is lower."""
    spent: Spending
    left: float
    """The largest epsilon that one further Gaussian run may state; more than the difference, as squares add up."""
    planned: float
    """The epsilon that spending reaches at most if every approved plan is carried out; infinite if one protects nobody.
    """
    by_run: Mapping[str, Spending]


@dataclass(frozen=True, kw_only=True)
class BudgetReport:
    """The whole budget of an institution."""

    institution: InstitutionId
    partitions: tuple[PartitionBudget, ...]
    opened: int | None
    """When the ledger was opened, in seconds since 1970; ``None`` if no node of this version has run yet."""
    amendments: tuple[CapAmended, ...]
    planned: int
    """How many approved plans are counted in ``PartitionBudget.planned``."""
    unreadable: int
    """How many approved plans are not counted: of an older version, or such that they cannot hold."""
    entries: int
    head: bytes


@dataclass(frozen=True, kw_only=True)
class LedgerEvidence:
    """What was checked in a ledger."""

    institution: InstitutionId
    entries: int
    head: bytes
    spent: Mapping[str, Spending]
    """Per partition with a cap or a charge."""


def report_budget(folder: Path) -> BudgetReport:
    """Return the budget of the node in ``folder``, which must not be running; nothing is written.

    Raises:
        StateDirInUseError: it is.
        PrivacyError, AuditError, StorageError: see ``NodeRecord.read``.
    """
    config = NodeConfig.read(folder)
    plans, unreadable = _approved_plans(folder / "approvals", config.name)
    with NodeRecord.read(folder, config) as record:
        past = _Past.of(record.ledger)
    ahead = [
        _still_to_come(plan, private, past) for plan, private in plans if policy_refusal(plan, config.policy) is None
    ]
    return BudgetReport(
        institution=config.name,
        partitions=tuple(_partition(record, name, ahead) for name in record.caps),
        opened=past.opened,
        amendments=tuple(past.amendments),
        planned=sum(any(cost is None or cost.sampler_distance for cost in costs.values()) for costs in ahead),
        unreadable=unreadable,
        entries=past.entries,
        head=record.ledger.head,
    )


def amend_budget(
    folder: Path,
    *,
    partition: str,
    epsilon: float,
    approvers: Iterable[str],
    reason: str,
    clock: Callable[[], float],
) -> float:
    """Set the cap of ``partition`` in the ledger, then in node.toml, and return the ledger's cap before.

    ``partition`` is one of ``CAP_KEYS``. After a crash between the two, the same call finishes: the ledger holds the
    cap already and gets no second entry.

    Raises:
        AmendmentError: see ``PrivacyLedger.amend``; nothing was changed.
        StateDirInUseError: the node is running.
    """
    config = NodeConfig.read(folder)
    with Database.open(folder / STATE) as database:
        ledger = _open_to_amend(database, config, clock)
        before = ledger.recorded_caps[partition].epsilon
        ledger.amend(partition, epsilon=epsilon, approvers=tuple(approvers), reason=reason)
        # Inside, so that no node starts on the old file.
        write_budget(folder, key=_key(partition), value=epsilon)
    return before


def verify_ledger(folder: Path, *, heads: Iterable[bytes]) -> LedgerEvidence:
    """Check the chain and every entry of the ledger of the node in ``folder``, and that it once had all ``heads``.

    Nothing is written. The node must not be running.

    Raises:
        LedgerCorruptError: there is no ledger, or it does not verify.
        LedgerOwnerError: it is another institution's.
        LedgerRolledBackError: it lacks a head.
    """
    config = NodeConfig.read(folder)
    path = folder / STATE
    if not has_state(folder):
        raise LedgerCorruptError(path=str(path), index=0, problem="the file is missing or empty")
    with Database.open(path) as database:
        record = LedgerRecord(Journal(database, LEDGER), place=database.place)
    record.require_owner(config.name)
    for head in heads:
        record.require_head(head)
    spent = {name: record.spent(name) for name in record.partitions}
    return LedgerEvidence(
        institution=config.name,
        entries=len(record),
        head=record.head,
        spent={name: item for name, item in spent.items() if item is not None},
    )


def _open_to_amend(database: Database, config: NodeConfig, clock: Callable[[], float]) -> PrivacyLedger:
    """Return the ledger also if node.toml names a higher cap already: the amendment is what is missing then."""
    try:
        return NodeState.open(database, config, clock=clock).ledger
    except CapMismatchError as error:
        name = str(error.fields["key"]).removeprefix("budget.")
        lower = config.budget.model_copy(update={name: error.fields["cap"]})
        return _open_to_amend(database, config.model_copy(update={"budget": lower}), clock)


def _key(partition: str) -> str:
    return CAP_KEYS[partition].removeprefix("budget.")


def _approved_plans(folder: Path, institution: InstitutionId) -> tuple[list[tuple[RunPlan, PrivacyPlan]], int]:
    """Return the plans that can be carried out here, and how many files are none."""
    plans, unreadable = [], 0
    for path in sorted(folder.glob("*.toml")):
        try:
            plan = RunPlan.read(path)
            private = privacy_plan(plan)
        except FedcreditError:
            unreadable += 1
            continue
        # Admission looks a plan up by the name of its file; another content is approved under no name.
        if plan.digest().hex() == path.stem and institution in plan.institutions:
            plans.append((plan, private))
    return plans, unreadable


@dataclass(kw_only=True)
class _Past:
    """What the history of a ledger says about plans."""

    opened: int | None = None
    entries: int = 0
    amendments: list[CapAmended] = field(default_factory=list)
    charges: Counter[tuple[bytes, str]] = field(default_factory=Counter)
    """Per plan and kind of release."""
    evaluated: set[tuple[bytes, str]] = field(default_factory=set)
    """Plan and round of every evaluation: no training of that round follows it."""

    @classmethod
    def of(cls, ledger: LedgerRecord) -> _Past:
        past = cls()
        for said in ledger.entries():
            past.entries += 1
            if isinstance(said, LedgerOpened):
                past.opened = said.time
            elif isinstance(said, CapAmended):
                past.amendments.append(said)
            elif said.plan is not None:
                past._count(said, said.plan)
        return past

    def _count(self, charge: Charge, plan: bytes) -> None:
        self.charges[plan, charge.kind] += 1
        if charge.kind == "evaluate":
            self.evaluated.add((plan, charge.round))


def _still_to_come(plan: RunPlan, private: PrivacyPlan, past: _Past) -> Mapping[str, Cost | None]:
    """Return what a plan may still cost each partition, every retry included; ``None`` for what no number bounds."""
    digest = plan.digest()
    trained, prepared, evaluated, voted = (
        past.charges[digest, kind] for kind in ("train", "prepare", "evaluate", "close")
    )
    over = (digest, str(plan.run.rounds)) in past.evaluated
    mu_squared = _mu_squared(private, private.epsilon) * (1 - private.preparation_share)
    steps = 0 if over else private.steps - trained
    training = _cost(private.training_release, private, mu_squared / private.steps, times=steps)
    if private.preparation_share and not trained and not over:
        part = _mu_squared(private, private.epsilon) * private.preparation_share / private.preparation_steps
        left = private.preparation_steps - prepared
        training = _sum(training, _cost(private.preparation_release, private, part, times=left))
    part = _mu_squared(private, private.evaluation_epsilon) / private.evaluation_steps
    counted = part * (1 - private.vote_share)
    evaluation = _cost(private.evaluation_release, private, counted, times=private.evaluation_steps - evaluated)
    if private.vote_share:
        left = private.evaluation_steps - voted
        evaluation = _sum(evaluation, _cost(private.vote_release, private, part * private.vote_share, times=left))
    return {TRAIN: training, HOLDOUT: evaluation}


def _mu_squared(private: PrivacyPlan, epsilon: float) -> float:
    return math.inf if math.isinf(epsilon) or private.test_noise else mu_for_epsilon(epsilon, private.delta) ** 2


def _cost(make: Callable[..., Release], private: PrivacyPlan, mu_squared: float, *, times: int) -> Cost | None:
    """Return what ``times`` releases of about ``mu_squared`` each cost; ``None`` if nothing bounds one.

    What a release costs hardly depends on the model: a larger sum gets the more noise. So one is made up whose noise
    has a deviation that its rounding to an integer does not distort.
    """
    if times <= 0:
        return Cost.nothing()
    if math.isinf(mu_squared):
        return None
    deviation = min(_LARGEST_TYPICAL, _TYPICAL_DEVIATION * FULL_BATCH // private.sampled_per_million)
    sensitivity_squared = math.ceil(deviation**2 * mu_squared * private.honest_shares)
    release = make(release_id="planned", sensitivity_squared=sensitivity_squared, dimension=_DIMENSION)
    return Cost.of(release).times(times)


def _sum(first: Cost | None, second: Cost | None) -> Cost | None:
    return None if first is None or second is None else first + second


def _partition(record: NodeRecord, name: str, ahead: Iterable[Mapping[str, Cost | None]]) -> PartitionBudget:
    spent, cap = record.spent(name), record.caps[name]
    total: Cost | None = None if spent.unprotected else spent.cost
    for costs in ahead:
        total = _sum(total, costs.get(name, Cost.nothing()))
    return PartitionBudget(
        partition=name,
        cap=cap,
        spent=spent,
        left=_room(spent, cap),
        planned=math.inf if total is None else total.epsilon(spent.delta),
        by_run=record.ledger.spent_by_run(name),
    )


def _room(spent: Spending, cap: BudgetCap) -> float:
    """Return the largest epsilon that one further Gaussian run may state, rounded down."""
    if spent.epsilon >= cap.epsilon:
        return 0.0
    low, high = 0.0, mu_for_epsilon(cap.epsilon, cap.delta)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        further = Cost(mu_squared=Fraction(middle) ** 2, renyi=None, sampler_distance=Fraction(0))
        low, high = (middle, high) if (spent.cost + further).epsilon(cap.delta) <= cap.epsilon else (low, middle)
    return epsilon_for_mu(low, cap.delta)
