from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.report import wording
from fedcredit.report.record import Privacy, check_result
from tests.unit.report import sample


@given(st.floats(min_value=0, max_value=1e6))
def test_a_cost_is_never_stated_below_what_it_is(value: float) -> None:
    # By more than the billionth that a float sum may be off.
    assert float(wording.cost(value)) >= value - 1e-9
    assert float(wording.cost(value)) < value + 0.0101


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.cost(0.1 + 0.2), "0.30"),
        (wording.cost(2.9912), "3.00"),
        (wording.cost(2.991), "3.00"),
        (wording.cost(math.inf), "∞"),
        (wording.cost(None), "–"),
        (wording.percent(0.0553), "5.6 %"),
        (wording.percent(1.0), "100.0 %"),
        (wording.rate(0.7716), "0.772"),
        (wording.rate(-0.1), "−0.100"),
        (wording.rate(None), "–"),
        (wording.rate(math.inf), "∞"),
        (wording.decimals2(1.034), "1.03"),
        (wording.decimals2(None), "–"),
        (wording.change(None), "–"),
        (wording.change(0.0124), "+0.012"),
        (wording.change(-0.0124), "−0.012"),
        (wording.change(-0.0001), "0.000"),
        (wording.small(1e-5), "10⁻⁵"),
        (wording.small(1.25e-7), "1.2 × 10⁻⁷"),
        (wording.small(3e-6), "3 × 10⁻⁶"),
        (wording.count(1_203_400), "1,203,400"),
        (wording.size(0), "0 B"),
        (wording.size(999), "999 B"),
        (wording.size(1_000), "1.0 kB"),
        (wording.size(184_320), "184 kB"),
        (wording.size(999_950), "1.0 MB"),
        (wording.size(5_000_000_000_000), "5000 GB"),
        (wording.duration(1.44), "1.4 s"),
        (wording.duration(31.2), "31 s"),
        (wording.duration(600), "10 min"),
    ],
)
def test_numbers_have_sensible_digits(text: str, expected: str) -> None:
    assert text == expected


def test_an_interval_that_holds_zero_counts_for_neither_side() -> None:
    rows = check_result(sample.result(institutions=8), path=Path("result.json")).rows
    # Gains fall from +0.022 to -0.006 in steps of 0.004, all with half width 0.009: four intervals lie above zero.
    assert wording.verdict(rows) == (
        "On the common test records the shared model is better than the institution’s own best model for 4 of 8 "
        "institutions, without a clear difference for 4. On each institution’s own test records it is better for 8, "
        "worse for 0 and without a clear difference for 0 of 8."
    )
    worse = rows[0].model_copy(
        update={
            "gain": -0.02,
            "gain_low": -0.03,
            "gain_high": -0.01,
            "own_gain": None,
            "own_gain_low": None,
            "own_gain_high": None,
            "own_n": 0,
        }
    )
    assert wording.verdict([worse]).endswith("for 0 of 1 institutions, worse for 1.")


def privacy(**changes: object) -> Privacy:
    value = sample.result()
    value["privacy"] |= changes
    return check_result(value, path=Path("result.json")).privacy


def test_a_sampled_step_and_a_single_histogram_are_said_as_they_are() -> None:
    assert wording.steps(privacy(sampling_rate=0.0625, preparations=1)) == (
        "20 steps · 1 histogram before the first step · a random 6.3 % of borrowers a step"
    )


def test_an_accountant_counts_once() -> None:
    assert wording.second_accountant(privacy()) == "3.22 (Rényi DP)"
    assert wording.second_accountant(privacy(accountant="rdp")).startswith("– ")
    assert wording.second_accountant(privacy(accountant="none")) == "–"


def test_no_mechanism_has_no_noise_to_describe() -> None:
    assert wording.noise(privacy(mechanism="none")) == "none"


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("network", {"width": 8, "trees": 0}, "an encoder of 8 units for each modality"),
        ("logistic", {"trees": 0}, "The model is of the kind logistic."),
        ("trees", {"depth": 3, "trees_per_round": 10, "trees": 1000}, "1,000 boosted trees of depth 3, 10 added"),
    ],
)
def test_every_kind_of_model_has_its_sentence(kind: str, settings: dict[str, int], said: str) -> None:
    value = sample.result() | {"model": kind, "model_settings": settings}
    assert said in wording.model(check_result(value, path=Path("result.json")))


OPEN, SECURE = {"aggregation": "open", "threshold": 1}, {"aggregation": "secure", "threshold": 4}


@pytest.mark.parametrize(
    ("made", "said", "not_said"),
    [
        (sample.result() | OPEN, "saw each institution’s noised update, not only the sum", "sums only"),
        (sample.result() | OPEN, "so the stated ε holds against the coordinator too.", "sums only"),
        (sample.unprotected_result() | OPEN, "saw each institution’s update without protection.", "noised"),
        (sample.result() | SECURE, "after at least 4 institutions had agreed whose updates were in it.", "open aggr"),
        (sample.result() | SECURE, "private on its own as well, so ε does not rest on that.", "open aggr"),
        (sample.unprotected_result() | SECURE, "In this run a sum carries no noise that protects anybody.", "its own"),
        (sample.shared_result(), "5.77 would hold for a message read alone.", "its own"),
    ],
)
def test_whom_one_has_to_trust_follows_from_the_aggregation(made: dict[str, Any], said: str, not_said: str) -> None:
    alone = wording.trust(check_result(made, path=Path("result.json")))
    assert said in alone
    assert not_said not in alone
    relayed = wording.trust(check_result(made | {"runtime": "flower"}, path=Path("result.json")))
    assert relayed == f"{alone} The relay sees sizes and times only."


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = "import sys, fedcredit.report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_report_says_whether_the_members_released_the_model_and_by_which_rule() -> None:
    value = {**sample.result(), "colluders": 1}
    names = list(value["votes"])
    value["votes"] = {name: ["no", "below-floor"] for name in names[:1]} | {
        name: ["yes", "better-than-chance"] for name in names[1:]
    }
    told = wording.votes(check_result({**value, "verdict": "not-released"}, path=Path("result.json")))
    assert told.startswith(f"The members kept the model back: {len(names) - 1} said yes, 1 no, 0 abstained;")
    assert "more than 1 yes, and more yes than no or unheard" in told
    unvoted = {**value, "verdict": "not-voted", "vote_floor": None, "votes": {}}
    assert wording.votes(check_result(unvoted, path=Path("result.json"))).startswith("Nobody voted")


def test_the_report_says_what_one_institution_could_have_done() -> None:
    bounded = check_result(sample.result(), path=Path("result.json"))
    assert "its share of the last one" in wording.containment(bounded)
    open_ = check_result({**sample.result(), "update_bound": "none"}, path=Path("result.json"))
    assert wording.containment(open_).startswith("No bound on updates")
