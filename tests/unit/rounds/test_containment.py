"""One member against the sum: its own program shortens what it computes, and a sum that is too large is not used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import BOUNDED, NO_PRIVACY, SECURE, SHARED, TREES, Consortium, modalities_of, plan_of, question
from kept_runs import driven, opened_run, places, read

from fedcredit.audit.log import EventKind
from fedcredit.checkpoint import Checkpoint
from fedcredit.errors import AuditError, CheckpointError, UpdateOutOfRangeError
from fedcredit.institution.releases import Integers, RunContext, Sums, Vector
from fedcredit.messages import Manifest, Purpose
from fedcredit.parties import InstitutionId
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.containment import Containment, kept_total
from fedcredit.rounds.drive import drive
from fedcredit.rounds.evidence import verify_run
from fedcredit.training.families import LocalComputation
from fedcredit.training.integer_sum import IntegerSum
from fedcredit.training.update_bound import lane_blocks

NAMES = ("bank-a", "bank-b", "fund-c", "insurer-d")
ROWS = 1200
SIZES = {
    "institutions": {
        name: {"kind": "bank", "expected_borrowers": 840, "modalities": list(modalities_of(name))} for name in NAMES
    }
}
"""What 1,200 rows leave for training."""
ALLOW = {"allow_no_privacy": True}


def consortium_of(folder: Path, **changes: Any) -> Consortium:
    plan = plan_of(**{**SIZES, **SECURE, **changes}, **BOUNDED)
    return Consortium.make(folder, plan, rows=ROWS, policy=ALLOW)


@dataclass
class Lying:
    """A computation that gives another sum: the lie of a member who left the program as it is."""

    honest: LocalComputation
    lie: Callable[[Integers], Integers]

    def integer_sum(self, weights: Vector, *, round_number: int, batch: np.ndarray | None) -> IntegerSum:
        honest = self.honest.integer_sum(weights, round_number=round_number, batch=batch)
        return IntegerSum(values=self.lie(honest.values))


@dataclass
class FedLies:
    """The sums of a member whose computation lies."""

    inner: Sums
    lie: Callable[[Integers], Integers]

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        return self.inner.of(manifest, replace(context, computation=Lying(context.computation, self.lie)), weights)


@dataclass
class Unbounded:
    """The sums of a member who changed its program, so that it sends what it likes; in so many rounds."""

    inner: Sums
    add: int
    times: int

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        honest = self.inner.of(manifest, context, weights)
        if manifest.purpose != Purpose.TRAIN or not self.times:
            return honest
        self.times -= 1
        return honest + self.add


def corrupt(consortium: Consortium, name: str, make: Callable[[Sums], Sums]) -> None:
    stages = consortium.sites[name].worker._stages
    stages._sums = make(stages._sums)


def entries(folder: Path, kind: EventKind) -> list[dict[str, Any]]:
    return [fields for found, fields in read(folder) if found is kind]


@pytest.mark.parametrize(
    "changes",
    [{}, TREES, {**SHARED, "rounds/quorum": 4}, NO_PRIVACY, {"aggregation": {"kind": "open"}, "rounds/quorum": 4}],
    ids=["scorecard", "trees", "shared", "no privacy", "open"],
)
def test_every_round_is_bounded_by_the_sum_before_it_and_the_evidence_says_so(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    consortium = consortium_of(tmp_path, **changes)
    folder = driven(consortium)
    opened = [fields for fields in entries(folder, EventKind.ROUND_OPENED) if fields["purpose"] == "train"]
    blocks = len(lane_blocks(consortium.plan))
    assert [len(fields["radii"]) for fields in opened] == [4 * blocks] * 3
    widest = list(Containment(consortium.plan, consortium.family).radii(NAMES))
    assert opened[0]["radii"] == widest
    for fields in opened[1:]:
        assert all(radius <= most for radius, most in zip(fields["radii"], widest, strict=True))
    assert verify_run(folder).released == 3


def test_without_noise_no_lie_of_our_own_program_is_longer_than_its_radius(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path, **NO_PRIVACY, **{"rounds/quorum": 4})
    for name in NAMES:
        corrupt(consortium, name, lambda sums: FedLies(sums, lambda honest: -100 * honest))
    run = consortium.run()
    contained = Containment(consortium.plan, consortium.family)
    for report in run.rounds():
        room = sum(contained.radii(NAMES))
        assert np.sqrt((report.result.total.astype(float) ** 2).sum()) <= room
        contained.follow(report.result.total, report.result.contributors)


def test_what_a_member_pays_for_is_the_wider_noise_of_bounded_sums(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path)
    driven(consortium)
    site = consortium.sites["bank-b"]
    charge = next(item for item in site.charges() if item.kind == "train")
    bounds = consortium.family.bounds(consortium.plan, InstitutionId("bank-b"))
    squared, lanes = bounds.sensitivity_squared or 0, int(bounds.reached.sum())
    assert charge.release.sensitivity_squared == int((squared**0.5 + lanes**0.5) ** 2)
    assert site.epsilon() <= consortium.plan.privacy.epsilon


def test_a_sum_out_of_range_is_tried_again_and_every_try_is_charged(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path)
    corrupt(consortium, "bank-b", lambda sums: Unbounded(sums, add=20_000, times=1))
    folder = driven(consortium)
    aborted = entries(folder, EventKind.ROUND_ABORTED)
    assert [(fields["round"], fields["attempt"], fields["code"]) for fields in aborted] == [(1, 1, "FC-2403")]
    assert {site.charged() for site in consortium.sites.values()} == {4}
    evidence = verify_run(folder)
    assert (evidence.released, evidence.sums) == (3, 5)


def test_a_sum_that_stays_out_of_range_ends_the_run_with_the_model_unchanged(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path)
    corrupt(consortium, "bank-b", lambda sums: Unbounded(sums, add=20_000, times=9))
    with opened_run(consortium) as opened:
        with pytest.raises(UpdateOutOfRangeError) as refused:
            drive(opened, privacy_plan(consortium.plan))
        assert opened.run.state.round == 0
    assert refused.value.fields == {"round": 1, "numbers": "gradient"}
    folder = tmp_path / "run"
    assert [fields["code"] for fields in entries(folder, EventKind.ROUND_ABORTED)] == ["FC-2403"] * 3
    assert {site.charged() for site in consortium.sites.values()} == {3}
    assert verify_run(folder).released == 0


@pytest.mark.parametrize("kind", ["secure", "open"])
def test_after_a_restart_the_bounds_follow_from_the_same_sum(tmp_path: Path, kind: str) -> None:
    changes = {"aggregation": {"kind": "open"}, "rounds/quorum": 4} if kind == "open" else {}
    consortium = consortium_of(tmp_path, **changes)
    with opened_run(consortium) as opened:
        rounds = opened.run.rounds()
        next(rounds)
        expected = opened.run._contained.radii(NAMES)
    with opened_run(consortium) as opened:
        assert opened.run._contained.radii(NAMES) == expected
        drive(opened, privacy_plan(consortium.plan))
    assert verify_run(tmp_path / "run").released == 3


class Otherwise(Containment):
    """Leaves everybody half of the first round's room, whatever the last sum was: members take that."""

    def radii(self, cohort: Sequence[str]) -> tuple[int, ...]:
        first = Containment(self._plan, self._family).radii(cohort)
        return first if self._last is None else tuple(radius // 2 for radius in first)


class Careless(Containment):
    """A coordinator that uses whatever it gets."""

    def require(self, *_: object, **__: object) -> None:
        """Accept."""


@pytest.mark.parametrize("kind", ["secure", "open"])
@pytest.mark.parametrize(
    ("bad", "event", "problem"),
    [
        (Otherwise, EventKind.ROUND_OPENED, "bounds its members otherwise"),
        (Careless, EventKind.ROUND_RELEASED, "cannot have made within their bounds .FC-2403"),
    ],
)
def test_a_coordinator_that_does_not_bound_is_found_at_the_first_entry(
    tmp_path: Path, kind: str, bad: type[Containment], event: EventKind, problem: str
) -> None:
    changes = {"aggregation": {"kind": "open"}, "rounds/quorum": 4} if kind == "open" else {}
    consortium = consortium_of(tmp_path, **changes)
    if bad is Careless:
        corrupt(consortium, "bank-b", lambda sums: Unbounded(sums, add=20_000, times=1))
    with opened_run(consortium) as opened:
        opened.run._contained = bad(consortium.plan, consortium.family)
        drive(opened, privacy_plan(consortium.plan))
    folder = tmp_path / "run"
    found = places(read(folder), event)
    trained = [i for i in found if event is EventKind.ROUND_RELEASED or read(folder)[i][1]["purpose"] == "train"]
    index = trained[1] if bad is Otherwise else trained[0]
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(folder)
    assert caught.value.fields["index"] == index


@pytest.mark.parametrize("damage", ["missing", "short", "broken", "not a number"])
def test_a_checkpoint_without_the_sum_of_its_round_is_refused(damage: str) -> None:
    tensors = {
        "missing": {},
        "short": {"total": np.zeros(2)},
        "broken": {"total": np.full(3, 0.5)},
        "not a number": {"total": np.array([1.0, np.nan, 2.0])},
    }[damage]
    checkpoint = Checkpoint(round=4, tensors=tensors, manifest_digest=bytes(32), parent=bytes(32))
    with pytest.raises(CheckpointError, match="round 4"):
        kept_total(checkpoint, lanes=3)


def bend(*, own: int = 0, others: int = 0) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    return lambda radii: (radii[0] + own, *(radius + others for radius in radii[1:]))


@pytest.mark.parametrize(
    ("changes", "radii", "code"),
    [
        ({}, bend(own=1), "FC-3106"),
        ({}, bend(own=-1), "FC-3106"),
        ({}, lambda radii: (), "FC-3106"),
        ({}, lambda radii: radii[:-1], "FC-3106"),
        ({}, lambda radii: (*radii, 5), "FC-3106"),
        ({"round": 2}, bend(own=1), "FC-3106"),
        ({"round": 2}, lambda radii: (0,) * len(radii), ""),
        ({"round": 2}, lambda radii: tuple(radius * 3 // 8 for radius in radii), ""),
        # Others without room: the sum would be this member's update alone.
        ({"round": 2}, lambda radii: (radii[0], *(0 for _ in radii[1:])), "FC-3106"),
        ({"round": 2}, lambda radii: (radii[0] // 2, *(radius // 4 for radius in radii[1:])), "FC-3106"),
        ({"round": 2}, lambda radii: (0, *radii[1:]), "FC-3106"),
        ({"round": 2}, lambda radii: (*radii[:-1], radii[-1] - 1000), "FC-3106"),
        ({}, bend(others=7), "FC-3106"),
        ({}, lambda radii: (radii[0], *(0 for _ in radii[1:])), "FC-3106"),
    ],
)
def test_an_institution_takes_only_radii_that_its_plan_can_have(
    tmp_path: Path, changes: dict[str, int], radii: Callable[[tuple[int, ...]], tuple[int, ...]], code: str
) -> None:
    consortium = consortium_of(tmp_path, aggregation={"kind": "open"}, **{"rounds/quorum": 4})
    widest = Containment(consortium.plan, consortium.family).radii(NAMES)
    assert question(consortium, "bank-a", radii=radii(widest), **changes).code() == code
    assert consortium.sites["bank-a"].charged() == (0 if code else 1)


def test_radii_where_the_plan_bounds_nothing_are_refused(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of())
    assert question(consortium, "bank-a", radii=(5, 5, 5, 5)).code() == "FC-3106"
    assert question(consortium, "bank-a", purpose="evaluate", radii=(5, 5, 5, 5)).code() == "FC-3106"
    assert consortium.sites["bank-a"].charged() == 0
