"""What the worker draws: batches and noise, anew for every attempt, by every mechanism, local and shared."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import NAMES, NO_PRIVACY, RUN, SECURE, SHARED, TREES, Consortium, HandRound, Site, plan_of, question
from scipy.stats import chi2

from fedcredit.data.table import CreditTable
from fedcredit.messages import NO_EPOCH, TrainAnswer, from_lanes
from fedcredit.privacy.accounting import epsilon_for_mu
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.release import FULL_BATCH, Mechanism
from fedcredit.privacy.run_plan import privacy_plan

RATE = 0.25
NETWORK: dict[str, Any] = {
    "model": {"kind": "network", "width": 4, "base_rate": 0.4},
    "training": {
        "kind": "dp-gradient",
        "learning_rate": 1.0,
        "momentum": 0.5,
        "clip": 4.5,
        "grid": 2000,
        "average_from": 0.5,
    },
}
POISSON: dict[str, Any] = {"privacy/sampling": "poisson", "privacy/sampling_rate": RATE}
RENYI: dict[str, Any] = {"privacy/accountant": "rdp"}
WIDE: dict[str, Any] = {
    **TREES,
    "model": {"kind": "trees", "depth": 7, "trees_per_round": 12, "structure_seed": 7, "base_rate": 0.4},
}
"""3,072 numbers a round: enough to measure the noise."""


def lanes_of(consortium: Consortium, name: str, **changes: Any) -> np.ndarray:
    answer = question(consortium, name, **changes).answer()
    assert isinstance(answer, TrainAnswer), answer
    return from_lanes(answer.lanes, what="answer", count=consortium.family.lanes)


def empty(site: Site) -> None:
    """Leave an institution without borrowers: its answers are nothing but noise."""
    site.table = site.table.take(np.zeros(len(site.table), dtype=bool))
    site.assemble()


# --- sampled batches ---------------------------------------------------------------------------------------------


@pytest.mark.statistical
def test_every_attempt_draws_its_own_batch_of_the_stated_size(tmp_path: Path) -> None:
    plan = plan_of(**NO_PRIVACY, **POISSON, **{"rounds/retries": 20})
    consortium = Consortium.make(tmp_path, plan, policy={"allow_no_privacy": True}, rows=600)
    site = consortium.sites["bank-b"]
    # With only good borrowers, everybody adds the same number to the intercept: it counts the batch.
    site.table = _all_good(site.table)
    site.assemble()
    intercept = consortium.family.layout.slices()["intercept"]
    everybody = len(site.holdings.split(plan).train)
    start = np.zeros(consortium.family.layout.size)  # p = 1/2: 4 of 8 grid steps each
    sizes = []
    for attempt in range(1, 21):
        lanes = lanes_of(consortium, "bank-b", round=2, weights=start, attempt=attempt)
        size, rest = divmod(int(lanes[intercept][0]), 4)
        assert rest == 0
        sizes.append(size)
    assert everybody > 350
    deviation = (everybody * RATE * (1 - RATE)) ** 0.5
    # Six deviations, twenty times: a false alarm of 4e-8. A batch that is drawn once has one size.
    assert np.abs(np.array(sizes) - everybody * RATE).max() < 6 * deviation
    assert len(set(sizes)) > 3


def _all_good(table: CreditTable) -> CreditTable:
    return replace(table, labels=np.zeros_like(table.labels))


def test_two_attempts_of_a_sampled_network_round_see_other_borrowers(tmp_path: Path) -> None:
    plan = plan_of(**NETWORK, **NO_PRIVACY, **POISSON)
    consortium = Consortium.make(tmp_path, plan, policy={"allow_no_privacy": True})
    first, second = (lanes_of(consortium, "bank-a", attempt=attempt) for attempt in (1, 2))
    whole = Consortium.make(tmp_path / "whole", plan_of(**NETWORK, **NO_PRIVACY), policy={"allow_no_privacy": True})
    everybody = lanes_of(whole, "bank-a")
    # About 42 borrowers, each in or out: the chance of two equal batches is below 1e-8.
    assert (first != second).any()
    assert (first != everybody).any()
    assert (second != everybody).any()


def test_a_sampled_network_round_is_charged_by_renyi_accounting_and_less_than_a_full_one(tmp_path: Path) -> None:
    plan = plan_of(**NETWORK, **POISSON, **RENYI)
    consortium = Consortium.make(tmp_path, plan)
    site = consortium.sites["bank-a"]
    first, second = (lanes_of(consortium, "bank-a", attempt=attempt) for attempt in (1, 2))
    assert (first != second).mean() > 0.9
    releases = [charge.release for charge in site.charges()]
    assert [release.sampled_per_million for release in releases] == [250_000, 250_000]
    assert {release.mechanism for release in releases} == {Mechanism.ROUNDED_GAUSSIAN}
    assert site.epsilon() == Cost.total(releases).renyi_epsilon(1e-5)
    assert not Cost.total(releases).is_gaussian
    unsampled = Cost.total([replace(release, sampled_per_million=FULL_BATCH) for release in releases])
    assert site.epsilon() < unsampled.epsilon(1e-5)
    for number, attempt in ((2, 1), (3, 1), (3, 2)):
        assert question(consortium, "bank-a", round=number, attempt=attempt).code() == ""
    # Five releases: three rounds and two retries. All of them together are what the plan states.
    assert site.charged() == 5
    assert 0.9 * plan.privacy.epsilon < site.epsilon() <= plan.privacy.epsilon
    assert question(consortium, "bank-a", round=3, attempt=3).code() == "FC-2302"


@pytest.mark.parametrize(
    "changes", [POISSON, {"privacy/mechanism": "skellam"}, {"privacy/mechanism": "discrete-gaussian"}], ids=str
)
def test_the_exact_accountant_is_refused_where_it_is_not_exact(tmp_path: Path, changes: dict[str, Any]) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**changes))
    assert question(consortium, "bank-a").code() == "FC-4006"
    assert consortium.sites["bank-a"].charges() == []


# --- noise ---------------------------------------------------------------------------------------------------------

NO_HISTOGRAM = {"privacy/preparation_share": 0.0}
MECHANISMS = [
    {},
    {**RENYI, **NO_HISTOGRAM, "privacy/mechanism": "skellam"},
    {**RENYI, **NO_HISTOGRAM, "privacy/mechanism": "discrete-gaussian"},
]


@pytest.mark.statistical
@pytest.mark.parametrize("changes", MECHANISMS, ids=["rounded-gaussian", "skellam", "discrete-gaussian"])
def test_attempts_and_institutions_draw_independent_noise_of_the_charged_deviation(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    # False alarms: 4 * 2e-7 for the deviations (Skellam's fourth moment is above the normal one by less than 1e-4 of
    # itself) and 6 * 2e-7 for the correlations, 2e-6 in all. With 3,072 numbers a deviation wrong by 7 % is found, and
    # noise that shares 10 % of its variance with another message.
    consortium = Consortium.make(tmp_path, plan_of(**{**WIDE, **changes}))
    noise = []
    for name in ("bank-a", "insurer-d"):
        site = consortium.sites[name]
        empty(site)
        for attempt in (1, 2):
            noise.append(lanes_of(consortium, name, attempt=attempt) / site.charges()[0].release.sigma)
        assert {charge.release.mechanism for charge in site.charges()} == {
            Mechanism(changes.get("privacy/mechanism", "rounded-gaussian"))
        }
        assert {charge.release.dimension for charge in site.charges()} == {3072}
    size = len(noise[0])
    low, high = chi2.ppf([1e-7, 1 - 1e-7], size)
    for drawn in noise:
        assert low < (drawn**2).sum() < high
    for first, second in combinations(noise, 2):
        assert abs((first * second).sum()) < 5.2 * size**0.5


@pytest.mark.parametrize("changes", MECHANISMS[1:], ids=["skellam", "discrete-gaussian"])
def test_every_release_of_a_run_by_another_mechanism_fits_into_what_the_plan_states(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    plan = plan_of(**{**TREES, **changes})
    consortium = Consortium.make(tmp_path, plan)
    site = consortium.sites["bank-a"]
    for number, attempt in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1)):
        assert question(consortium, "bank-a", round=number, attempt=attempt).code() == ""
    for attempt in (1, 2, 3):
        assert question(consortium, "bank-a", round=3, attempt=attempt, purpose="evaluate").code() == ""
    assert (site.charged(), site.charged("holdout")) == (5, 3)
    for partition, stated in (("train", plan.privacy.epsilon), ("holdout", plan.privacy.evaluation_epsilon)):
        assert 0.9 * stated < site.epsilon(partition) <= stated
    kinds = {(charge.kind, charge.release.mechanism) for charge in site.charges()}
    named = Mechanism(changes["privacy/mechanism"])
    assert kinds == {("train", named), ("evaluate", named)}


# --- shared noise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [SHARED, {**SHARED, **TREES}, SECURE], ids=["shared", "trees", "local"])
def test_a_plan_with_a_secure_sum_is_never_answered_in_the_open(tmp_path: Path, changes: dict[str, Any]) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**changes))
    site = consortium.sites["bank-a"]
    for part in site.table.modalities.values():
        part.codes[:] = 12_345  # whatever computes with it fails with FC-9001
    site.assemble()
    purposes = ["prepare", "train", "evaluate"] if changes.get("privacy/preparation_share") else ["train", "evaluate"]
    for purpose in purposes:
        for epoch in ({}, {"epoch": NO_EPOCH, "step": 0}):
            asked = question(consortium, "bank-a", purpose=purpose, sent={"stage": "answer"}, **epoch)
            assert asked.code() == "FC-3106"
    assert site.charges() == []


@pytest.mark.parametrize("stage", ["upload", "accept", "reveal", "keys", "roots"])
def test_an_open_plan_has_no_stage_of_a_secure_sum(tmp_path: Path, stage: str) -> None:
    consortium = Consortium.make(tmp_path)
    assert question(consortium, "bank-a", sent={"stage": stage}).code() in {"FC-3101", "FC-3106"}
    assert question(consortium, "bank-a", sent={"stage": stage}, epoch=bytes([1]) * 32).code() in {"FC-3101", "FC-3106"}
    assert question(consortium, "bank-a", epoch=bytes([1]) * 32).code() == "FC-3106"
    assert question(consortium, "bank-a", purpose="setup", round=0).code() == "FC-2302"
    assert consortium.sites["bank-a"].charges() == []
    assert question(consortium, "bank-a").code() == ""


@pytest.mark.parametrize("changes", [{}, TREES], ids=["scorecard", "trees"])
def test_the_shares_of_quorum_minus_colluders_are_the_noise_that_the_plan_needs(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    plan = plan_of(**SHARED, **changes)
    consortium = Consortium.make(tmp_path, plan)
    for name in NAMES:
        assert question(consortium, name).code() == ""
    releases = [consortium.sites[name].charges()[0].release for name in NAMES]
    # Everybody's share is alike, whatever it holds: the noise of a number must not depend on who can move it.
    assert len({(release.sigma, release.sensitivity_squared, release.dimension) for release in releases}) == 1
    release, honest = releases[0], plan.rounds.quorum - plan.privacy.colluders
    assert (release.honest_shares, honest) == (3, 3)
    assert release.dimension == consortium.family.lanes

    def epsilon_of(shares: int, sigma: int) -> float:
        """By hand: mu^2 = steps * sensitivity^2 / variance for the training, besides the preparation's part."""
        mu_squared = 5 * release.sensitivity_squared / (shares * sigma**2) / (1 - plan.privacy.preparation_share)
        return epsilon_for_mu(mu_squared**0.5, plan.privacy.delta)

    stated = plan.privacy.epsilon
    assert 0.99 * stated < epsilon_of(honest, release.sigma) <= stated
    # One share less, or a deviation less, would not do.
    assert epsilon_of(honest - 1, release.sigma) > 1.1 * stated
    assert epsilon_of(honest, release.sigma - 1) > 0.999 * stated
    # The sum of a whole round has all four shares: more noise than the claim needs, never less.
    local = privacy_plan(plan_of(**changes)).training_release(
        release_id="x", sensitivity_squared=release.sensitivity_squared, dimension=release.dimension
    )
    # The smallest whole sigma of local noise is above what is needed, by less than one.
    assert honest * release.sigma**2 > (local.sigma - 1) ** 2
    assert len(NAMES) * release.sigma**2 > local.sigma**2


@pytest.mark.statistical
def test_the_sum_of_all_shares_has_the_noise_that_the_charges_add_up_to(tmp_path: Path) -> None:
    # False alarm 2e-7; 3,072 numbers find a variance wrong by 14 %, so a missing share (25 %) is found.
    consortium = Consortium.make(tmp_path, plan_of(**SHARED, **WIDE))
    for site in consortium.sites.values():
        empty(site)
    consortium.epoch(RUN)
    total = HandRound.of(consortium).uploaded().agreed().revealed().sum.open().values
    variance = sum(site.charges()[0].release.sigma ** 2 for site in consortium.sites.values())
    low, high = chi2.ppf([1e-7, 1 - 1e-7], len(total))
    assert low < (total.astype(float) ** 2).sum() / variance < high


def test_the_ledger_tells_what_would_be_left_if_nothing_hid_the_shares(tmp_path: Path) -> None:
    plan = plan_of(**SHARED)
    consortium = Consortium.make(tmp_path, plan)
    site = consortium.sites["bank-a"]
    for number, attempt in ((1, 1), (2, 1), (3, 1), (3, 2), (3, 3)):
        assert question(consortium, "bank-a", round=number, attempt=attempt).code() == ""
    spent = site.state.ledger.spent("train")
    assert 0.99 * plan.privacy.epsilon < spent.epsilon <= plan.privacy.epsilon
    # A message alone has a third of the variance, so sqrt(3) times the mu.
    release = site.charges()[0].release
    mu = (5 * release.sensitivity_squared) ** 0.5 / release.sigma
    assert spent.epsilon_alone == pytest.approx(epsilon_for_mu(mu, 1e-5), abs=1e-6)
    assert spent.epsilon_alone > 1.5 * spent.epsilon


def test_a_run_with_shared_noise_goes_from_the_preparation_to_the_evaluation(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SHARED, **TREES))
    run = consortium.run()
    assert [len(report.result.contributors) for report in run.rounds()] == [4, 4, 4]
    run.evaluate()
    run.close()
    run.finish()
    for site in consortium.sites.values():
        # fund-c has no category, and adds its share of noise to the histogram all the same.
        assert [charge.kind for charge in site.charges()] == ["prepare", "train", "train", "train", "evaluate"]
        assert {charge.release.honest_shares for charge in site.charges()} == {3}
        assert site.epsilon() <= consortium.plan.privacy.epsilon


def test_shared_skellam_noise_is_charged_by_renyi_accounting(tmp_path: Path) -> None:
    plan = plan_of(**SHARED, **RENYI, **{"privacy/mechanism": "skellam"})
    consortium = Consortium.make(tmp_path, plan)
    site = consortium.sites["fund-c"]
    for number, attempt in ((1, 1), (2, 1), (3, 1), (3, 2), (3, 3)):
        assert question(consortium, "fund-c", round=number, attempt=attempt).code() == ""
    assert 0.9 * plan.privacy.epsilon < site.epsilon() <= plan.privacy.epsilon
    assert site.state.ledger.spent("train").epsilon_alone > site.epsilon()
