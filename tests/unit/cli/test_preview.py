"""``fedcredit node preview``: what would leave, what it would cost, and that looking changes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from pyarrow import csv
from rich.cells import cell_len

from fedcredit.config.plan import RunPlan
from fedcredit.institution.node import Node

NODE = "--contract german --modality application --delta 1e-5"
PLAN = "--contract german --epsilon 3 --delta 1e-5 --evaluation-epsilon 0.5 --rounds 2 --aggregation open"
PREVIEW = "node preview bank --plan plan.toml"
OPEN = " ▲ open aggregation: the coordinator reads the noised message of every institution"
UNVOTED = " ▲ nobody votes on the model before it is released"  # 50 borrowers tell too little


@pytest.fixture
def consortium(type_in, tmp_path: Path, lender_table: pa.Table):
    """Make a coordinator ``desk`` and a node ``bank`` with these caps, and a plan for it; return the terminal."""

    def made(*, epsilon: float = 3.0, holdout: float = 0.5, options: str = ""):
        csv.write_csv(lender_table, tmp_path / "bank.csv")
        type_in("coord init desk --consortium here --port 9443")
        invited = type_in("coord invite desk --format json").data
        caps = f"--epsilon {epsilon} --holdout-epsilon {holdout}"
        type_in(f"node init bank --name bank --type bank --data bank.csv {NODE} {caps}")
        joining = f"node join bank {invited['invitation']} --fingerprint {invited['fingerprint']} --format json"
        joined = type_in(joining).data
        type_in(f"coord member approve desk {joined['request']} --fingerprint {joined['fingerprint']}")
        drafted = type_in(f"coord plan new desk plan.toml {PLAN} --borrowers bank=50 {options}")
        assert drafted.code == 0, drafted.stderr
        return type_in

    return made


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (old, text)
    path.write_text(text.replace(old, new))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_looking_at_a_plan_changes_nothing_and_names_the_next_command(consortium, tmp_path: Path) -> None:
    typed = consortium()
    before = files(tmp_path)
    outcome = typed(PREVIEW)
    assert outcome.code == 0
    assert outcome.stdout == ""
    assert "✓ nothing is sent or changed" in outcome.stderr
    assert "✓ all of it stays within this institution's caps and policy" in outcome.stderr
    assert "Next: fedcredit node approve bank plan.toml" in outcome.stderr
    assert [line for line in outcome.stderr.splitlines() if "▲" in line] == [OPEN, UNVOTED]
    assert files(tmp_path) == before


def test_each_kind_of_message_is_counted(consortium) -> None:
    typed = consortium()
    data = typed(f"{PREVIEW} --format json").data
    leaves = {item["purpose"]: item for item in data["leaves"]}
    # Two rounds and two repetitions; one histogram and one evaluation, each with two repetitions.
    assert {name: item["at_most"] for name, item in leaves.items()} == {"prepare": 3, "train": 4, "evaluate": 3}
    assert leaves["train"]["numbers"] == 20 * 2**4 * 2  # trees, leaves, gradient and curvature
    assert leaves["evaluate"]["numbers"] == 20  # ten bins, good and bad
    assert len({item["bytes_each"] for item in leaves.values()}) == 1
    assert all(item["bytes_at_most"] == item["at_most"] * item["bytes_each"] for item in leaves.values())
    told = typed(PREVIEW).stderr
    for part in (
        "What leaves bank",
        "histogram of categories by outcome, before round 1",
        "sums of residuals and curvatures in tree leaves",
        "counts of held-out borrowers by score and outcome",
        "instead of any of them: a refusal, one error code",
        "the coordinator opens each and sees its numbers, every one with its full noise",
        "never leave: rows, identifiers",
        "no epsilon is refunded",
        "an approval serves one run",
        f"{10 * leaves['train']['bytes_each']:,}",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("model", "contents"),
    [("scorecard", "sums of clipped gradients"), ("trees", "sums of residuals and curvatures in tree leaves")],
)
def test_a_message_is_named_for_the_model(consortium, model: str, contents: str) -> None:
    assert contents in consortium(options=f"--model {model}")(PREVIEW).stderr


def test_the_cost_is_the_sum_of_squares_of_the_releases(consortium) -> None:
    data = consortium()(f"{PREVIEW} --format json").data
    squared = {item["purpose"]: (item["sensitivity"] / item["noise_deviation"]) ** 2 for item in data["leaves"]}
    budget = data["budget"]["train"]
    for state, prepared, trained in (("planned", 1, 2), ("at_most", 3, 4)):
        mu = math.sqrt(prepared * squared["prepare"] + trained * squared["train"])
        assert budget[state]["epsilon"] == pytest.approx(get_epsilon_gaussian(1 / mu, 1e-5), abs=1e-5)
        assert budget[state]["epsilon_alone"] == budget[state]["epsilon"]
    assert (budget["spent"]["epsilon"], budget["cap"], budget["delta"]) == (0.0, 3.0, 1e-5)
    assert budget["refused"] is None
    assert budget["fitting"] == budget["releases"] == 7
    assert data["budget"]["holdout"]["at_most"]["epsilon"] <= 0.5


def test_a_cap_that_is_too_low_names_the_round(consortium) -> None:
    typed = consortium(epsilon=1.7)
    data = typed(f"{PREVIEW} --format json").data
    squared = {item["purpose"]: (item["sensitivity"] / item["noise_deviation"]) ** 2 for item in data["leaves"]}
    after = [
        get_epsilon_gaussian(1 / math.sqrt(squared["prepare"] + rounds * squared["train"]), 1e-5) for rounds in (1, 2)
    ]
    assert after[0] < 1.7 < after[1]
    outcome = typed(PREVIEW)
    assert outcome.code == 0
    said = f"▲ round 2 would be refused (FC-4101): epsilon of train would be {after[1]:.3f}, above 1.700"
    assert said in outcome.stderr
    assert "all of it stays" not in outcome.stderr
    assert "Next: fedcredit node budget show bank" in outcome.stderr
    assert data["budget"]["train"]["refused"]["number"] == 2


def test_a_cap_below_the_first_release_and_one_for_the_evaluation_are_named(consortium) -> None:
    told = consortium(epsilon=0.01, holdout=0.01)(PREVIEW).stderr
    assert "▲ the histogram before round 1 would be refused (FC-4101)" in told
    assert "▲ the evaluation would be refused (FC-4101): epsilon of holdout would be " in told


def test_repetitions_beyond_a_cap_are_told_apart(consortium) -> None:
    told = consortium(epsilon=2.8)(PREVIEW).stderr
    assert "▲ train: only 6 of at most 7 releases fit under the cap" in told


def test_another_delta_than_the_ledgers_is_told(consortium, tmp_path: Path) -> None:
    typed = consortium()
    change(tmp_path / "plan.toml", "delta = 1e-05", "delta = 1e-06")
    outcome = typed(f"{PREVIEW} --format json")
    assert "counted at the ledger's delta 1e-05; the plan states its epsilon at 1e-06" in outcome.stderr
    assert outcome.data["budget"]["train"]["at_most"]["epsilon"] < 2.8  # more noise, the same ledger


@pytest.mark.parametrize(
    ("old", "new", "error", "code", "words"),
    [
        ("[institutions.bank]", "[institutions.fund]", "FC-2304", 7, ["bank"]),
        ("expected_borrowers = 50", "expected_borrowers = 20", "FC-2302", 7, ["expected_borrowers"]),
        ('contract_digest = "', 'contract_digest = "0', "FC-1004", 2, ["contract_digest"]),
        ('contract = "german"', 'contract = "taiwan"', "FC-3106", 5, ["data contract"]),
        ("epsilon = 3.0", "epsilon = 0.0005", "FC-4004", 4, ["200000"]),
    ],
    ids=["not named", "far too small", "digest", "another contract", "too much noise"],
)
def test_what_approval_would_refuse_is_refused_by_a_look_as_well(
    consortium, tmp_path: Path, old: str, new: str, error: str, code: int, words: list[str]
) -> None:
    typed = consortium()
    change(tmp_path / "plan.toml", old, new)
    before = files(tmp_path)
    for command in (PREVIEW, "node approve bank plan.toml"):
        typed(command).refuses(error, code, *words)
        assert files(tmp_path) == before


def secured(path: Path, *, lane_bits: int = 32) -> None:
    """Rewrite the plan of one bank into one of three members with a secure sum, all of whom must agree to open it."""
    change(path, 'kind = "open"', f'kind = "secure"\nthreshold = 3\nlane_bits = {lane_bits}')
    change(path, "quorum = 1", "quorum = 3")
    text = path.read_text()
    section = text[text.index("[institutions.bank]") :]
    start = section.index('identity = "') + len('identity = "')
    for digit, name in enumerate(("fund", "lessor")):
        named = section[:start] + str(digit) * 64 + section[start + 64 :]
        text += "\n" + named.replace(".bank]", f".{name}]")
    path.write_text(text)


def test_who_reads_the_numbers_is_said_before_anybody_approves(consortium, tmp_path: Path) -> None:
    typed = consortium()
    for command in (PREVIEW, "node approve bank plan.toml"):
        told = typed(command).stderr
        assert "sums        OPEN: the coordinator reads every institution's noised message" in told
        assert OPEN in told
    assert "the coordinator opens each and sees its numbers" in typed(PREVIEW).stderr
    secured(tmp_path / "plan.toml")
    for command in (PREVIEW, "node approve bank plan.toml"):
        told = typed(command).stderr
        assert "sums        secure: 3 of 3 must agree to open one, 0 may collude; 32-bit numbers" in told
        assert [line for line in told.splitlines() if "▲" in line] == [UNVOTED]
        assert "OPEN" not in told
    for part in (
        "its numbers are masked: the coordinator reads their sum over all members, and no institution's own",
        "beside them go fresh keys, a signature on whose numbers are in each sum, and shares of masks",
    ):
        assert part in typed(PREVIEW).stderr
    assert "the coordinator opens each" not in typed(PREVIEW).stderr


def test_shared_noise_is_shown_with_both_epsilons_and_refused_by_nobody(consortium, tmp_path: Path) -> None:
    typed = consortium()
    secured(tmp_path / "plan.toml")
    change(tmp_path / "plan.toml", 'noise = "local"', 'noise = "shared"')
    outcome = typed(f"{PREVIEW} --format json")
    assert outcome.data["refused_by_policy"] is None
    state = outcome.data["budget"]["train"]["at_most"]
    assert state["epsilon_alone"] > 1.5 * state["epsilon"]  # mu is larger by the root of 3
    assert f"{state['epsilon']:.3f} / {state['epsilon_alone']:.3f}" in outcome.stderr
    assert "if secure aggregation fails: epsilon" in outcome.stderr
    approved = typed("node approve bank plan.toml --format json")
    assert "if secure aggregation fails: epsilon" in approved.stderr
    assert (approved.data["refused_by_policy"], approved.data["within_caps"]) == (None, True)
    assert "Next: fedcredit node run bank" in approved.stderr


def test_a_sum_that_could_wrap_its_lanes_is_refused_before_anybody_approves(consortium, tmp_path: Path) -> None:
    typed = consortium()
    secured(tmp_path / "plan.toml", lane_bits=16)
    for command in (PREVIEW, "node approve bank plan.toml"):
        typed(command).refuses("FC-4004", 4, "16-bit numbers end at 32767", "lane_bits")
    assert not (tmp_path / "bank" / "approvals").exists()


def test_a_running_node_is_not_looked_into(consortium, tmp_path: Path) -> None:
    typed = consortium()
    node = Node.open(tmp_path / "bank")
    typed(PREVIEW).refuses("FC-1301", 2, "bank/state")
    node.close()
    assert typed(PREVIEW).code == 0


def test_approval_shows_the_same_departures_and_records_the_plan(consortium, tmp_path: Path) -> None:
    typed = consortium()
    seen = typed(PREVIEW).stderr
    outcome = typed("node approve bank plan.toml --format json")
    table = seen[seen.index("What leaves bank") : seen.index("   each also holds")]
    assert table in outcome.stderr
    assert RunPlan.read(tmp_path / "plan.toml").digest().hex() == outcome.data["plan"]
    assert (tmp_path / "bank" / "approvals" / f"{outcome.data['plan']}.toml").is_file()
    assert outcome.data["epsilon"] == pytest.approx(3.0)
    assert (outcome.data["refused_by_policy"], outcome.data["within_caps"]) == (None, True)
    assert outcome.stderr.index("What leaves bank") < outcome.stderr.index("✓ approved plan")
    assert "Next: fedcredit node run bank" in outcome.stderr
    assert not (tmp_path / "bank" / "state" / "node.db").exists()


def test_approval_tells_the_round_that_a_cap_stops_and_does_not_recommend_to_run(consortium, tmp_path: Path) -> None:
    typed = consortium(epsilon=1.7)
    (foretold,) = (line for line in typed(PREVIEW).stderr.splitlines() if "round 2 would be refused" in line)
    outcome = typed("node approve bank plan.toml --format json")
    assert foretold in outcome.stderr
    assert outcome.data["within_caps"] is False
    assert "Next: fedcredit node budget show bank" in outcome.stderr
    assert "node run" not in outcome.stderr
    assert (tmp_path / "bank" / "approvals" / f"{outcome.data['plan']}.toml").is_file()


def test_a_plan_is_approved_while_the_node_runs_but_its_ledger_is_not_read(consortium, tmp_path: Path) -> None:
    typed = consortium()
    node = Node.open(tmp_path / "bank")
    outcome = typed("node approve bank plan.toml --format json")
    node.close()
    assert outcome.data["within_caps"] is None
    assert "▲ the node is running, so its ledger was not read" in outcome.stderr
    assert "Next: fedcredit coord run start COORDINATOR plan.toml" in outcome.stderr
    assert (tmp_path / "bank" / "approvals" / f"{outcome.data['plan']}.toml").is_file()


def test_nothing_is_approved_on_a_ledger_under_which_nothing_could_be_released(consortium, tmp_path: Path) -> None:
    typed = consortium()
    Node.open(tmp_path / "bank").close()
    change(tmp_path / "bank" / "node.toml", "\nepsilon = 3.0", "\nepsilon = 4.0")
    typed("node approve bank plan.toml").refuses("FC-4108", 4, "budget.epsilon")
    assert not (tmp_path / "bank" / "approvals").exists()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_fits_a_terminal_of_a_hundred_columns(consortium, language: str) -> None:
    outcome = consortium()(f"--lang {language} {PREVIEW}")
    assert outcome.code == 0
    assert {line for line in outcome.stderr.splitlines() if cell_len(line) > 100} == set()


def test_chinese_says_the_same_figures(consortium) -> None:
    typed = consortium(epsilon=1.7)
    english, chinese = (typed(f"--lang {language} {PREVIEW} --format json") for language in ("en", "zh"))
    one, other = english.data, chinese.data
    # Only the sentence of a warning is in the operator's language, as that of an error is.
    assert [item["about"] for item in one.pop("warnings")] == [item["about"] for item in other.pop("warnings")]
    assert one == other
    for part in ("bank 对外发出的内容", "绝不离开", "不可撤销", "第 2 轮会被拒绝(FC-4101):训练部分的 epsilon 将为"):
        assert part in chinese.stderr


def test_after_an_open_run_the_messages_had_the_stated_length_and_the_plan_is_used_up(type_in) -> None:
    # tests/unit/training/test_plan_review.py looks at each message of a secure one.
    shown = type_in("demo --data german --rounds 1 --aggregation open --out run --format json").data
    sent = {line["institution"]: line for line in shown["traffic"]["institutions"]}
    for spent in shown["privacy"]["spent"]:
        name = spent["institution"]
        outcome = type_in(f"node preview run/institutions/{name} --plan run/plan.toml --format json")
        data = outcome.data
        # The preparation, a round, the evaluation and the cosignature at the end are equally long.
        assert data["leaves"][0]["bytes_each"] * 4 == sent[name]["bytes_up"]
        assert data["budget"]["train"]["spent"]["epsilon"] == pytest.approx(spent["epsilon"])
        charged = 3  # the preparation, one round, the evaluation
        assert data["charged_already"] == charged
        assert f"{charged} of its releases are counted as spent" in outcome.stderr
