"""The builds and paths that audits look at: what is broken is broken as it says, and nothing else is."""

from pathlib import Path

import numpy as np
import pytest
from consortium import plan_of

from fedcredit.contract import load_contract
from fedcredit.lab.audit_scenes import audit_pairs, contract_scene, scorecard_scene, tree_scene
from fedcredit.lab.audited_path import (
    CORRECT,
    MUTANTS,
    Build,
    ClientPath,
    Scene,
    entropy_of,
    joined,
    steps,
    trainings,
    with_wider_clip,
)
from fedcredit.lab.audited_worker import WorkerPath
from fedcredit.lab.privacy_audit import Integers

HALVED, ONE_SHARE, UNCLIPPED, SILENT, SAME = MUTANTS


def one_byte(count: int) -> bytes:
    return bytes([7]) * count


def scene() -> Scene:
    return scorecard_scene(canaries=4, rounds=2, epsilon=3.0, institutions=3)


def noise(build: Build) -> Integers:
    """The noise of a release without canaries; every institution has the same key here."""
    path = ClientPath(scene(), build, entropy=one_byte)
    awake = path.scene.awake
    return path.run(with_canaries=False).release(awake, 1) - path.known(awake, 1)


def test_the_broken_draws_give_half_a_third_and_nothing_of_the_noise() -> None:
    whole = noise(CORRECT)
    assert whole.std() > 100
    assert np.abs(noise(HALVED) - whole / 2).max() <= 3 / 2  # each of three shares is rounded
    assert noise(ONE_SHARE).tolist() == (whole // 3).tolist()
    assert not noise(SILENT).any()


def test_the_unclipped_build_lets_three_clip_bounds_pass_at_the_same_grid_step() -> None:
    effect = {}
    for build in (CORRECT, UNCLIPPED):
        path = ClientPath(scene(), build, entropy=one_byte)
        awake = path.scene.awake
        without, with_canaries = (path.run(with_canaries=is_in).release(awake, 1) for is_in in (False, True))
        effect[build.name] = with_canaries - without
    assert (effect["no clipping"] == 3 * effect["correct"]).all()


def test_only_one_build_uses_its_first_key_for_ever() -> None:
    drawn = iter(range(9))
    fresh, again = (entropy_of(build, lambda count: bytes([next(drawn)]) * count) for build in (CORRECT, SAME))
    assert [fresh(2), fresh(2)] == [b"\0\0", b"\1\1"]
    assert [again(2), again(2), again(1)] == [b"\2\2", b"\2\2", b"\3"]


def test_boosting_widens_up_to_the_largest_residual() -> None:
    plan = tree_scene(canaries=2, rounds=1, epsilon=3.0, institutions=3).plan
    assert with_wider_clip(plan, 3).training.clip == pytest.approx(0.75)
    assert with_wider_clip(plan, 30).training.clip == 1.0


def test_local_averaging_has_nothing_to_widen() -> None:
    averaging = {"kind": "fedavg", "learning_rate": 0.1, "local_epochs": 1, "batch_size": 8, "seed": 1}
    off = {
        "mechanism": "none",
        "accountant": "none",
        "epsilon": float("inf"),
        "evaluation_epsilon": float("inf"),
    }
    plan = plan_of(
        ("bank-a",),
        model={"kind": "logistic", "base_rate": 0.4},
        training=averaging,
        aggregation={"kind": "open", "update_bound": "none"},
        **{f"privacy/{key}": value for key, value in off.items()},
    )
    with pytest.raises(ValueError, match="no clip bound"):
        with_wider_clip(plan, 3)


def test_what_is_audited_is_the_round_with_the_fewest_honest_shares() -> None:
    made = scene()
    assert len(made.honest) == made.plan.honest_shares == 3
    # One release, and sqrt(2) times as much for two: mu^2 adds up.
    assert made.training_mu == pytest.approx(made.step_mu * 2**0.5)


def test_a_training_has_all_rounds_and_one_set_of_directions() -> None:
    path = ClientPath(scene(), CORRECT, entropy=one_byte)
    (rounds,) = (list(training) for training in trainings(path, seeds=1))
    assert len(rounds) == 2
    assert rounds[0].directions.tolist() == rounds[1].directions.tolist()
    assert rounds[0].known.tolist() != rounds[1].known.tolist()  # the second is at the weights of the first


def test_directions_have_no_lane_in_common_and_length_one() -> None:
    path = ClientPath(tree_scene(canaries=6, rounds=1, epsilon=3.0, institutions=3), CORRECT, entropy=one_byte)
    (observation,) = steps(path, runs=1, with_canaries=True)
    assert ((observation.directions != 0).sum(axis=0) <= 1).all()
    assert np.linalg.norm(observation.directions, axis=1).tolist() == pytest.approx([1.0] * len(observation.directions))


def test_canaries_that_never_sleep_are_refused_where_they_must() -> None:
    path = ClientPath(tree_scene(canaries=2, rounds=2, epsilon=3.0, institutions=3), CORRECT, entropy=one_byte)
    with pytest.raises(ValueError, match="never sleep"):
        audit_pairs(path, runs=1)


@pytest.mark.parametrize("build", [HALVED, ONE_SHARE, UNCLIPPED, SILENT], ids=lambda build: build.name)
def test_the_worker_cannot_be_given_another_draw_or_clip(build: Build, tmp_path: Path) -> None:
    taiwan = load_contract("taiwan")
    made = contract_scene(taiwan, "repayment", rounds=1, epsilon=3.0, institutions=3)
    with pytest.raises(ValueError, match="by itself"):
        WorkerPath(made, build, contract=taiwan, folder=tmp_path, entropy=one_byte)


def test_joined_tables_keep_every_row() -> None:
    made = scene()
    table = made.tables[made.honest[0]]
    both = joined(table, made.canaries)
    assert len(both) == len(table) + 4
    assert both.entities.tolist() == table.entities.tolist() + made.canaries.entities.tolist()
    assert both.modalities["application"].codes[-4:].tolist() == [[i] * 16 for i in range(4)]
