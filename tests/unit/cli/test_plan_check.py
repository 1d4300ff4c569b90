"""``fedcredit coord plan check``, and that ``plan new`` writes no plan that it would refuse."""

from __future__ import annotations

import datetime
import json
import math
import re
import tomllib
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from consortium import BOUNDED, NO_PRIVACY, SECURE, SHARED, VOTED, plan_of
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from rich.cells import cell_len

from fedcredit.config.plan import RunPlan
from fedcredit.messages import answer_length, padded_length
from fedcredit.secagg.shamir import SHARE_LENGTH

DELTA = 1e-5
STEPS = 5
"""Three rounds and two repetitions."""
EVALUATIONS = 3
COUNT = 64
"""Grid steps per counted borrower."""
HONEST = 3


@pytest.fixture
def write(tmp_path: Path):
    def written(**changes: Any) -> RunPlan:
        shared = changes.get("privacy/noise") == "shared"
        plan = plan_of(**changes, **BOUNDED, **({} if shared else VOTED))
        (tmp_path / "plan.toml").write_text(plan.to_toml())
        return plan

    return written


def epsilon_of(mu: float) -> float:
    """Return epsilon of mu-GDP by the other library, without our margins."""
    return float(get_epsilon_gaussian(1 / mu, DELTA))


def close(value: float) -> Any:
    return pytest.approx(value, abs=1e-5)


def training_of(institution: dict[str, Any]) -> tuple[float, float]:
    """Return sensitivity and deviation of the training release."""
    (release,) = (item for item in institution["releases"] if item["purpose"] == "train")
    return release["sensitivity"], release["noise_deviation"]


def test_every_figure_follows_from_the_noise_that_it_states(write, type_in) -> None:
    plan = write()
    data = type_in("coord plan check plan.toml --format json").data
    assert (data["plan"], data["digest"]) == ("first", plan.digest().hex())
    assert (data["rounds"], data["quorum"], data["retries"]) == (3, 4, 2)
    stated = data["privacy"]
    assert (stated["unit"], stated["neighbours"], stated["delta"]) == ("borrower", "add-or-remove-one", DELTA)
    assert (stated["mechanism"], stated["accountant"], stated["steps"]) == ("rounded-gaussian", "gdp", STEPS)
    assert (stated["noise"], stated["sampling"], stated["honest_shares"]) == ("local", "full-batch", 1)
    assert data["training"]["clip"] == 1.0
    assert stated["advised_delta"] == 1 / 400  # 40 borrowers each
    assert [item["about"] for item in data["warnings"]] == ["open"]
    assert data["aggregation"] == {"kind": "open", "update_bound": "share"}
    assert [item["institution"] for item in data["institutions"]] == ["bank-a", "bank-b", "fund-c", "insurer-d"]
    for item in data["institutions"]:
        bound, deviation = training_of(item)
        mu = bound / deviation * math.sqrt(STEPS)
        assert 3.5 < item["training"]["claimed"] <= 4
        assert item["training"] == {"claimed": close(epsilon_of(mu)), "alone": close(epsilon_of(mu))}
        for members in (2, 3):  # private messages: mu^2 adds up; the others count at the plan's full price
            own = epsilon_of(mu * math.sqrt(members))
            assert own - 1e-6 <= item["overlap"][str(members)]["claimed"] <= 1.02 * own
        normal = NormalDist()
        assert item["tpr_ceiling"]["claimed"] == close(normal.cdf(normal.inv_cdf(0.01) + mu))
        (counts,) = (release for release in item["releases"] if release["purpose"] == "evaluate")
        evaluated = COUNT / counts["noise_deviation"] * math.sqrt(EVALUATIONS)
        assert item["evaluation"]["claimed"] == close(epsilon_of(evaluated))
        assert 0.98 < item["evaluation"]["claimed"] <= 1
        assert item["messages_at_most"] == STEPS + EVALUATIONS
    assert data["institutions"][1]["modalities"] == ["application"]


def test_with_shared_noise_both_epsilons_stand_together_everywhere(write, type_in) -> None:
    write(**SHARED)
    data = type_in("coord plan check plan.toml --format json").data
    assert data["privacy"]["honest_shares"] == HONEST
    for item in data["institutions"]:
        bound, share = training_of(item)
        alone = bound / share * math.sqrt(STEPS)
        mu = alone / math.sqrt(HONEST)
        assert item["training"] == {"claimed": close(epsilon_of(mu)), "alone": close(epsilon_of(alone))}
        for members in (2, 3):
            # In the sum a borrower at two institutions counts twice; two lone messages are two releases.
            assert item["overlap"][str(members)] == {
                "claimed": close(epsilon_of(mu * members)),
                "alone": close(epsilon_of(alone * math.sqrt(members))),
            }
        normal = NormalDist()
        assert item["tpr_ceiling"]["alone"] == close(normal.cdf(normal.inv_cdf(0.01) + alone))
        (counts,) = (release for release in item["releases"] if release["purpose"] == "evaluate")
        evaluated = COUNT / counts["noise_deviation"] * math.sqrt(EVALUATIONS)
        assert item["evaluation"] == {
            "claimed": close(epsilon_of(evaluated / math.sqrt(HONEST))),
            "alone": close(epsilon_of(evaluated)),
        }
    assert [item["about"] for item in data["warnings"]] == ["unvoted"]
    assert data["aggregation"] == {"kind": "secure", "threshold": 3, "lane_bits": 32, "update_bound": "share"}

    told = type_in("coord plan check plan.toml").stderr
    first = data["institutions"][0]
    for pair in (first["training"], first["evaluation"], first["overlap"]["2"], first["overlap"]["3"]):
        assert f"{pair['claimed']:.3f} / {pair['alone']:.3f}" in told
    assert "3 honest shares of noise (quorum 4, colluders 1)" in told
    assert f"if secure aggregation fails: epsilon {first['training']['alone']:.3f}" in told
    assert f"and {first['tpr_ceiling']['alone']:.1%} if secure aggregation fails" in told


def bytes_of(item: dict[str, Any]) -> dict[str, int]:
    """Return the length of each kind of message; what is stated for all of them must be their sum."""
    assert item["bytes_at_most"] == sum(release["bytes_at_most"] for release in item["releases"])
    assert all(release["bytes_at_most"] == release["at_most"] * release["bytes_each"] for release in item["releases"])
    return {release["purpose"]: release["bytes_each"] for release in item["releases"]}


def test_a_message_has_the_length_that_is_stated(write, type_in) -> None:
    write()
    item = type_in("coord plan check plan.toml --format json").data["institutions"][0]
    # 2 + 1088 + 32 + 16: header, encapsulated keys, tag (test_sealing.py counts them). 151 parameters fit two KiB.
    assert bytes_of(item) == dict.fromkeys(("train", "evaluate"), answer_length(151) + 1138)
    assert answer_length(151) + 1138 == 3186
    assert item["bytes_at_most"] == 8 * 3186


def test_a_masked_message_has_the_length_that_is_stated(write, type_in) -> None:
    write(**SECURE)
    outcome = type_in("coord plan check plan.toml --format json")
    item = outcome.data["institutions"][0]
    # 3 boxes of 4 shares, 4 commitments, and lanes: 4 bytes each. A channel adds header, tag, nonce and tag: 38.
    beside = 3 * (4 * SHARE_LENGTH + 28) + 4 * 34
    assert bytes_of(item) == {
        "train": padded_length(151 * 4 + beside) + 38,
        "evaluate": padded_length(20 * 4 + beside) + 38,
    }
    assert f"{item['bytes_at_most']:,}" in outcome.stderr


def test_it_says_whether_only_sums_can_be_read(write, type_in) -> None:
    write()
    told = type_in("coord plan check plan.toml").stderr
    assert "sums        OPEN: the coordinator reads every institution's noised message" in told
    assert "▲ open aggregation: the coordinator reads the noised message of every institution" in told
    write(**SECURE, **{"privacy/colluders": 1})
    told = type_in("coord plan check plan.toml").stderr
    assert "sums        secure: 3 of 4 must agree to open one, 1 may collude; 32-bit numbers" in told
    assert "OPEN" not in told
    assert "▲" not in told


def test_a_cohort_whose_sums_could_wrap_is_refused(write, type_in) -> None:
    # Counts of twice the 40 borrowers of four members in steps of 64: 20,480 of 32,767. The noise of epsilon 4 fits
    # beside them, that of epsilon 1 does not.
    narrow = {**SECURE, "aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 16, "update_bound": "share"}}
    write(**narrow, **{"privacy/evaluation_epsilon": 4.0})
    fits = type_in("coord plan check plan.toml")
    assert fits.code == 0
    assert "16-bit numbers" in fits.stderr
    write(**narrow, **{"privacy/evaluation_epsilon": 1.0})
    type_in("coord plan check plan.toml").refuses("FC-4004", 4, "16-bit numbers end at 32767", "lane_bits")


def test_it_says_what_the_plan_states_and_what_to_do_next(write, type_in) -> None:
    write()
    outcome = type_in("coord plan check plan.toml")
    assert outcome.code == 0
    assert outcome.stdout == ""
    for part in (
        "scorecard, 3 rounds, quorum 4",
        "30% of borrowers held out by key salt; contract taiwan",
        "epsilon 4 at delta 1e-05 per borrower, add-or-remove-one; held out 1",
        "every message is private alone (local noise)",
        "rounded-gaussian, accountant gdp",
        "5 training sums (3 rounds, 2 repetitions), 0 histograms before, 3 evaluations",
        "every training borrower is in every round",
        "clip        1; the sums are whole numbers on a grid of 8",
        "Renyi accounting, a second route: epsilon 4.3",
        "a membership test with 1 % false alarms to find at most 8.0% of the borrowers",
        "Next: fedcredit node preview NODE --plan plan.toml",
        "fedcredit node approve NODE plan.toml",
    ):
        assert part in outcome.stderr
    assert " / " not in outcome.stderr
    assert outcome.stderr.count("▲") == 1  # the coordinator reads each message


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("changes", [{}, SECURE, SHARED], ids=["open", "local", "shared"])
def test_it_fits_a_terminal_of_a_hundred_columns(write, type_in, language: str, changes: dict[str, Any]) -> None:
    write(**changes)
    outcome = type_in(f"--lang {language} coord plan check plan.toml")
    assert outcome.code == 0
    assert {line for line in outcome.stderr.splitlines() if cell_len(line) > 100} == set()


def test_chinese_says_the_same_figures(write, type_in) -> None:
    write(**SECURE)
    english, chinese = (type_in(f"--lang {lang} coord plan check plan.toml --format json") for lang in ("en", "zh"))
    assert english.data == chinese.data
    for part in (
        *("此计划能够兑现其声明", "保护单位为借款人", "第二途径", "8.0%", "下一步: fedcredit node preview"),
        "安全聚合:4 家中须有 3 家同意才能打开,最多 0 家合谋;32 位数",
    ):
        assert part in chinese.stderr


@pytest.mark.parametrize(
    ("changes", "error", "code", "words"),
    [
        ({"privacy/delta": 9e-4, "institutions": None}, "FC-4007", 4, ["bank-a", "5.00e-05", "5.0e-06"]),
        ({"privacy/mechanism": "skellam"}, "FC-4006", 4, ["gdp"]),
        ({"privacy/epsilon": 0.001, "run/rounds": 5000, "training/grid": 1000}, "FC-4004", 4, ["200000"]),
        ({"run/contract_digest": "0" * 64}, "FC-3106", 5, ["data contract"]),
        ({"run/contract": "greek"}, "FC-1001", 2, ["greek", "taiwan"]),
        ({"training/clip": 2.0}, "FC-1004", 2, ["training.clip"]),
    ],
    ids=["delta", "accountant", "noise", "contract's version", "contract", "model"],
)
def test_a_plan_that_cannot_keep_its_claim_is_refused(
    write, type_in, changes: dict[str, Any], error: str, code: int, words: list[str]
) -> None:
    if "institutions" in changes:
        sections = {"bank-a": {"kind": "bank", "expected_borrowers": 20_000, "modalities": ["application"]}}
        changes = {**changes, "institutions": sections, "rounds/quorum": 1}
    write(**changes)
    type_in("coord plan check plan.toml").refuses(error, code, *words)


def test_a_damaged_plan_is_refused_before_anything_is_said(write, type_in, tmp_path: Path) -> None:
    write()
    path = tmp_path / "plan.toml"
    path.write_text(path.read_text().replace("clip =", "clipp ="))
    outcome = type_in("coord plan check plan.toml")
    outcome.refuses("FC-1003", 2, "clipp")
    assert "trains" not in outcome.stderr


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"privacy/epsilon": 4.0}, []),
        ({"privacy/epsilon": 4.5}, ["epsilon"]),
        ({"privacy/epsilon": 8.0}, ["epsilon"]),
        ({"privacy/evaluation_epsilon": 5.0}, ["epsilon"]),
        ({"privacy/delta": 9e-4}, []),  # 40 borrowers: 1/(10 n) is 0.0025
        ({"privacy/test_noise": True}, ["nobody"]),
    ],
)
def test_what_may_be_done_and_had_better_not_is_a_warning(
    write, type_in, changes: dict[str, Any], about: list[str]
) -> None:
    write(**SECURE, **changes)
    outcome = type_in("coord plan check plan.toml --format json")
    assert [item["about"] for item in outcome.data["warnings"]] == about
    assert all(item["message"] in outcome.stderr for item in outcome.data["warnings"])


def test_a_delta_between_the_rule_and_the_advice_is_a_warning_with_the_advice(write, type_in) -> None:
    sizes = {"bank-a": 20_000, "bank-b": 5_000}
    sections = {
        name: {"kind": "bank", "expected_borrowers": size, "modalities": ["application"]}
        for name, size in sizes.items()
    }
    write(**{"privacy/delta": 1e-5, "institutions": sections, "rounds/quorum": 2})
    outcome = type_in("coord plan check plan.toml")
    assert outcome.code == 0
    assert "▲ delta 1e-05 is above 1/(10 n) = 5.0e-06 of bank-a" in outcome.stderr


@pytest.mark.parametrize(
    "changes",
    [{"privacy/epsilon": 8.1}, {"privacy/evaluation_epsilon": 9.0}, NO_PRIVACY],
    ids=["training", "evaluation", "infinite"],
)
def test_an_epsilon_above_eight_needs_to_be_meant(write, type_in, changes: dict[str, Any]) -> None:
    write(**changes)
    type_in("coord plan check plan.toml").refuses("FC-2305", 7, "above 8", "--allow-large-epsilon")
    assert json.loads(type_in("coord plan check plan.toml --format json").stdout)["exit"] == 7
    assert type_in("coord plan check plan.toml --allow-large-epsilon").code == 0


def test_a_plan_without_privacy_claims_nothing(write, type_in) -> None:
    write(**NO_PRIVACY)
    outcome = type_in("coord plan check plan.toml --allow-large-epsilon --format json")
    assert "✓" not in outcome.stderr
    assert "▲ this plan claims nothing: first" in outcome.stderr
    assert "▲ this plan protects NOBODY" in outcome.stderr
    assert "private alone" not in outcome.stderr
    first = outcome.data["institutions"][0]
    assert first["training"] == first["evaluation"] == {"claimed": "inf", "alone": "inf"}
    assert first["tpr_ceiling"] == {"claimed": 1.0, "alone": 1.0}


def test_fixed_noise_is_shown_as_no_protection_whatever_the_plan_states(write, type_in) -> None:
    write(**{"privacy/test_noise": True})
    told = type_in("coord plan check plan.toml").stderr
    assert "epsilon inf at delta 1e-05 per borrower, add-or-remove-one; held out inf" in told
    assert "epsilon 4 at" not in told


# --- plan new ------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk_of(type_in):
    """Make a coordinator with these members and return the terminal."""

    def made(*members: str):
        type_in("coord init desk --consortium here --port 9443")
        invited = type_in("coord invite desk --format json").data
        for name in members:
            type_in(
                f"node init {name} --name {name} --type bank --data bank.csv --contract german --modality application "
                "--epsilon 3 --delta 1e-5 --holdout-epsilon 0.5"
            )
            joining = f"node join {name} {invited['invitation']} --fingerprint {invited['fingerprint']} --format json"
            joined = type_in(joining).data
            approved = type_in(f"coord member approve desk {joined['request']} --fingerprint {joined['fingerprint']}")
            assert approved.code == 0
        return type_in

    return made


@pytest.fixture
def desk(desk_of):
    """A coordinator with one member, ``bank``."""
    return desk_of("bank")


def test_a_plan_on_canonical_tables_names_the_day_from_which_nobody_trains(desk, type_in, tmp_path: Path) -> None:
    on_tables = f"{NEW} --epsilon 3 {ALONE}".replace("--contract german", "--contract vehicle-loans")
    desk(on_tables).refuses("FC-1004", 2, "holdout.out_of_time", "federation.toml")
    config = tmp_path / "desk" / "federation.toml"
    config.write_text(config.read_text().replace("[holdout]", "[holdout]\nout_of_time = 2024-07-01"))
    assert desk(on_tables).code == 0
    assert tomllib.loads((tmp_path / "plan.toml").read_text())["run"]["out_of_time"] == datetime.date(2024, 7, 1)
    shown = desk("coord plan check plan.toml")
    assert "nobody trains on what was observed on 2024-07-01 or later" in shown.stderr
    # The same from the beginning.
    assert type_in("coord init second --consortium here --port 9444 --out-of-time 2024-07-01").code == 0
    made = tomllib.loads((tmp_path / "second" / "federation.toml").read_text())
    assert made["holdout"]["out_of_time"] == datetime.date(2024, 7, 1)


def test_members_see_which_data_schema_all_of_them_speak(desk) -> None:
    outcome = desk("coord member show desk --format json")
    assert outcome.data["schema_version"] == 1
    assert "newest version of the canonical data set that all speak: 1" in outcome.stderr


NEW = "coord plan new desk plan.toml --contract german --evaluation-epsilon 0.5 --rounds 2"
ALONE = "--delta 1e-5 --borrowers bank=500 --aggregation open"


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ("--epsilon 3 --delta 9e-4 --borrowers bank=5000 --aggregation open", "FC-4007", 4),
        (f"--epsilon 0.002 {ALONE}", "FC-4004", 4),
        (f"--epsilon 9 {ALONE}", "FC-2305", 7),
    ],
)
def test_a_plan_that_check_would_refuse_is_never_written(
    desk, tmp_path: Path, options: str, error: str, code: int
) -> None:
    desk(f"{NEW} {options}").refuses(error, code)
    assert not (tmp_path / "plan.toml").exists()


def test_a_new_plan_comes_with_its_epsilons_and_passes_the_check(desk) -> None:
    outcome = desk(f"{NEW} --epsilon 3 {ALONE}")
    assert outcome.code == 0
    assert "ε training" in outcome.stderr
    assert "Next: fedcredit coord plan check plan.toml\n" in outcome.stderr
    assert "fedcredit node approve NODE plan.toml" in outcome.stderr
    assert "fedcredit coord serve desk" in outcome.stderr
    assert desk("coord plan check plan.toml").code == 0


def test_a_large_epsilon_is_written_if_it_is_meant(desk) -> None:
    outcome = desk(f"{NEW} --epsilon 9 {ALONE} --allow-large-epsilon")
    assert outcome.code == 0
    assert "▲ epsilon 9 is above 4" in outcome.stderr
    (check,) = re.findall(r"^Next: fedcredit (coord plan check .*)$", outcome.stderr, re.MULTILINE)
    assert desk(check).code == 0  # the command as it is printed


def draft(*members: str, options: str = "") -> str:
    return f"{NEW} --epsilon 3 --delta 1e-5 {' '.join(f'--borrowers {name}=500' for name in members)} {options}"


@pytest.mark.parametrize(
    ("members", "options", "choices"),
    [
        (2, "", {2: (0, 0)}),
        (3, "", {3: (0, 1), 2: (1, 0)}),
        (4, "", {4: (0, 2), 3: (1, 1)}),
        (4, "--noise shared", {4: (0, 1), 3: (1, 1)}),  # a shared sum hides among three
        (4, "--colluders 2", {4: (0, 2)}),
        (4, "--quorum 3", {3: (1, 1)}),
    ],
)
def test_a_small_consortium_is_asked_for_its_threshold_and_told_what_each_one_bears(
    desk_of, tmp_path: Path, members: int, options: str, choices: dict[int, tuple[int, int]]
) -> None:
    names = ["bank", "fund", "lessor", "insurer"][:members]
    typed = desk_of(*names)
    asked = typed(draft(*names, options=options))
    asked.refuses("FC-1006", 2, f"of {members} institutions, how many must agree to open a sum is for you to say")
    offered = re.findall(r"--threshold (\d): (\d) may drop out after their uploads, (\d) may collude", asked.stderr)
    assert {int(threshold): (int(lost), int(bad)) for threshold, lost, bad in offered} == choices
    assert not (tmp_path / "plan.toml").exists()
    # Each one is a plan with so many colluders, and with no more.
    for threshold, (_, colluders) in choices.items():
        for extra, code in ((0, 0), (1, 2)):
            others = re.sub(r"--colluders \d", "", options)
            wish = f"{others} --threshold {threshold} --colluders {colluders + extra}"
            made = typed(draft(*names, options=wish).replace("plan.toml", f"{threshold}-{extra}.toml"))
            assert made.code == code, made.stderr
        assert RunPlan.read(tmp_path / f"{threshold}-0.toml").secure.threshold == threshold
    # And no other one is.
    for threshold in set(range(2, members + 1)) - set(choices):
        typed(draft(*names, options=f"{options} --threshold {threshold}")).refuses("FC-1004", 2)


def test_so_many_colluders_that_no_threshold_bears_them_are_told_apart(desk_of) -> None:
    typed = desk_of("bank", "fund", "lessor")
    typed(draft("bank", "fund", "lessor", options="--colluders 2")).refuses("FC-1006", 2, "lower --colluders")


def test_a_consortium_of_five_has_the_usual_threshold(desk_of, tmp_path: Path) -> None:
    names = ("bank", "fund", "lessor", "insurer", "dealer")
    made = desk_of(*names)(draft(*names))
    assert made.code == 0, made.stderr
    assert [line for line in made.stderr.splitlines() if "▲" in line] == [
        " ▲ nobody votes on the model before it is released"  # 500 borrowers each tell too little
    ]
    assert RunPlan.read(tmp_path / "plan.toml").secure.threshold == 4  # two thirds, and one


def test_a_single_institution_hides_behind_nobody(desk, tmp_path: Path) -> None:
    for threshold in ("", "--threshold 2"):
        refused = desk(draft("bank", options=threshold))
        refused.refuses("FC-1006", 2, "the sum over a single institution hides nothing", "--aggregation open")
    desk(draft("bank", options="--aggregation open --threshold 2")).refuses("FC-1006", 2, "--threshold has no use")
    assert not (tmp_path / "plan.toml").exists()
    told = desk(draft("bank", options="--aggregation open"))
    assert told.code == 0
    assert "▲ open aggregation: the coordinator reads the noised message of every institution" in told.stderr
    assert RunPlan.read(tmp_path / "plan.toml").aggregation.kind == "open"


def test_the_choice_of_a_threshold_is_put_in_chinese_as_well(desk_of) -> None:
    typed = desk_of("bank", "fund", "lessor")
    asked = typed(f"--lang zh {draft('bank', 'fund', 'lessor')}")
    assert asked.code == 2
    for part in ("须有几家同意才能打开总和", "--threshold 3:上传之后可失联 0 家,可合谋 1 家", "--threshold 2"):
        assert part in asked.stderr
