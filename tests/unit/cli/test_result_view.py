"""What a demo says about its privacy at the end."""

from __future__ import annotations

from typing import Any

import pytest

from fedcredit.cli.result_view import require_released, tell_result, tell_verdict
from fedcredit.errors import ModelNotReleasedError
from tests.unit.report import sample


def told(result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    tell_result({**result, "privacy": {"protects": True, **result["privacy"]}})
    return " ".join(capsys.readouterr().err.split())


def test_local_noise_is_a_claim_about_every_message(capsys: pytest.CaptureFixture[str]) -> None:
    said = told(sample.result(), capsys)
    assert "every message is (3, 1e-05)-differentially private on its own" in said
    assert "finds at most 5.5% of the borrowers" in said


@pytest.mark.parametrize(
    ("made", "language", "said"),
    [
        (sample.result(), "en", "OPEN aggregation: the coordinator read the message of every institution"),
        (sample.result(), "zh", "开放聚合:协调方读取了每家机构的消息"),
        (sample.shared_result(), "en", "read sums only, each once 3 institutions had agreed to open it"),
        (sample.shared_result(), "zh", "协调方只读取总和,每个总和均在 3 家机构同意之后打开"),
    ],
)
def test_who_read_what_is_told_with_the_claim(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, made: dict[str, Any], language: str, said: str
) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", language)
    assert said in told(made, capsys)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["the sums are (3, 1e-05)-differentially private", "a message alone faces epsilon 5.76"]),
        ("zh", ["各机构消息之和满足 (3, 1e-05)-差分隐私", "epsilon 为 5.76"]),
    ],
)
def test_shared_noise_is_never_told_with_one_figure_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: str, words: list[str]
) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", language)
    said = told(sample.shared_result(), capsys)
    for word in words:
        assert word in said
    assert "differentially private on its own" not in said
    assert said.count("2.991") == said.count("5.740") == 4  # by each ledger


def closing(verdict: str, **votes: str) -> dict[str, Any]:
    reasons = {"yes": "better-than-chance", "no": "below-floor", "abstain": "cannot-tell"}
    return {"verdict": verdict, "colluders": 0, "votes": {name: [vote, reasons[vote]] for name, vote in votes.items()}}


def test_what_every_member_said_stands_beside_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    tell_verdict(closing("not-released", bank="yes", fund="no", lessor="abstain"))
    told = " ".join(capsys.readouterr().err.split())
    assert "NOT RELEASED: the members kept the model back" in told
    assert "bank yes (better-than-chance), fund no (below-floor), lessor abstain (cannot-tell)" in told
    tell_verdict(closing("released", bank="yes"))
    assert "the members released the model: bank yes" in " ".join(capsys.readouterr().err.split())
    tell_verdict(closing("not-voted"))
    assert "nobody voted on the model" in " ".join(capsys.readouterr().err.split())


def test_a_study_whose_model_was_kept_back_ends_with_its_own_exit_code() -> None:
    require_released(closing("released", bank="yes"))
    require_released(closing("not-voted"))
    with pytest.raises(ModelNotReleasedError) as caught:
        require_released(closing("not-released", bank="yes", fund="no"))
    assert caught.value.fields == {"yes": 1, "no": 1, "abstain": 0, "colluders": 0}
    assert (caught.value.code, caught.value.exit_code) == ("FC-6006", 8)
