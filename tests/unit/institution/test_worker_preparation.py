"""The histogram before the first round: one release like any other, asked for once, paid from the training budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from consortium import INPUTS, NO_PRIVACY, TREES, Consortium, Site, plan_of, question

from fedcredit.audit.log import EventKind
from fedcredit.messages import COUNT_GRID, CountsAnswer, from_lanes
from fedcredit.privacy.accounting import mu_for_epsilon
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.training.tree_sums import CategoryHistogram

PLAN = plan_of(**TREES)
NOMINAL = 1
"""The one column of ``application`` whose bins have no order."""
BINS = 7


class PowerCutError(BaseException):
    """Ends the process in the middle of something."""


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium.make(tmp_path, PLAN, on_disk=True)


@pytest.fixture
def bank(consortium: Consortium) -> Site:
    return consortium.sites["bank-b"]


def lanes_of(answer: object) -> np.ndarray:
    assert isinstance(answer, CountsAnswer)
    return from_lanes(answer.lanes, what="answer", count=2 * BINS)


def test_the_contract_of_these_tests_has_one_category() -> None:
    categories = [
        (name, column) for name, shape in INPUTS.items() for column in range(len(shape.bins)) if shape.nominal[column]
    ]
    assert categories == [("application", NOMINAL)]
    assert INPUTS["application"].bins[NOMINAL] == BINS


def test_without_noise_it_counts_the_training_borrowers_of_every_category_by_outcome(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES, **NO_PRIVACY), policy={"allow_no_privacy": True})
    lanes = lanes_of(question(consortium, "bank-b", purpose="prepare").answer())
    site = consortium.sites["bank-b"]
    train = site.holdings.split(consortium.plan).train
    codes = train.modalities["application"].codes[:, NOMINAL]
    by_hand = [
        [sum(1 for code, label in zip(codes, train.labels, strict=True) if (code, label) == (bin_, outcome))]
        for bin_ in range(BINS)
        for outcome in (0, 1)
    ]
    assert lanes.tolist() == [COUNT_GRID * count for (count,) in by_hand]
    assert lanes.sum() == COUNT_GRID * len(train)


def test_it_is_planned_charged_to_the_training_borrowers_noised_and_logged(consortium: Consortium, bank: Site) -> None:
    request = question(consortium, "bank-b", purpose="prepare")
    answer = request.answer()
    lanes = lanes_of(answer)
    (charge,) = bank.charges()
    assert charge.release == privacy_plan(PLAN).preparation_release(
        release_id="run-1/1/1/prepare", sensitivity_squared=COUNT_GRID**2, dimension=2 * BINS
    )
    assert (charge.kind, charge.run, charge.plan) == ("prepare", "run-1", PLAN.digest())
    assert (bank.charged(), bank.charged("holdout")) == (1, 0)
    assert bank.state.ledger.charges(run="run-1", partition="train", kind="prepare") == 1
    assert isinstance(answer, CountsAnswer)
    assert answer.ledger_head == bank.state.ledger.head
    # Counts are multiples of the grid, noise of deviation above 100 is not: 14 numbers agree by chance never.
    assert charge.release.sigma > 100
    assert (lanes % COUNT_GRID != 0).any()
    assert np.abs(lanes).max() < 8 * charge.release.sigma + 60 * COUNT_GRID
    (event,) = bank.events()
    assert (event.kind, event.fields["purpose"], event.fields["round"]) == (EventKind.REQUEST_ANSWERED, "prepare", 1)


def test_its_price_is_its_share_of_the_training_budget(consortium: Consortium, bank: Site) -> None:
    assert question(consortium, "bank-b", purpose="prepare").code() == ""
    (charge,) = bank.charges()
    # Three repetitions together take 5 % of mu squared; sigma is a whole number, so a little less.
    spent = 3 * charge.release.sensitivity_squared / charge.release.sigma**2
    assert 0.045 < spent / mu_for_epsilon(4.0, 1e-5) ** 2 <= 0.05


def test_an_institution_without_a_category_answers_zeros_and_pays_nothing(consortium: Consortium) -> None:
    site = consortium.sites["fund-c"]
    for attempt in range(1, 6):
        lanes = lanes_of(question(consortium, "fund-c", purpose="prepare", attempt=attempt).answer())
        assert not lanes.any()
    assert site.charges() == []
    assert question(consortium, "fund-c").code() == ""


def test_a_plan_without_a_share_has_no_preparation(tmp_path: Path) -> None:
    for number, plan in enumerate((plan_of(), plan_of(**{**TREES, "privacy/preparation_share": 0.0}))):
        consortium = Consortium.make(tmp_path / str(number), plan)
        assert question(consortium, "bank-b", purpose="prepare").code() == "FC-2302"
        assert consortium.sites["bank-b"].charges() == []


@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_there_is_a_preparation_before_the_first_round_only(consortium: Consortium, bank: Site, number: int) -> None:
    assert question(consortium, "bank-b", purpose="prepare", round=number).code() == "FC-2302"
    assert bank.charges() == []
    assert question(consortium, "bank-b", purpose="prepare").code() == ""


def test_once_training_has_begun_there_is_no_preparation_any_more(consortium: Consortium, bank: Site) -> None:
    assert question(consortium, "bank-b").code() == ""
    assert question(consortium, "bank-b", purpose="prepare", attempt=9).code() == "FC-3105"
    assert [charge.kind for charge in bank.charges()] == ["train"]


def test_a_repeated_request_gets_the_same_bytes_and_one_charge(consortium: Consortium, bank: Site) -> None:
    request = question(consortium, "bank-b", purpose="prepare")
    first = request.ask()
    assert request.ask() == first
    bank.reopen()
    assert request.ask() == first
    assert bank.charged() == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_it_is_never_charged_more_often_than_the_plan_pays_for(tmp_path: Path, retries: int) -> None:
    plan = plan_of(**TREES, **{"rounds/retries": retries})
    consortium = Consortium.make(tmp_path, plan, on_disk=True)
    site, codes = consortium.sites["bank-b"], []
    for attempt in range(1, 8):
        codes.append(question(consortium, "bank-b", purpose="prepare", attempt=attempt).code())
        site.reopen()
    assert codes == [""] * (1 + retries) + ["FC-2302"] * (6 - retries)
    # Its repetitions are not taken from those of the training: all of both fit into what the plan states.
    for number in (1, 2, 3):
        for attempt in range(1, 2 + (retries if number == 3 else 0)):
            assert question(consortium, "bank-b", round=number, attempt=attempt).code() == ""
    assert question(consortium, "bank-b", round=3, attempt=9).code() == "FC-2302"
    kinds = [charge.kind for charge in site.charges()]
    assert (kinds.count("prepare"), kinds.count("train")) == (1 + retries, 3 + retries)
    assert 0.9 * plan.privacy.epsilon < site.epsilon() <= plan.privacy.epsilon


def test_a_cap_below_its_price_ends_it_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium.make(tmp_path, PLAN, budget={"epsilon": 0.05, "delta": 1e-5, "holdout_epsilon": 5.0})
    monkeypatch.setattr(CategoryHistogram, "integer_sum", cut)
    assert question(consortium, "bank-b", purpose="prepare").code() == "FC-4101"
    assert consortium.sites["bank-b"].charges() == []


def cut(*_: object, **__: object) -> None:
    raise PowerCutError


def test_its_charge_is_on_disk_before_anything_is_computed(
    consortium: Consortium, bank: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(CategoryHistogram, "integer_sum", cut)
        with pytest.raises(PowerCutError):
            question(consortium, "bank-b", purpose="prepare").ask()
    bank.reopen()
    assert bank.charged() == 1
    assert question(consortium, "bank-b", purpose="prepare").code() == "FC-3105"
    assert question(consortium, "bank-b", purpose="prepare", attempt=2).code() == ""
