"""The plan makes the releases and states what they cost; the two agree, on the safe side."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.errors import AccountantError, NoiseRangeError, PrivacyPlanError, UnknownMechanismError
from fedcredit.privacy.accounting import epsilon_for_mu, epsilon_with_sampler, mu_for_epsilon
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.plan import LARGEST_OVERLAP, PrivacyPlan
from fedcredit.privacy.release import SAMPLER_DISTANCE_BITS, Mechanism, Release

FULL = 1_000_000
MECHANISMS = (Mechanism.ROUNDED_GAUSSIAN, Mechanism.SKELLAM, Mechanism.DISCRETE_GAUSSIAN)


def plan(**changes: object) -> PrivacyPlan:
    fields = {
        "epsilon": 1.0,
        "delta": 1e-5,
        "unit": "borrower",
        "steps": 30,
        "preparation_share": 0.0,
        "preparation_steps": 1,
        "evaluation_epsilon": 0.5,
        "evaluation_steps": 1,
        "vote_share": 0.0,
        "mechanism": Mechanism.ROUNDED_GAUSSIAN,
        "accountant": "gdp",
        "honest_shares": 1,
        "sampled_per_million": FULL,
        "test_noise": False,
    }
    return PrivacyPlan(**{**fields, **changes})  # type: ignore[arg-type]


NO_PRIVACY = {
    "mechanism": Mechanism.NONE,
    "accountant": "none",
    "epsilon": math.inf,
    "evaluation_epsilon": math.inf,
}


def training(private: PrivacyPlan, *, sensitivity: int = 1000, dimension: int = 320) -> Release:
    return private.training_release(release_id="r/1/1/train", sensitivity_squared=sensitivity**2, dimension=dimension)


def preparation(private: PrivacyPlan, *, sensitivity: int = 1000, dimension: int = 200) -> Release:
    return private.preparation_release(
        release_id="r/1/1/prepare", sensitivity_squared=sensitivity**2, dimension=dimension
    )


def whole(private: PrivacyPlan, step: Release, prepared: Release | None) -> Cost:
    """What one borrower pays if everything happens that the plan allows."""
    cost = Cost.of(step).times(private.steps)
    return cost if prepared is None else cost + Cost.of(prepared).times(private.preparation_steps)


# --- plans that contradict themselves -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": math.inf},
        {"epsilon": math.nan},
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": 101.0},
        {"evaluation_epsilon": math.inf},
        {"evaluation_epsilon": 0.0},
        {"mechanism": Mechanism.NONE},
        {**NO_PRIVACY, "evaluation_epsilon": 1.0},
        {**NO_PRIVACY, "test_noise": True},
        {"delta": 0.0},
        {"delta": 0.1},
        {"delta": math.nan},
        {"steps": 0},
        {"steps": True},
        {"steps": 1_000_001},
        {"preparation_steps": 0},
        {"preparation_steps": True},
        {"preparation_share": -0.01},
        {"preparation_share": 0.51},
        {"preparation_share": math.nan},
        {"evaluation_steps": 0},
        {"evaluation_steps": True},
        {"evaluation_steps": 1.0},
        {"evaluation_steps": 1_000_001},
        {"unit": "row"},
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PrivacyPlanError):
        plan(**changes)


def test_a_plan_with_an_unknown_mechanism_is_refused() -> None:
    with pytest.raises(UnknownMechanismError):
        plan(mechanism="laplace")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"accountant": "pld"}, "not known"),
        ({"accountant": "none"}, "not known"),
        ({"accountant": "x" * 100}, "not known"),
        ({"mechanism": Mechanism.SKELLAM}, "exact for"),
        ({"mechanism": Mechanism.DISCRETE_GAUSSIAN}, "exact for"),
        ({"sampled_per_million": 999_999}, "exact for"),
        ({**NO_PRIVACY, "accountant": "gdp"}, "nothing to account for"),
        ({**NO_PRIVACY, "accountant": "rdp"}, "nothing to account for"),
    ],
)
def test_an_accountant_that_cannot_price_the_noise_is_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(AccountantError, match=problem):
        plan(**changes)


# --- the claim ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    epsilon=st.floats(0.1, 8),
    delta=st.sampled_from([1e-5, 1e-6, 1e-8]),
    steps=st.integers(1, 200),
    shares=st.sampled_from([1, 3, 4]),
    share=st.sampled_from([0.0, 0.05, 0.5]),
    sensitivity=st.integers(1, 100),
)
def test_exact_accounting_keeps_the_claim_and_a_smaller_sigma_would_not_do(
    epsilon: float, delta: float, steps: int, shares: int, share: float, sensitivity: int
) -> None:
    private = plan(
        epsilon=epsilon,
        delta=delta,
        steps=steps,
        honest_shares=shares,
        preparation_share=share,
        preparation_steps=3,
    )
    step = training(private, sensitivity=sensitivity)
    assert (step.honest_shares, step.sampled_per_million) == (shares, FULL)
    prepared = preparation(private, sensitivity=sensitivity) if share else None
    assert whole(private, step, prepared).epsilon(delta) <= epsilon
    # The budget without the noise sampler, whose part of delta moves mu by less than one in a thousand here.
    budget = mu_for_epsilon(epsilon, delta) ** 2 * (1 - 2e-3)
    if step.sigma > 8:
        assert steps * Fraction(sensitivity**2, shares * (step.sigma - 1) ** 2) > (1 - share) * budget
    if prepared is not None and prepared.sigma > 8:
        assert 3 * Fraction(sensitivity**2, shares * (prepared.sigma - 1) ** 2) > share * budget


# Every kind of training noise; sampling goes with the rounded Gaussian and messages that are private alone.
KINDS = [
    *((mechanism, shares, FULL) for mechanism, shares in itertools.product(MECHANISMS, (1, 3, 4))),
    (Mechanism.ROUNDED_GAUSSIAN, 1, 100_000),
    (Mechanism.ROUNDED_GAUSSIAN, 1, 10_000),
]


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
@pytest.mark.parametrize(("mechanism", "shares", "sampled"), KINDS)
def test_renyi_accounting_keeps_the_claim_and_a_smaller_sigma_would_break_it(
    mechanism: Mechanism, shares: int, sampled: int, epsilon: float, share: float
) -> None:
    private = plan(
        epsilon=epsilon,
        mechanism=mechanism,
        accountant="rdp",
        honest_shares=shares,
        sampled_per_million=sampled,
        preparation_share=share,
        preparation_steps=3,
    )
    step = training(private)
    assert (step.mechanism, step.honest_shares, step.sampled_per_million) == (mechanism, shares, sampled)
    prepared = preparation(private) if share else None
    cost = whole(private, step, prepared)
    assert cost.renyi_epsilon(private.delta) <= epsilon
    assert cost.epsilon(private.delta) <= epsilon
    less = whole(private, replace(step, sigma=step.sigma - 1), prepared)
    # The preparation's own sigma is rounded up as well: its budget is a little larger than what it costs.
    assert less.renyi_epsilon(private.delta) > epsilon * (1 - 1e-3)
    if not share:
        assert less.renyi_epsilon(private.delta) > epsilon


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize(("mechanism", "accountant"), [(MECHANISMS[0], "gdp"), (MECHANISMS[1], "rdp")])
@pytest.mark.parametrize(("epsilon", "delta", "steps"), [(8.0, 1e-8, 1000), (3.0, 1e-9, 10_000), (1.0, 1e-10, 2000)])
def test_the_claim_holds_where_the_noise_sampler_takes_a_visible_part_of_delta(
    epsilon: float, delta: float, steps: int, mechanism: Mechanism, accountant: str, share: float
) -> None:
    # Mutations killed: the preparation's numbers not paid for; its part taken from a larger budget than training's.
    private = plan(
        epsilon=epsilon,
        delta=delta,
        steps=steps,
        mechanism=mechanism,
        accountant=accountant,
        preparation_share=share,
        preparation_steps=101,
        honest_shares=2,
    )
    step = training(private, sensitivity=300, dimension=8192)
    prepared = preparation(private, sensitivity=300, dimension=8192)
    cost = whole(private, step, prepared)
    numbers = (steps + 101) * 8192 * 2
    assert (1 + math.exp(epsilon)) * math.ldexp(numbers, SAMPLER_DISTANCE_BITS) > 0.01 * delta
    assert cost.sampler_distance == Fraction(numbers, 2**-SAMPLER_DISTANCE_BITS)
    assert cost.epsilon(delta) <= epsilon
    assert cost.epsilon(delta) > 0.97 * epsilon
    assert private.training_cost(step).epsilon(delta) <= epsilon


def test_a_preparation_of_more_numbers_than_are_paid_for_is_refused() -> None:
    private = plan(preparation_share=0.1)
    assert preparation(private, dimension=8192).dimension == 8192
    with pytest.raises(PrivacyPlanError, match="at most 8192"):
        preparation(private, dimension=8193)


def test_a_plan_without_a_budget_for_it_has_no_preparation() -> None:
    with pytest.raises(PrivacyPlanError, match="no budget"):
        preparation(plan())


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_preparation_is_rounded_gaussian_noise_on_all_training_borrowers(mechanism: Mechanism) -> None:
    private = plan(mechanism=mechanism, accountant="rdp", preparation_share=0.2, preparation_steps=2, honest_shares=3)
    release = preparation(private)
    assert (release.mechanism, release.sampled_per_million, release.honest_shares) == (MECHANISMS[0], FULL, 3)
    assert release.partition == "train"
    # Two of them may use a fifth of mu^2.
    assert Cost.of(release).times(2).mu_squared == pytest.approx(0.2 * mu_for_epsilon(1.0, 1e-5) ** 2, rel=2e-3)


def test_the_preparation_of_a_sampled_training_is_not_sampled_itself() -> None:
    private = plan(accountant="rdp", sampled_per_million=10_000, preparation_share=0.2)
    assert preparation(private).sampled_per_million == FULL
    assert training(private).sampled_per_million == 10_000


def test_sampling_takes_less_noise_for_the_same_claim() -> None:
    everybody = training(plan(accountant="rdp"), sensitivity=1000)
    some = training(plan(accountant="rdp", sampled_per_million=100_000), sensitivity=1000)
    # Roughly the sampling rate, and never better than that.
    assert 0.1 < some.sigma / everybody.sigma < 0.2


@pytest.mark.parametrize("shares", [3, 4, 7])
def test_each_of_the_honest_shares_carries_its_part_of_the_noise(shares: int) -> None:
    alone, shared = training(plan(), sensitivity=5000), training(plan(honest_shares=shares), sensitivity=5000)
    assert shared.sigma == pytest.approx(alone.sigma / math.sqrt(shares), rel=1e-3)


@pytest.mark.parametrize("mechanism", MECHANISMS[1:])
def test_other_noise_than_the_gaussian_pays_for_its_accounting(mechanism: Mechanism) -> None:
    exact = training(plan())
    other = training(plan(mechanism=mechanism, accountant="rdp"))
    assert 1.05 < other.sigma / exact.sigma < 1.12  # docs/decisions/0010: 8 to 10 % of epsilon


def test_forty_steps_at_epsilon_one_take_the_sigma_of_the_design_page() -> None:
    # PRIVACY.md 7: epsilon 1 at delta 1e-5 is mu .2681 (four digits), so for sensitivity 1000
    # sigma = sqrt(40) * 1000 / .2681 = 23,590.
    release = plan(steps=40).training_release(release_id="r", sensitivity_squared=10**6, dimension=10)
    assert release.sigma == pytest.approx(23_590, rel=4e-4)
    assert (release.partition, release.mechanism, release.test_noise) == ("train", "rounded-gaussian", False)


def test_the_evaluation_is_one_release_on_the_hold_out_borrowers() -> None:
    release = plan().evaluation_release(release_id="r/eval", sensitivity_squared=10_000, dimension=40)
    assert release.partition == "holdout"
    assert Cost.of(release).mu == pytest.approx(mu_for_epsilon(0.5, 1e-5), rel=2e-3)
    assert epsilon_for_mu(Cost.of(release).mu, 1e-5) <= 0.5


@settings(deadline=None, max_examples=30)
@given(
    epsilon=st.floats(0.05, 8),
    steps=st.integers(1, 30),
    share=st.sampled_from([0.0, 0.3]),
    shares=st.sampled_from([1, 3]),
)
def test_all_evaluations_together_cost_at_most_their_epsilon_whatever_training_sets_aside(
    epsilon: float, steps: int, share: float, shares: int
) -> None:
    private = plan(evaluation_epsilon=epsilon, evaluation_steps=steps, preparation_share=share, honest_shares=shares)
    release = private.evaluation_release(release_id="r/1/1/evaluate", sensitivity_squared=64**2, dimension=20)
    cost = Cost.of(release).times(steps)
    assert epsilon_with_sampler(cost.mu, 1e-5, distance=cost.sampler_distance) <= epsilon
    if release.sigma > 8:
        less = Fraction(steps * 64**2, shares * (release.sigma - 1) ** 2)
        assert math.sqrt(less) > mu_for_epsilon(epsilon, 1e-5) * (1 - 1e-3)


def test_a_sampled_training_evaluates_on_everybody_held_out() -> None:
    private = plan(accountant="rdp", sampled_per_million=10_000)
    release = private.evaluation_release(release_id="r", sensitivity_squared=64**2, dimension=20)
    assert release.sampled_per_million == FULL
    assert Cost.of(release).epsilon(1e-5) <= 0.5


# --- edges of the noise ---------------------------------------------------------------------------------------------


def test_noise_never_falls_below_the_smallest_deviation() -> None:
    for changes in ({}, {"accountant": "rdp"}, {"accountant": "rdp", "mechanism": Mechanism.SKELLAM}):
        assert training(plan(epsilon=8.0, steps=1, **changes), sensitivity=1).sigma == 8


@pytest.mark.parametrize("accountant", ["gdp", "rdp"])
def test_noise_beyond_the_sampler_is_refused(accountant: str) -> None:
    with pytest.raises(NoiseRangeError, match="200000"):
        plan(accountant=accountant).training_release(release_id="r", sensitivity_squared=10**10, dimension=1)


@pytest.mark.parametrize("accountant", ["gdp", "rdp"])
def test_an_impossible_sensitivity_is_refused(accountant: str) -> None:
    with pytest.raises(PrivacyPlanError, match="sensitivity_squared"):
        plan(accountant=accountant).training_release(release_id="r", sensitivity_squared=0, dimension=1)


def test_more_numbers_than_the_sampler_can_serve_are_refused() -> None:
    with pytest.raises(PrivacyPlanError, match="too many"):
        training(plan(epsilon=40.0))
    # By Renyi the noise grows until what the sampler costs, e^epsilon of it, fits as well.
    assert Cost.of(training(plan(epsilon=40.0, accountant="rdp"))).times(30).epsilon(1e-5) < 40.0


def test_a_training_without_a_bound_is_released_without_noise_only() -> None:
    release = plan(**NO_PRIVACY).training_release(release_id="r", sensitivity_squared=0, dimension=3)
    assert (release.sensitivity_squared, release.protects) == (0, False)
    with pytest.raises(PrivacyPlanError, match="sensitivity_squared"):
        plan(test_noise=True).training_release(release_id="r", sensitivity_squared=0, dimension=3)


def test_without_privacy_the_release_says_so() -> None:
    private = plan(**NO_PRIVACY, preparation_share=0.1)
    for release in (training(private), preparation(private)):
        assert (release.mechanism, release.sigma, release.protects) == (Mechanism.NONE, 0, False)


@pytest.mark.parametrize("accountant", ["gdp", "rdp"])
def test_fixed_noise_has_the_same_size_and_marks_every_release(accountant: str) -> None:
    marked = plan(test_noise=True, accountant=accountant, preparation_share=0.1)
    plain = plan(accountant=accountant, preparation_share=0.1)
    for make in (training, preparation):
        assert make(marked).test_noise
        assert not make(plain).test_noise
        assert make(marked).sigma == make(plain).sigma


# --- what a report says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "epsilon", "alone"),
    [
        # PRIVACY.md 1: epsilon against the coordinator, and if secure aggregation fails.
        (1, 1.0, 1.0),
        (3, 0.5, 0.91),
        (3, 1.0, 1.83),
        (3, 3.0, 5.66),
        (3, 8.0, 15.9),
        (4, 1.0, 2.15),
        (4, 3.0, 6.71),
        (5, 1.0, 2.44),
        (8, 1.0, 3.19),
    ],
)
def test_the_second_number_is_that_of_the_design_page(shares: int, epsilon: float, alone: float) -> None:
    facts = plan(epsilon=epsilon, honest_shares=shares).describe()
    assert facts.honest_shares == shares
    assert facts.epsilon == epsilon
    assert facts.epsilon_alone == pytest.approx(alone, rel=5e-3)


def test_a_second_number_beyond_what_the_noise_sampler_can_vouch_for_is_said_to_be_infinite() -> None:
    # PRIVACY.md 1 computes 31.2 for continuous noise; e^31 times the sampler's distance is more than delta.
    assert plan(epsilon=8.0, honest_shares=8).describe().epsilon_alone == math.inf


def test_with_a_preparation_the_second_number_counts_it_alone_as_well() -> None:
    without = plan(honest_shares=5).describe()
    prepared = plan(honest_shares=5, preparation_share=0.3).describe()
    assert prepared.epsilon_alone == pytest.approx(without.epsilon_alone, rel=2e-3)
    assert (without.preparations, prepared.preparations) == (0, 1)


def test_the_facts_of_a_report_follow_from_the_plan() -> None:
    facts = plan(preparation_share=0.1, preparation_steps=4).describe()
    assert 1.0 < facts.epsilon_by_renyi < 1.12  # PRIVACY.md 7: RDP reads 8-14 % more
    assert facts.tpr_ceiling_at_fpr_1_percent == pytest.approx(0.0198, abs=5e-4)  # Phi(-2.3263 + .2681)
    assert (facts.unit, facts.neighbours, facts.steps) == ("borrower", "add-or-remove-one", 30)
    assert (facts.epsilon, facts.delta, facts.evaluation_epsilon) == (1.0, 1e-5, 0.5)
    assert (facts.mechanism, facts.accountant, facts.test_noise) == (Mechanism.ROUNDED_GAUSSIAN, "gdp", False)
    assert (facts.preparations, facts.honest_shares, facts.sampling_rate) == (4, 1, 1.0)
    assert facts.protects


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize(("mechanism", "shares", "sampled"), KINDS)
def test_every_plan_that_renyi_accounting_makes_describes_itself(
    mechanism: Mechanism, shares: int, sampled: int, share: float
) -> None:
    facts = plan(
        mechanism=mechanism,
        accountant="rdp",
        honest_shares=shares,
        sampled_per_million=sampled,
        preparation_share=share,
    ).describe()
    assert facts.epsilon == 1.0
    assert 0.95 < facts.epsilon_by_renyi <= 1.0
    assert facts.sampling_rate == sampled / 1e6
    if shares == 1:
        assert facts.epsilon_alone <= 1.0
    else:
        assert facts.epsilon_alone > 1.5
    # The exact ceiling for exact noise; elsewhere e^epsilon * fpr + delta.
    assert 0.0185 < facts.tpr_ceiling_at_fpr_1_percent < math.e * 0.01 + 2e-5


@pytest.mark.parametrize("changes", [NO_PRIVACY, {"test_noise": True}])
def test_a_report_never_shows_a_finite_epsilon_for_a_plan_that_protects_nobody(changes: dict[str, object]) -> None:
    private = plan(**changes, preparation_share=0.1)
    facts = private.describe()
    assert facts.epsilon == facts.epsilon_alone == facts.epsilon_by_renyi == facts.evaluation_epsilon == math.inf
    assert facts.tpr_ceiling_at_fpr_1_percent == 1.0
    assert not facts.protects
    assert private.epsilon_after(1) == math.inf
    assert private.epsilon_of_overlap(training(private), 2) == math.inf


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preparation_share": 0.3, "preparation_steps": 3},
        {"honest_shares": 3, "preparation_share": 0.3},
        {"accountant": "rdp", "sampled_per_million": 50_000, "preparation_share": 0.1},
        {"accountant": "rdp", "mechanism": Mechanism.SKELLAM, "honest_shares": 4},
    ],
    ids=str,
)
def test_what_has_been_paid_grows_with_the_rounds_up_to_the_claim(changes: dict[str, object]) -> None:
    private = plan(**changes)
    paid = [private.epsilon_after(rounds) for rounds in range(private.steps + 1)]
    assert all(earlier < later for earlier, later in itertools.pairwise(paid))
    assert paid[-1] <= private.epsilon
    assert (paid[0] > 0) == bool(private.preparation_share)
    assert paid[-1] > 0.8 * private.epsilon
    # More rounds than the plan has cannot cost more than it allows.
    assert private.epsilon_after(10 * private.steps) == private.epsilon


def test_after_half_of_the_rounds_half_of_mu_squared_is_paid() -> None:
    half = epsilon_for_mu(mu_for_epsilon(1.0, 1e-5) / math.sqrt(2), 1e-5)
    assert plan().epsilon_after(15) == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.parametrize(("members", "epsilon"), [(1, 1.0), (2, 2.15), (3, 3.41)])
def test_in_a_sum_with_shared_noise_a_borrower_of_several_members_counts_as_often(
    members: int, epsilon: float, share: float
) -> None:
    # PRIVACY.md 7: epsilon 1 reads 2.15 for two members and 3.41 for three; mu becomes k mu.
    private = plan(honest_shares=3, preparation_share=share)
    assert private.epsilon_of_overlap(training(private), members) == pytest.approx(epsilon, rel=3e-3)


@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.parametrize("members", [1, 2, 3])
def test_messages_that_are_private_alone_add_up_for_a_borrower_of_several_members(members: int, share: float) -> None:
    private = plan(preparation_share=share)
    expected = epsilon_for_mu(math.sqrt(members) * mu_for_epsilon(1.0, 1e-5), 1e-5)
    assert private.epsilon_of_overlap(training(private), members) == pytest.approx(expected, rel=3e-3)


def test_an_overlap_costs_more_than_the_same_borrower_at_one_institution_with_every_mechanism() -> None:
    for mechanism, shares, sampled in KINDS:
        private = plan(mechanism=mechanism, accountant="rdp", honest_shares=shares, sampled_per_million=sampled)
        release = training(private)
        overlaps = [private.epsilon_of_overlap(release, members) for members in range(1, LARGEST_OVERLAP + 1)]
        assert overlaps[0] <= 1.0 < overlaps[1] < overlaps[2]


def test_a_sampled_plan_states_the_tighter_number_of_privacy_loss_distributions_too() -> None:
    sampled = plan(accountant="rdp", sampled_per_million=50_000, steps=100, epsilon=3.0)
    facts = sampled.describe()
    assert facts.epsilon_by_pld is not None
    assert 0.6 * facts.epsilon < facts.epsilon_by_pld < facts.epsilon
    assert plan().describe().epsilon_by_pld is None


@pytest.mark.parametrize(("per_million", "steps"), [(10_000, 2000), (1_000, 2000), (100, 10_000)])
def test_the_facts_of_a_sampled_plan_are_never_below_those_of_a_real_release(per_million: int, steps: int) -> None:
    sampled = plan(accountant="rdp", sampled_per_million=per_million, steps=steps, epsilon=4.0)
    facts = sampled.describe()
    real = sampled.training_release(release_id="r", sensitivity_squared=10**10, dimension=100)
    cost = sampled.training_cost(real)
    assert facts.epsilon_alone >= cost.epsilon(sampled.delta) - 0.01
    assert facts.tpr_ceiling_at_fpr_1_percent >= cost.tpr_ceiling(sampled.delta, fpr=0.01) - 0.005


@settings(deadline=None, max_examples=30)
@given(
    epsilon=st.floats(0.3, 8),
    steps=st.integers(1, 6),
    share=st.sampled_from([0.2, 0.5]),
    honest=st.sampled_from([1, 3, 10]),
    law=st.sampled_from([(Mechanism.ROUNDED_GAUSSIAN, "gdp"), (Mechanism.SKELLAM, "rdp")]),
)
def test_evaluations_and_votes_together_cost_at_most_the_evaluations_epsilon(
    epsilon: float, steps: int, share: float, honest: int, law: tuple[Mechanism, str]
) -> None:
    private = plan(
        evaluation_epsilon=epsilon,
        evaluation_steps=steps,
        vote_share=share,
        honest_shares=honest,
        mechanism=law[0],
        accountant=law[1],
    )
    sizes = {"sensitivity_squared": 64**2, "dimension": 20}
    counts = private.evaluation_release(release_id="r/1/1/evaluate", **sizes)
    vote = private.vote_release(release_id="r/1/1/close", **sizes)
    assert (vote.honest_shares, vote.mechanism, vote.partition) == (1, Mechanism.ROUNDED_GAUSSIAN, "holdout")
    cost = (Cost.of(counts) + Cost.of(vote)).times(steps)
    assert cost.epsilon(1e-5) <= epsilon
    # The second route counts the same noise, and allows less of a margin to nobody.
    assert cost.renyi_epsilon(1e-5) >= cost.epsilon(1e-5) - 1e-9
    # By hand: the vote has its share of mu^2, in equal parts.
    mu = mu_for_epsilon(epsilon, 1e-5)
    assert 64 / vote.sigma <= mu * math.sqrt(share / steps) * (1 + 1e-9)


@pytest.mark.parametrize("share", [-0.1, 0.51, math.nan])
def test_votes_have_a_part_of_the_evaluations_budget_and_not_all_of_it(share: float) -> None:
    with pytest.raises(PrivacyPlanError, match="vote_share"):
        plan(vote_share=share)


def test_a_plan_without_a_share_for_votes_makes_no_release_for_one() -> None:
    with pytest.raises(PrivacyPlanError, match="no budget for votes"):
        plan().vote_release(release_id="r/1/1/close", sensitivity_squared=64**2, dimension=20)
