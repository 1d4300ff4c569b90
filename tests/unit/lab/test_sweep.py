"""A sweep is whole runs, compared on one split, and its table is plain arithmetic over their points."""

import math

import pytest

from fedcredit.errors import UsageError
from fedcredit.lab.study import StudyOptions
from fedcredit.lab.sweep import Point, SweepOptions, run_sweep, summary

STUDY = StudyOptions(
    dataset="german",
    model="trees",
    epsilon=1.0,
    rounds=2,
    seed=1,
    test_noise=False,
    deadline_s=60.0,
    noise="shared",
    institutions=3,
    retries=0,
)


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[Point]:
    seen: list[Point] = []
    folder = tmp_path_factory.mktemp("sweep")
    options = SweepOptions(study=STUDY, epsilons=(8.0, math.inf), seeds=(1, 2), alone=False)
    points = run_sweep(options, folder, on_point=seen.append)
    assert seen == points
    assert not list(folder.iterdir())
    return points


def test_every_epsilon_is_run_at_every_seed_and_leaves_no_folder(points: list[Point]) -> None:
    assert [(point.seed, point.epsilon) for point in points] == [(1, 8.0), (1, math.inf), (2, 8.0), (2, math.inf)]


def test_a_gap_is_taken_on_the_same_split(points: list[Point]) -> None:
    for first, second in ((points[0], points[1]), (points[2], points[3])):
        assert first.reference_auc == second.reference_auc
        assert first.gap == pytest.approx(first.reference_auc - first.auc)
    assert points[0].reference_auc != points[2].reference_auc


def test_a_point_states_what_a_message_costs_alone_and_what_it_weighs(points: list[Point]) -> None:
    protected, open_run = points[0], points[1]
    # Three shares carry the claim, so a message alone has mu times the root of three.
    assert protected.epsilon_alone > 1.5 * protected.epsilon
    assert open_run.epsilon_alone == math.inf
    assert (protected.numbers_per_round, protected.rounds) == (20 * 16 * 2, 2)
    assert protected.alone_mean_auc is None


def point(seed: int, epsilon: float, auc: float) -> Point:
    return Point(
        epsilon=epsilon,
        epsilon_alone=epsilon,
        seed=seed,
        auc=auc,
        ks=0.4,
        brier=0.1,
        gap=0.8 - auc,
        reference_auc=0.8,
        alone_mean_auc=None,
        alone_best_auc=None,
        rounds=1,
        numbers_per_round=1,
        bytes_per_round=1,
        cpu_seconds_per_institution=0.1,
    )


def test_the_summary_has_the_interval_of_students_t() -> None:
    first, second = summary([point(1, 3.0, 0.70), point(2, 3.0, 0.74), point(1, 1.0, 0.6)])
    assert (first["epsilon"], first["auc"], first["auc_low"]) == (1.0, 0.6, 0.6)
    assert second["auc"] == pytest.approx(0.72)
    # t(0.975, 1 degree) = 12.706; the deviation of the mean is 0.02.
    assert second["auc_high"] - second["auc"] == pytest.approx(12.706 * 0.02, rel=1e-3)
    assert second["gap"] == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("epsilons", "seeds"), [((), (1,)), ((1.0,), ()), ((0.0,), (1,)), ((-1.0,), (1,)), ((math.nan,), (1,))]
)
def test_an_empty_or_senseless_sweep_is_refused(epsilons: tuple[float, ...], seeds: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        SweepOptions(study=STUDY, epsilons=epsilons, seeds=seeds, alone=False)


def test_an_endless_sweep_is_refused() -> None:
    with pytest.raises(UsageError, match="1,000"):
        SweepOptions(study=STUDY, epsilons=(1.0, 2.0), seeds=tuple(range(501)), alone=False)
