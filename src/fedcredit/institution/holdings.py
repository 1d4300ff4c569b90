"""What one institution brings to a run: its table, split into training and held-out borrowers."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract
from fedcredit.data.splits import holdout_mask
from fedcredit.data.table import CreditTable
from fedcredit.errors import PolicyError
from fedcredit.parties import InstitutionId


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """The private table of one institution and the public contract it follows."""

    institution: InstitutionId
    contract: Contract
    table: CreditTable
    out_of_time: datetime.date | None = None
    """First day of observation that is not in the table; ``None`` for a table of the institution's own."""

    def split(self, plan: RunPlan) -> Split:
        """Return training and held-out records for the modalities that the plan gives this institution.

        Raises:
            PolicyError: the plan counts on a modality that the institution does not hold, or has another day from
                which rows are out of time: then its members would train on what others keep for the test.
        """
        if plan.run.out_of_time != self.out_of_time:
            days = {name: day or "none" for name, day in (("plan", plan.run.out_of_time), ("tables", self.out_of_time))}
            raise PolicyError(
                reason=f"out of time begins {days['plan']} in the plan and {days['tables']} in the tables"
            )
        modalities = plan.modalities(self.institution)
        absent = sorted(set(modalities) - set(self.table.modalities))
        if absent:
            raise PolicyError(reason=f"the plan counts on modalities that are not held: {', '.join(absent)}")
        return self.split_all(plan, modalities)

    def split_all(self, plan: RunPlan, modalities: Iterable[str]) -> Split:
        """Return training and held-out records with these modalities, by the plan's public key."""
        table = self.table.with_modalities(modalities)
        held_out = holdout_mask(table.entities, salt=plan.run.holdout_salt, fraction=plan.run.holdout_fraction)
        # An empty side is no error: a refusal would tell, without noise, that nobody is in it.
        return Split(train=table.take(~held_out), holdout=table.take(held_out))


@dataclass(frozen=True, kw_only=True)
class Split:
    """Borrower-disjoint parts of a table."""

    train: CreditTable
    holdout: CreditTable


def split_name(plan: RunPlan) -> bytes:
    """Return a digest of the split's public key; an institution keeps one split for the life of its ledger."""
    run = plan.run
    late = f"/{run.out_of_time.isoformat()}" if run.out_of_time else ""
    return hashlib.sha256(f"{run.holdout_salt}/{run.holdout_fraction!r}{late}".encode()).digest()
