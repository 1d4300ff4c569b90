from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from consortium import COORDINATOR, NO_PRIVACY, Consortium, Question, Site, keys_of, plan_of, question
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.audit.log import EventKind
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.sealing import SEAL_OVERHEAD
from fedcredit.envelope import UNREADABLE_LENGTH
from fedcredit.institution.worker import RECORDED_UNREADABLE
from fedcredit.messages import (
    COUNT_GRID,
    SCORE_BINS,
    WEIGHT_LIMIT,
    CountsAnswer,
    Refusal,
    TrainAnswer,
    answer_length,
    from_lanes,
)
from fedcredit.parties import Member, Roster
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.secagg.wire import Upload
from fedcredit.store.records import Records
from fedcredit.training.scorecard_gradient import ScorecardGradient

CELL = 12_345
"""A code that no bin has: whatever computes with it fails, and Python's own message quotes it."""


class PowerCutError(BaseException):
    """Ends the process in the middle of something; no guard of ours catches it."""


FORMS: dict[str, dict[str, Any]] = {
    "open": {},
    "secure": {"aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 32, "update_bound": "none"}},
}
"""Each promise of the first stage of a round holds for an answer as for an upload."""


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> dict[str, Any]:
    return FORMS[request.param]


@pytest.fixture
def consortium(tmp_path: Path, form: dict[str, Any]) -> Consortium:
    return Consortium.make(tmp_path, plan_of(**form))


@pytest.fixture
def on_disk(tmp_path: Path, form: dict[str, Any]) -> Consortium:
    return Consortium.make(tmp_path, plan_of(**form), on_disk=True)


def approve(consortium: Consortium, plan: RunPlan) -> None:
    for site in consortium.sites.values():
        site.approvals.approve(plan)


def kept(site: Site) -> dict[str, bytes]:
    """Return what the site keeps of its runs."""
    memory = Records(site.state.database, "run-memory")
    return {key: value for key in memory.keys("") if (value := memory.get(key)) is not None}


@pytest.fixture
def bank(consortium: Consortium) -> Site:
    return consortium.sites["bank-a"]


def poison(site: Site) -> None:
    """Put a cell into the training part that no computation survives."""
    for part in site.table.modalities.values():
        part.codes[:] = CELL
    site.assemble()


@pytest.fixture
def noiseless(tmp_path: Path) -> Consortium:
    return Consortium.make(tmp_path, plan_of(**NO_PRIVACY), policy={"allow_no_privacy": True})


def test_without_noise_the_answer_is_the_integer_sum_of_the_training_borrowers(noiseless: Consortium) -> None:
    site, family = noiseless.sites["bank-b"], noiseless.family
    weights = np.random.default_rng(1).normal(size=family.layout.size)
    answer = question(noiseless, "bank-b", round=2, weights=weights).answer()
    assert isinstance(answer, TrainAnswer)
    train = site.holdings.split(noiseless.plan).train
    expected = (
        family.computation(noiseless.plan, site.name, train).integer_sum(weights, round_number=2, batch=None).values
    )
    lanes = from_lanes(answer.lanes, what="answer", count=family.layout.size)
    assert lanes.tolist() == expected.tolist()
    assert lanes.any()


def test_without_noise_every_held_out_borrower_is_counted_once(noiseless: Consortium) -> None:
    site = noiseless.sites["bank-a"]
    answer = question(noiseless, "bank-a", purpose="evaluate").answer()
    assert isinstance(answer, CountsAnswer)
    lanes = from_lanes(answer.lanes, what="answer", count=2 * SCORE_BINS)
    holdout = site.holdings.split(noiseless.plan).holdout
    assert lanes.sum() == COUNT_GRID * len(holdout)
    assert lanes[SCORE_BINS:].sum() == COUNT_GRID * int(holdout.labels.sum())


def test_with_noise_only_trained_entries_are_touched(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    answer = question(consortium, "fund-c").answer()
    assert isinstance(answer, TrainAnswer)
    layout = consortium.family.layout
    lanes = from_lanes(answer.lanes, what="answer", count=layout.size)
    trained = layout.trained_by(["repayment"])
    assert not lanes[~trained].any()
    release = privacy_plan(consortium.plan).training_release(
        release_id="x", sensitivity_squared=8**2 * 17, dimension=int(trained.sum())
    )
    # 15 bins, the intercept and the modality's own make 17 active parameters; 133 numbers are released.
    # Seven deviations and the whole sum: the noise is there, and it is not larger than planned.
    assert lanes[trained].std() > release.sigma / 2
    assert np.abs(lanes).max() < 7 * release.sigma + 8 * 60


def test_the_noise_is_fresh_for_every_attempt(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    answers = [question(consortium, "fund-c", attempt=attempt).answer() for attempt in (1, 2)]
    assert all(isinstance(answer, TrainAnswer) for answer in answers)
    first, second = (np.frombuffer(answer.lanes, dtype="<i4") for answer in answers)  # type: ignore[union-attr]
    trained = consortium.family.layout.trained_by(["repayment"])
    # Two of these numbers agree with a chance of less than 1 %; that 14 of 133 do has one of less than 1e-9.
    assert (first[trained] != second[trained]).mean() > 0.9


def test_a_repeated_request_gets_the_same_bytes_and_is_charged_once(consortium: Consortium, bank: Site) -> None:
    request = question(consortium, "bank-a")
    first = request.ask()
    assert request.ask() == first
    assert bank.charged() == 1
    bank.assemble()  # a restart of the daemon
    assert request.ask() == first
    assert bank.charged() == 1


def test_a_stored_answer_survives_a_restart_on_disk(on_disk: Consortium) -> None:
    request, site = question(on_disk, "bank-a"), on_disk.sites["bank-a"]
    first = request.ask()
    site.reopen()
    assert request.ask() == first
    assert site.charged() == 1


@pytest.mark.parametrize(
    ("after", "then", "code"),
    [
        ({"round": 2}, {"round": 1}, "FC-3105"),
        ({"round": 2}, {"round": 1, "attempt": 9}, "FC-3105"),
        ({"attempt": 2}, {"attempt": 1}, "FC-3105"),
        ({"purpose": "evaluate"}, {"round": 3, "attempt": 5}, "FC-3105"),
        ({"purpose": "close"}, {"purpose": "evaluate", "attempt": 5}, "FC-3105"),
        ({"purpose": "close"}, {"purpose": "close", "deadline": 2_000_000}, "FC-3105"),
        ({"round": 1}, {"round": 1, "deadline": 2_000_000}, "FC-3105"),
        ({"round": 1}, {"round": 1, "quorum": 1}, "FC-3105"),
        ({"round": 1}, {"round": 3}, ""),
        ({"round": 1}, {"attempt": 2}, ""),
        ({"round": 1}, {"purpose": "evaluate"}, ""),
        ({"round": 3}, {"purpose": "evaluate"}, ""),
        ({"purpose": "evaluate"}, {"purpose": "close"}, ""),
    ],
    ids=str,
)
def test_only_what_comes_later_is_answered(
    consortium: Consortium, bank: Site, after: dict[str, object], then: dict[str, object], code: str
) -> None:
    assert question(consortium, "bank-a", **after).code() == ""
    before = bank.charged() + bank.charged("holdout")
    assert question(consortium, "bank-a", **then).code() == code
    free = then.get("purpose") == "close"
    assert bank.charged() + bank.charged("holdout") == before + (code == "" and not free)


def test_another_model_in_the_same_round_and_attempt_is_refused(consortium: Consortium, bank: Site) -> None:
    assert question(consortium, "bank-a").code() == ""
    other = np.full(consortium.family.layout.size, 0.5)
    assert question(consortium, "bank-a", weights=other).code() == "FC-3105"
    assert question(consortium, "bank-a", round=2).code() == ""
    assert question(consortium, "bank-a", round=2, weights=other).code() == "FC-3105"
    assert bank.charged() == 2


def test_a_later_request_may_be_brief_and_a_first_one_may_not(consortium: Consortium) -> None:
    # Under secure aggregation the set-up of an epoch comes first.
    first = {} if consortium.plan.secure is None else {"purpose": "setup", "round": 0, "attempt": 9}
    assert question(consortium, "bank-a", brief=True, **first).code() == "FC-3106"
    assert question(consortium, "bank-a").code() == ""
    assert question(consortium, "bank-a", brief=True, round=2).code() == ""
    consortium.sites["bank-a"].assemble()
    assert question(consortium, "bank-a", brief=True, round=3).code() == ""


def test_a_plan_that_the_operator_has_not_approved_is_refused(
    consortium: Consortium, bank: Site, form: dict[str, Any]
) -> None:
    other = plan_of(**form, **{"training/learning_rate": 2.5})
    assert question(consortium, "bank-a", plan=other).code() == "FC-2301"
    assert bank.charged() == 0
    approve(consortium, other)
    assert question(consortium, "bank-a", plan=other).code() == ""


def test_an_approval_that_was_taken_back_ends_the_run(consortium: Consortium, bank: Site) -> None:
    assert question(consortium, "bank-a").code() == ""
    for path in (bank.folder / "approvals").iterdir():
        path.unlink()
    assert question(consortium, "bank-a", round=2).code() == "FC-2301"
    assert question(consortium, "bank-a", round=2, brief=True).code() == "FC-2301"
    assert bank.charged() == 1


def test_a_run_keeps_the_plan_and_the_roster_it_began_with(
    consortium: Consortium, bank: Site, form: dict[str, Any]
) -> None:
    assert question(consortium, "bank-a").code() == ""
    other = plan_of(**form, **{"training/learning_rate": 2.5})
    approve(consortium, other)
    fewer = Roster(consortium.roster.members[:2])
    assert question(consortium, "bank-a", plan=other, round=2).code() == "FC-3106"
    assert question(consortium, "bank-a", roster=fewer, round=2).code() == "FC-3204"
    assert question(consortium, "bank-a", plan=other, brief=True, round=2).code() == "FC-3106"
    assert question(consortium, "bank-a", roster=fewer, brief=True, round=2).code() == "FC-3106"
    assert bank.charged() == 1


def test_a_plan_that_is_not_the_one_in_the_manifest_is_refused(
    consortium: Consortium, bank: Site, form: dict[str, Any]
) -> None:
    other = plan_of(**form, **{"training/learning_rate": 2.5})
    approve(consortium, other)
    assert question(consortium, "bank-a", sent={"plan": other.to_toml().encode()}).code() == "FC-3106"
    assert bank.charged() == 0


@pytest.mark.parametrize(
    ("junk", "code"), [(b"\xff", "FC-3101"), (b"[run", "FC-1002"), (b"schema_version = 1", "FC-1005")]
)
def test_a_plan_that_does_not_read_is_refused(consortium: Consortium, junk: bytes, code: str) -> None:
    assert question(consortium, "bank-a", sent={"plan": junk}).code() == code


def test_an_institution_outside_the_cohort_does_not_answer(consortium: Consortium, bank: Site) -> None:
    assert question(consortium, "bank-a", cohort=("bank-b", "fund-c")).code() == "FC-2304"
    assert bank.charged() == 0


def test_a_roster_that_lists_other_keys_or_nobody_is_refused(consortium: Consortium, bank: Site) -> None:
    others = tuple(member for member in consortium.roster if member.institution != bank.name)
    stranger = Member(institution=bank.name, kind=others[0].kind, public_identity=keys_of(99).public.to_bytes())
    assert question(consortium, "bank-a", roster=Roster(others)).code() == "FC-2304"
    assert question(consortium, "bank-a", roster=Roster((*others, stranger))).code() == "FC-2304"
    assert question(consortium, "bank-a", sent={"roster": b""}).code() == "FC-2304"
    assert bank.charged() == 0


@pytest.mark.parametrize(
    "aggregation",
    [
        {"kind": "open", "update_bound": "none"},
        {"kind": "secure", "threshold": 2, "lane_bits": 32, "update_bound": "none"},
    ],
    ids=str,
)
def test_a_plan_without_this_institution_is_refused(
    consortium: Consortium, bank: Site, aggregation: dict[str, Any]
) -> None:
    other = plan_of(("bank-b", "fund-c"), aggregation=aggregation)
    bank.approvals.approve(other)
    assert question(consortium, "bank-a", plan=other).code() == "FC-2304"


@pytest.mark.parametrize(
    ("changes", "policy", "code"),
    [
        (NO_PRIVACY, {}, "FC-4003"),
        (NO_PRIVACY, {"allow_fixed_noise": True}, "FC-4003"),
        (NO_PRIVACY, {"allow_no_privacy": True}, ""),
        ({"privacy/test_noise": True}, {}, "FC-4005"),
        ({"privacy/test_noise": True}, {"allow_no_privacy": True}, "FC-4005"),
        ({"privacy/test_noise": True}, {"allow_fixed_noise": True}, ""),
    ],
)
def test_an_unprotected_plan_needs_more_than_an_approval(
    tmp_path: Path, form: dict[str, Any], changes: dict[str, Any], policy: dict[str, bool], code: str
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**form, **changes), policy=policy)
    assert question(consortium, "bank-a").code() == code
    assert consortium.sites["bank-a"].charged() == (code == "")


@pytest.mark.parametrize("change", [{"run/contract": "german"}, {"run/contract_digest": "0" * 64}], ids=str)
def test_a_plan_on_another_contract_is_refused(
    consortium: Consortium, form: dict[str, Any], change: dict[str, Any]
) -> None:
    other = plan_of(**form, **change)
    approve(consortium, other)
    assert question(consortium, "bank-a", plan=other).code() == "FC-3106"


def test_a_plan_that_counts_on_a_modality_that_is_not_held_is_refused(consortium: Consortium) -> None:
    institutions = {
        name: {**section.model_dump(mode="json"), "modalities": ["application", "repayment"]}
        for name, section in consortium.plan.institutions.items()
    }
    other = type(consortium.plan).model_validate({**consortium.plan.model_dump(), "institutions": institutions})
    site = consortium.sites["bank-b"]
    approve(consortium, other)
    assert question(consortium, "bank-b", plan=other).code() == "FC-2302"
    assert site.charged() == 0


@pytest.mark.parametrize("change", [{"run/holdout_salt": "pepper"}, {"run/holdout_fraction": 0.31}], ids=str)
def test_a_second_plan_may_not_mix_training_and_held_out_borrowers(
    consortium: Consortium, form: dict[str, Any], change: dict[str, Any]
) -> None:
    assert question(consortium, "bank-a").code() == ""
    other = plan_of(**form, **change)
    approve(consortium, other)
    assert question(consortium, "bank-a", plan=other, run="run-2").code() == "FC-2302"


def test_an_approved_plan_serves_one_run(on_disk: Consortium, form: dict[str, Any]) -> None:
    consortium = on_disk
    site = consortium.sites["bank-a"]
    assert question(consortium, "bank-a").code() == ""
    site.reopen()
    reworded = b"# the same plan\n" + consortium.plan.to_toml().encode()
    for number, sent in enumerate(({}, {"plan": reworded}, {})):
        again = question(consortium, "bank-a", run=f"another-{number}", sent=sent)
        assert again.code() == "FC-2302"
    assert question(consortium, "bank-a", run="another-0", brief=True).code() == "FC-3106"
    assert (site.charged(), site.charged("holdout")) == (1, 0)
    assert question(consortium, "bank-a", round=2).code() == ""
    # Another plan is another training, and needs its own approval.
    other = plan_of(**form, **{"run/name": "second"})
    assert question(consortium, "bank-a", plan=other, run="another-0").code() == "FC-2301"
    approve(consortium, other)
    assert question(consortium, "bank-a", plan=other, run="another-0").code() == ""


@pytest.mark.parametrize(
    "change",
    [
        {"quorum": 3},
        {"quorum": 0},
        {"quorum": 5},
        {"cohort": ("bank-a", "stranger")},
        {"cohort": ("bank-a", "bank-b", "fund-c", "insurer-d", "stranger")},
    ],
    ids=str,
)
@pytest.mark.parametrize("acquainted", [False, True])
def test_a_quorum_or_a_cohort_that_is_not_that_of_the_plan_is_refused(
    consortium: Consortium, bank: Site, change: dict[str, object], acquainted: bool
) -> None:
    if acquainted:
        assert question(consortium, "bank-a").code() == ""
    before = bank.charged()
    assert question(consortium, "bank-a", round=2, brief=acquainted, **change).code() == "FC-3106"
    assert bank.charged() == before


def test_a_cohort_below_the_quorum_is_refused(consortium: Consortium) -> None:
    # Shared noise rests on so many shares; a manifest for fewer must not be answered at that price.
    assert consortium.plan.rounds.quorum > 2
    assert question(consortium, "bank-a", cohort=("bank-a", "bank-b")).code() == "FC-3106"


@pytest.mark.parametrize("number", [0, 4, 2**53])
def test_a_round_that_the_plan_does_not_have_is_refused(consortium: Consortium, number: int) -> None:
    assert question(consortium, "bank-a", round=number).code() == "FC-2302"


def test_a_request_after_its_deadline_is_refused(consortium: Consortium, bank: Site) -> None:
    request = question(consortium, "bank-a")
    consortium.clock.now += 61
    assert request.code() == "FC-2303"
    assert bank.charged() == 0
    assert question(consortium, "bank-a").code() == ""


BUDGETS = [
    ("train", {"epsilon": 3.0, "delta": 1e-5, "holdout_epsilon": 5.0}, 3),
    ("evaluate", {"epsilon": 20.0, "delta": 1e-5, "holdout_epsilon": 0.6}, 1),
]
"""Caps below the plan's own epsilon: they end the answers before the plan does (5 training releases, 3 evaluations)."""


@pytest.mark.parametrize(("purpose", "budget", "affordable"), BUDGETS)
def test_the_cap_ends_the_answers_and_nothing_is_computed_any_more(
    tmp_path: Path, form: dict[str, Any], purpose: str, budget: dict[str, float], affordable: int
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**form), budget=budget)
    site = consortium.sites["bank-a"]
    partition = "train" if purpose == "train" else "holdout"
    for attempt in range(1, affordable + 1):
        assert question(consortium, "bank-a", attempt=attempt, purpose=purpose).code() == ""
    spent = site.epsilon(partition)
    poison(site)
    # A computation would now fail with FC-9001; the refusal comes before it.
    assert question(consortium, "bank-a", attempt=affordable + 1, purpose=purpose).code() == "FC-4101"
    assert (site.charged(partition), site.epsilon(partition)) == (affordable, spent)


def test_the_cap_holds_over_all_plans_and_runs(tmp_path: Path, form: dict[str, Any]) -> None:
    budget = {"epsilon": 3.0, "delta": 1e-5, "holdout_epsilon": 5.0}
    consortium = Consortium.make(tmp_path, plan_of(**form), budget=budget)
    site, codes = consortium.sites["bank-a"], []
    for number in range(5):
        plan = plan_of(**form, **{"training/learning_rate": 1.0 + number})
        approve(consortium, plan)
        codes.append(question(consortium, "bank-a", plan=plan, run=f"run-{number}").code())
    assert codes == ["", "", "", "FC-4101", "FC-4101"]
    assert site.epsilon() <= 3.0


TRAINING_RELEASES, EVALUATIONS = 5, 3
"""Three rounds and one evaluation, and two retries for each kind."""


def greedy_manifests() -> Iterator[dict[str, object]]:
    """Everything that a coordinator may ask in order: all rounds, twelve attempts at each, both purposes."""
    for number, purpose in ((1, "train"), (2, "train"), (3, "train"), (3, "evaluate")):
        for attempt in range(1, 13):
            yield {"round": number, "purpose": purpose, "attempt": attempt}


@pytest.mark.parametrize("run", ["run-1", "run/1", "a/b/c/d", "1/1/train"])
@pytest.mark.parametrize("retries", [0, 2])
def test_a_run_is_never_charged_more_than_its_plan_pays_for_whatever_is_asked(
    tmp_path: Path, form: dict[str, Any], run: str, retries: int
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**form, **{"rounds/retries": retries}), on_disk=True)
    site, codes = consortium.sites["bank-b"], []
    for asked, manifest in enumerate(greedy_manifests()):
        codes.append(question(consortium, "bank-b", run=run, **manifest).code())
        if asked % 7 == 6:
            site.reopen()  # a restart forgets nothing
    assert (site.charged(), site.charged("holdout")) == (3 + retries, 1 + retries)
    assert site.epsilon() <= consortium.plan.privacy.epsilon
    assert site.epsilon("holdout") <= consortium.plan.privacy.evaluation_epsilon
    # Answered as long as the plan pays, then refused; the two partitions do not share their retries.
    training = [
        code for code, manifest in zip(codes, greedy_manifests(), strict=True) if manifest["purpose"] == "train"
    ]
    counting = [
        code for code, manifest in zip(codes, greedy_manifests(), strict=True) if manifest["purpose"] != "train"
    ]
    assert training == [""] * (3 + retries) + ["FC-2302"] * (33 - retries)
    assert counting == [""] * (1 + retries) + ["FC-2302"] * (11 - retries)


ASKED = st.fixed_dictionaries(
    {},
    optional={
        "round": st.integers(0, 5),
        "attempt": st.integers(0, 9) | st.just(2**53),
        "purpose": st.sampled_from(["prepare", "train", "evaluate"]),
        "run": st.sampled_from(["run-1", "run-2", "run-1/1", "run-1/1/1/train", "run"]),
        "quorum": st.sampled_from([1, 4, 5]),
        "cohort": st.sampled_from([("bank-a",), ("bank-a", "stranger"), ()]),
        "deadline": st.sampled_from([0, 2_000_000]),
        "brief": st.booleans(),
        "weights": st.sampled_from([0.0, 1.0]).map(lambda value: np.full(151, value)),
    },
)


@settings(deadline=None, max_examples=25)
@given(st.lists(ASKED, max_size=25))
def test_no_sequence_of_hostile_manifests_costs_more_than_the_plan_states(manifests: list[dict[str, object]]) -> None:
    with TemporaryDirectory() as folder:
        consortium = Consortium.make(Path(folder), plan_of(("bank-a",)))
        site = consortium.sites["bank-a"]
        answers = set()
        for manifest in manifests:
            asked = question(consortium, "bank-a", **manifest)
            reply = asked.ask()
            if not isinstance(asked.read(reply), Refusal):
                answers.add(reply)
        assert site.charged() <= TRAINING_RELEASES
        assert site.charged("holdout") <= EVALUATIONS
        assert site.charged() + site.charged("holdout") == len(answers)
        assert site.epsilon() <= consortium.plan.privacy.epsilon
        assert site.epsilon("holdout") <= consortium.plan.privacy.evaluation_epsilon


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_a_computation_that_fails_leaves_its_charge(on_disk: Consortium, purpose: str) -> None:
    site = on_disk.sites["bank-a"]
    poison(site)
    assert question(on_disk, "bank-a", purpose=purpose).code() == "FC-9001"
    site.reopen()
    assert site.charged("train" if purpose == "train" else "holdout") == 1


def test_the_charge_is_on_disk_before_anything_is_computed(
    on_disk: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, request = on_disk.sites["bank-a"], question(on_disk, "bank-a")
    at_the_computation: list[int] = []

    def cut(self: ScorecardGradient, weights: np.ndarray, **_: object) -> None:
        at_the_computation.append(site.charged())
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(ScorecardGradient, "integer_sum", cut)
        with pytest.raises(PowerCutError):
            request.ask()
    site.reopen()
    assert at_the_computation == [1]
    assert site.charged() == 1


WRITES = [
    ("journal_entries", "NEW.journal = 'audit' AND NEW.kind = 'request-answered'"),
    ("journal_heads", "NEW.journal = 'audit'"),
    ("records", "NEW.key LIKE 'answer/%'"),
    ("records", "NEW.key LIKE 'last/%'"),
    ("records", "NEW.key LIKE 'log/%'"),
]
SECURE_WRITES = [("records", "NEW.key LIKE 'epoch/%'"), ("records", "NEW.key LIKE 'round/%'")]
ALL_WRITES = [
    *(pytest.param(form, *write, id=f"{form}: {write[1]}") for form in FORMS for write in WRITES),
    *(pytest.param("secure", *write, id=f"secure: {write[1]}") for write in SECURE_WRITES),
]


@pytest.mark.parametrize(("kind", "table", "condition"), ALL_WRITES)
@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_an_answer_what_it_leaves_behind_and_its_log_line_are_stored_together_or_not_at_all(
    tmp_path: Path, kind: str, table: str, condition: str, purpose: str
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**FORMS[kind]), on_disk=True)
    site = consortium.sites["bank-a"]
    # An epoch, or at least the run, is there: only what the answer leaves behind is looked at.
    first = question(consortium, "bank-a", purpose="close", round=1)
    assert first.code() == "FC-2302"
    request = question(consortium, "bank-a", purpose=purpose)
    broken = question(consortium, "bank-a", purpose=purpose, sent={"weights": bytes(8)})
    assert broken.code() == "FC-3106"
    before, lines = kept(site), [event.kind for event in site.events()]
    partition = "train" if purpose == "train" else "holdout"
    failing = (
        f"CREATE TEMP TRIGGER disk BEFORE INSERT ON main.{table} WHEN {condition} BEGIN SELECT RAISE(FAIL, 'x'); END"
    )
    site.state.database.execute(failing)
    assert request.code() == "FC-9001"
    site.reopen()  # what a new process finds on disk; the trigger is gone with the old one
    assert kept(site) == before
    answered = [event.kind for event in site.events()].count(EventKind.REQUEST_ANSWERED)
    assert answered == lines.count(EventKind.REQUEST_ANSWERED)
    site.state.audit.verify()
    # The charge stands, nothing left for it, and only a new attempt is answered.
    assert site.charged(partition) == 1
    assert request.code() == "FC-3105"
    assert question(consortium, "bank-a", purpose=purpose, attempt=2).code() == ""
    assert site.charged(partition) == 2


def test_a_power_cut_between_the_answer_and_its_log_line_leaves_neither(on_disk: Consortium) -> None:
    site, request = on_disk.sites["bank-a"], question(on_disk, "bank-a")
    assert question(on_disk, "bank-a", sent={"weights": bytes(8)}).code() == "FC-3106"
    before, events = kept(site), site.events()

    def cut(kind: EventKind, **fields: object) -> None:
        raise PowerCutError

    site.state.audit.record = cut  # type: ignore[method-assign]
    with pytest.raises(PowerCutError):
        request.ask()
    site.reopen()
    assert kept(site) == before
    assert site.events() == events
    assert site.charged() == 1


def test_two_equal_requests_at_once_get_one_answer_and_one_charge(consortium: Consortium, bank: Site) -> None:
    request = question(consortium, "bank-a")
    replies: list[bytes] = []
    before = len(bank.events())
    calm, second = bank.entropy, threading.Thread(target=lambda: replies.append(request.ask()))

    def meanwhile(count: int) -> bytes:
        # The charge is on disk and the noise is not drawn yet: the worst moment for the second request to arrive.
        bank.entropy = calm
        second.start()
        second.join(timeout=0.2)
        return calm(count)

    bank.entropy = meanwhile
    replies.append(request.ask())
    second.join()
    assert len(replies) == 2
    assert len(set(replies)) == 1
    assert isinstance(request.read(replies[0]), TrainAnswer | Upload)
    assert bank.charged() == 1
    assert [event.kind for event in bank.events()[before:]] == [EventKind.REQUEST_ANSWERED]


def test_after_a_crash_between_charge_and_answer_only_a_new_attempt_is_answered(on_disk: Consortium) -> None:
    consortium = on_disk
    site = consortium.sites["bank-a"]
    request = question(consortium, "bank-a")

    def cut(count: int) -> bytes:
        raise PowerCutError

    calm, site.entropy = site.entropy, cut
    with pytest.raises(PowerCutError):
        request.ask()
    site.entropy = calm
    site.reopen()
    assert site.charged() == 1
    assert request.code() == "FC-3105"
    assert question(consortium, "bank-a", attempt=2).code() == ""
    assert site.charged() == 2


BY_PYTHON = {"created", "msecs", "relativeCreated", "thread", "process", "lineno"}
"""Times and identifiers that logging itself adds; digits of theirs may look like anything."""


def every_text(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    for record in caplog.records:
        yield record.getMessage()
        yield repr({key: value for key, value in record.__dict__.items() if key not in BY_PYTHON})


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_a_cell_in_an_exception_crosses_neither_the_wire_nor_the_log(
    consortium: Consortium, bank: Site, caplog: pytest.LogCaptureFixture, purpose: str
) -> None:
    poison(bank)
    with caplog.at_level(logging.DEBUG):
        request = question(consortium, "bank-a", purpose=purpose)
        reply = request.ask()
    answer = request.read(reply)
    assert answer == Refusal(
        manifest_digest=request.manifest.digest(), ledger_head=bank.state.ledger.head, code="FC-9001"
    )
    assert caplog.records, "a failure must be logged"
    offsets = range(0, 200)
    forbidden = {str(CELL + offset) for offset in offsets}
    assert not [text for text in every_text(caplog) for value in forbidden if value in text]
    for event in bank.events():
        assert not forbidden & set(map(str, event.fields.values()))


def test_a_request_that_does_not_open_is_refused_with_a_code_that_the_coordinator_can_read(
    consortium: Consortium, bank: Site
) -> None:
    request = question(consortium, "bank-a")
    flipped = bytearray(request.sealed)
    flipped[-1] ^= 1
    broken = Question(site=bank, manifest=request.manifest, sealed=bytes(flipped))
    assert broken.code() == "FC-3102"
    elsewhere = Question(site=bank, manifest=request.manifest, sealed=question(consortium, "bank-b").sealed)
    assert elsewhere.code() == "FC-3102"
    for junk in (b"", b"\xff" * 2000):
        assert Question(site=bank, manifest=request.manifest, sealed=junk).code() == "FC-3101"
    assert bank.charged() == 0


def test_a_request_that_somebody_else_signed_is_refused(consortium: Consortium, bank: Site) -> None:
    assert question(consortium, "bank-a", signer=keys_of(77)).code() == "FC-3103"
    assert question(consortium, "bank-a", signer=bank.keys).code() == "FC-3103"
    assert bank.charged() == 0


def test_weights_that_are_not_those_of_the_manifest_are_refused(consortium: Consortium, bank: Site) -> None:
    assert question(consortium, "bank-a", sent={"weights": bytes(8 * 151)}).code() == "FC-3106"
    assert bank.charged() == 0


@pytest.mark.parametrize("size", [0, 1, 150, 152])
def test_weights_of_another_layout_are_refused(consortium: Consortium, bank: Site, size: int) -> None:
    assert consortium.family.layout.size == 151
    assert question(consortium, "bank-a", round=2, weights=np.zeros(size)).code() == "FC-3101"
    assert bank.charged() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.7e308, -1.7e308, 2 * WEIGHT_LIMIT])
@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_weights_cannot_be_chosen_so_that_a_refusal_betrays_a_borrower(
    consortium: Consortium, bank: Site, value: float, purpose: str
) -> None:
    # Finite weights of 1.7e308 and -1.7e308 overflow for borrowers with certain bins only: a refusal for that would
    # answer "is there such a borrower?" exactly, without noise. They are refused before anything private is touched.
    weights = np.zeros(151)
    weights[2:40] = value
    weights[41:80] = -value
    assert question(consortium, "bank-a", weights=weights, purpose=purpose, round=3).code() == "FC-3101"
    assert bank.charged() == bank.charged("holdout") == 0


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_the_largest_weights_are_answered(consortium: Consortium, purpose: str) -> None:
    weights = np.where(np.arange(151) % 2 == 0, WEIGHT_LIMIT, -WEIGHT_LIMIT)
    assert question(consortium, "bank-a", weights=weights, purpose=purpose, round=3).code() == ""


def test_all_answers_of_an_open_run_have_one_length_on_the_wire(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    bank = consortium.sites["bank-a"]
    lengths = {
        len(question(consortium, "bank-b").ask()),
        len(question(consortium, "bank-a").ask()),
        len(question(consortium, "fund-c", purpose="evaluate").ask()),
        len(question(consortium, "bank-a", attempt=1, deadline=2_000_000).ask()),
        len(question(consortium, "insurer-d", plan=plan_of(**{"run/rounds": 2})).ask()),
        len(question(consortium, "insurer-d", cohort=()).ask()),
        len(question(consortium, "bank-b", purpose="close").ask()),
    }
    poison(bank)
    lengths.add(len(question(consortium, "bank-a", round=2).ask()))
    assert lengths == {answer_length(151) + SEAL_OVERHEAD}
    assert len(bank.worker.handle(b"junk")) == UNREADABLE_LENGTH + SEAL_OVERHEAD


def test_the_audit_log_tells_every_answer_and_every_refusal(consortium: Consortium, bank: Site) -> None:
    first = question(consortium, "bank-a")
    before = len(bank.events())
    first.ask()
    refused = question(consortium, "bank-a", attempt=1, quorum=1)
    refused.ask()
    bank.worker.handle(b"junk")
    events = bank.events()[before:]
    kinds = [(event.kind, event.fields.get("code")) for event in events]
    assert kinds == [
        (EventKind.REQUEST_ANSWERED, None),
        (EventKind.REQUEST_REFUSED, "FC-3105"),
        (EventKind.REQUEST_REFUSED, "FC-3101"),
    ]
    assert (events[0].fields["manifest"], events[0].fields["stage"]) == (first.manifest.digest(), str(first.stage))
    assert events[1].fields["manifest"] == refused.manifest.digest()
    bank.state.audit.verify()


def test_bytes_that_anybody_can_send_do_not_fill_the_ledgers_disk(bank: Site) -> None:
    for number in range(RECORDED_UNREADABLE + 20):
        bank.worker.handle(b"junk %d" % number)
    assert len(bank.events()) == RECORDED_UNREADABLE


def test_a_plan_of_another_consortium_is_refused(tmp_path: Path, form: dict[str, Any]) -> None:
    consortium = Consortium.make(tmp_path, plan=plan_of(**form, **{"run/consortium": "another"}))
    assert question(consortium, "bank-a").code() == "FC-3106"
    assert consortium.sites["bank-a"].charged() == 0


def test_nothing_of_the_table_lies_in_what_an_institution_keeps(on_disk: Consortium) -> None:
    site = on_disk.sites["bank-a"]
    for number in (1, 2, 3):
        assert question(on_disk, "bank-a", round=number).code() == ""
    site.state.database.close()
    for path in site.folder.rglob("*"):
        if path.is_file():
            assert b"bank-a-00" not in path.read_bytes()


def test_another_coordinator_is_not_answered(consortium: Consortium) -> None:
    other = question(consortium, "bank-a", signer=keys_of(2))
    assert other.code() == "FC-3103"
    assert COORDINATOR.public != keys_of(2).public


@pytest.mark.parametrize("fault", [{"quorum": 1}, {"round": 17}, {"round": 10_000}, {"deadline": 0}], ids=str)
def test_a_faulty_first_request_does_not_use_up_the_approval(consortium: Consortium, fault: dict[str, int]) -> None:
    first = {} if consortium.plan.secure is None else {"purpose": "setup", "round": 0}
    asked = question(consortium, "bank-a", run="faulty", **{**first, **fault})
    assert asked.code() in {"FC-2302", "FC-2303", "FC-3106"}
    assert question(consortium, "bank-a", run="the-run").code() == ""
