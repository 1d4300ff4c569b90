"""How much each institution may add to a training sum, from round to round, and whether an opened sum can be theirs.

Everything here is public: the plan, and sums that were released. The coordinator bounds the next round with it, and
whoever verifies a log computes the same bounds again (``evidence_rounds``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.checkpoint import Checkpoint
from fedcredit.config.plan import RunPlan
from fedcredit.errors import CheckpointError
from fedcredit.parties import InstitutionId
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.training.families import ModelFamily
from fedcredit.training.integer_sum import SumBounds
from fedcredit.training.update_bound import (
    ReleasedSum,
    UpdateBound,
    alike,
    bounded,
    require_in_range,
    update_bounds,
)

Integers = npt.NDArray[np.int64]
NO_SUM: Final = np.zeros(0, dtype=np.int64)
"""Stands for the last sum before there is one."""
_EXACT: Final = 2.0**53
"""Up to here every integer is a float64."""


def kept_total(checkpoint: Checkpoint, *, lanes: int) -> Integers:
    """Return the sum that a checkpoint holds beside its model, shape (lanes,).

    Raises:
        CheckpointError: it holds none.
    """
    values = checkpoint.tensors.get("total", np.zeros(0))
    # Written so that NaN is refused as well.
    if values.shape != (lanes,) or not (np.abs(values) <= _EXACT).all() or (values != np.rint(values)).any():
        raise CheckpointError(path=f"round {checkpoint.round}", problem="holds no sum of its round")
    return values.astype(np.int64)


class Containment:
    """The bounds of one run's next training round; they follow the last released sum."""

    def __init__(self, plan: RunPlan, family: ModelFamily) -> None:
        self._plan = plan
        self._family = family
        self._last: ReleasedSum | None = None
        self._limits: dict[InstitutionId, UpdateBound] | None = None

    def follow(self, total: Integers, contributors: Iterable[InstitutionId]) -> None:
        """Take the sum of the round that was released last."""
        if not self._plan.bounds_updates:
            return
        self._last = ReleasedSum(total=total, deviations={name: self._deviations[name] for name in contributors})
        self._limits = None

    def radii(self, cohort: Sequence[str]) -> tuple[int, ...]:
        """Return what a manifest of the next round says, member after member; empty if the plan bounds nothing."""
        if not self._plan.bounds_updates:
            return ()
        return tuple(radius for name in cohort for radius in self._bound_of(InstitutionId(name)).radii)

    def require(self, total: Integers, contributors: Iterable[InstitutionId], *, round_number: int) -> None:
        """Refuse a sum that these contributors cannot have made under the next round's bounds.

        Raises:
            UpdateOutOfRangeError: at least one of them did not bound its part, or the sum is not theirs.
        """
        if not self._plan.bounds_updates:
            return
        names = list(contributors)
        require_in_range(
            total,
            round_number=round_number,
            limits=[self._bound_of(name) for name in names],
            deviations=[self._deviations[name] for name in names],
        )

    def _bound_of(self, name: InstitutionId) -> UpdateBound:
        if self._limits is None:
            if self._last is None:
                self._limits = self._first
            else:
                wanted = update_bounds(self._plan, self._bounds, bounds=self._bounds, previous=self._last)
                self._limits = alike(wanted, self._first)
        return self._limits[name]

    @cached_property
    def _first(self) -> dict[InstitutionId, UpdateBound]:
        return update_bounds(self._plan, self._bounds, bounds=self._bounds, previous=None)

    @cached_property
    def _bounds(self) -> dict[InstitutionId, SumBounds]:
        names = map(InstitutionId, self._plan.institutions)
        return {name: self._family.bounds(self._plan, name) for name in names}

    @cached_property
    def _deviations(self) -> dict[InstitutionId, float]:
        """The noise of each member, by the plan: all that a sum holds beside what was shortened."""
        privacy, known = privacy_plan(self._plan), dict[tuple[int, int], float]()
        found = {}
        for name, bounds in self._bounds.items():
            made = bounded(bounds)
            sizes = made.sensitivity_squared or 0, int(made.reached.sum())
            if sizes not in known:
                release = privacy.training_release(
                    release_id="contained", sensitivity_squared=sizes[0], dimension=sizes[1]
                )
                known[sizes] = float(release.sigma)
            found[name] = known[sizes]
        return found
