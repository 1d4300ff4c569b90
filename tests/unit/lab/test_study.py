"""A study: every party's folder under one, ready to train, or nothing at all."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcredit.config.node import PolicySection
from fedcredit.errors import AlreadyExistsError, PrivacyPlanError, UnknownDatasetError, UsageError
from fedcredit.institution.admission import Approvals
from fedcredit.lab.inprocess import run_in_process
from fedcredit.lab.study import Study, StudyOptions, build_study
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import Coordinator
from fedcredit.rounds.evidence import verify_run

OPTIONS = StudyOptions(
    dataset="german", model="scorecard", epsilon=3.0, rounds=2, seed=1, test_noise=True, deadline_s=60.0
)
PORT = 9443


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return build_study(tmp_path_factory.mktemp("study") / "run", OPTIONS, relay_port=PORT)


def test_every_institution_is_enrolled_and_has_approved_the_plan(study: Study) -> None:
    members = Coordinator(study.coordinator_folder).members()
    assert {member.institution for member in members} == set(study.holdings) == set(study.plan.institutions)
    for name in study.holdings:
        Approvals(study.node_folder(name) / "approvals").require(study.plan.digest())


def test_private_files_of_an_institution_are_open_to_nobody_else(study: Study) -> None:
    for name in study.holdings:
        folder = study.node_folder(name)
        for path in (folder / "data.parquet", folder / "keys" / "identity.key", folder / "keys" / "supernode"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_the_public_size_of_an_institution_is_its_training_part_to_two_digits(study: Study) -> None:
    for name, size in study.plan.expected_borrowers().items():
        train = len(study.holdings[name].split(study.plan).train)
        assert abs(size - train) <= 10 ** (len(str(train)) - 2) / 2
        assert len(str(size).rstrip("0")) <= 2


def test_the_plan_claims_what_was_asked_for_and_pays_for_a_retry(study: Study) -> None:
    facts = privacy_plan(study.plan).describe()
    assert (facts.steps, facts.delta) == (2 + OPTIONS.retries, 1e-5)
    assert facts.protects is False  # the noise is fixed
    assert privacy_plan(study.plan).epsilon == 3.0


def test_epsilon_inf_is_a_plan_without_mechanism_that_the_institutions_were_told_to_allow(tmp_path: Path) -> None:
    study = build_study(tmp_path / "run", replace(OPTIONS, epsilon=math.inf, test_noise=False), relay_port=PORT)
    assert (study.plan.privacy.mechanism, study.plan.privacy.evaluation_epsilon) == ("none", math.inf)
    assert all(study.node_config(name).policy.allow_no_privacy for name in study.holdings)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (replace(OPTIONS, epsilon=0.0), UsageError),
        (replace(OPTIONS, epsilon=math.nan), UsageError),
        (replace(OPTIONS, epsilon=1e-9), PrivacyPlanError),
        (replace(OPTIONS, dataset="nosuch"), UnknownDatasetError),
    ],
    ids=["zero", "no number", "too small", "unknown data"],
)
def test_a_study_that_cannot_be_made_leaves_no_folder(
    tmp_path: Path, options: StudyOptions, error: type[Exception]
) -> None:
    with pytest.raises(error):
        build_study(tmp_path / "run", options, relay_port=PORT)
    assert list(tmp_path.iterdir()) == []


def test_shared_noise_needs_no_permission_for_masks_hide_the_shares(tmp_path: Path) -> None:
    options = replace(OPTIONS, noise="shared", colluders=1, test_noise=False)
    shared = build_study(tmp_path / "run", options, relay_port=PORT)
    assert (shared.plan.privacy.noise, shared.plan.honest_shares) == ("shared", 3)
    assert shared.plan.secure is not None
    assert all(shared.node_config(name).policy == PolicySection() for name in shared.holdings)


@pytest.mark.parametrize(
    ("institutions", "drop_outs", "threshold"),
    [(4, 0, 3), (8, 2, 6), (8, 3, 5), (3, 0, 3)],
)
def test_two_thirds_and_one_must_agree_to_a_sum_but_never_more_than_the_quorum(
    tmp_path: Path, institutions: int, drop_outs: int, threshold: int
) -> None:
    options = replace(OPTIONS, institutions=institutions, drop_outs=drop_outs)
    secure = build_study(tmp_path / "run", options, relay_port=PORT).plan.secure
    assert secure is not None
    assert (secure.threshold, secure.lane_bits) == (threshold, 32)


def test_an_open_study_says_so_in_its_plan(tmp_path: Path) -> None:
    study = build_study(tmp_path / "run", replace(OPTIONS, aggregation="open"), relay_port=PORT)
    assert study.plan.secure is None


def test_a_quorum_below_the_number_of_institutions_is_paid_for_by_more_noise(tmp_path: Path) -> None:
    options = replace(OPTIONS, noise="shared", institutions=8, drop_outs=2, retries=0)
    study = build_study(tmp_path / "run", options, relay_port=PORT)
    assert (len(study.holdings), study.plan.rounds.quorum, study.plan.honest_shares) == (8, 6, 6)
    assert study.plan.rounds.retries == 0
    everybody = sum(len(part.table) for part in study.holdings.values())
    assert everybody == 1000


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        build_study(tmp_path / "run", OPTIONS, relay_port=PORT)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_two_studies_with_fixed_noise_end_with_the_same_bits(study: Study, tmp_path: Path) -> None:
    other = build_study(tmp_path / "other", OPTIONS, relay_port=PORT)
    models: list[list[bytes]] = []
    for each in (study, other):
        told: list[tuple[int, np.ndarray, int]] = []
        folder = run_in_process(each, on_round=lambda *report, told=told: told.append(report))
        assert [(number, institutions) for number, _, institutions in told] == [(1, 4), (2, 4)]
        assert verify_run(folder).released == 2
        models.append([released.tobytes() for _, released, _ in told])
    assert models[0] == models[1]
    assert models[0][0] != models[0][1]
