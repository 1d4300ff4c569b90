from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fedcredit.errors import StoreCorruptError
from fedcredit.report.record import check_result, check_rounds, read_run
from tests.unit.report import sample

SOMEWHERE = Path("runs/7/result.json")


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    result: dict[str, Any] = sample.result()
    place: Any = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def test_what_the_lab_writes_is_read_back() -> None:
    result = check_result(json.loads(json.dumps(sample.unprotected_result())), path=SOMEWHERE)
    assert result.privacy.epsilon == math.inf
    assert result.rows[0].modalities == ("application", "repayment")
    assert not result.private
    assert check_result(sample.result(), path=SOMEWHERE).private


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("rows", 1, "alone_auc"), 1.2, "rows.1.alone_auc"),
        (("rows", 1, "alone_auc"), "0.7", "rows.1.alone_auc"),
        (("rows", 0, "n"), -1, "rows.0.n"),
        (("rows", 0, "institution"), 7, "rows.0.institution"),
        (("rows",), [], "rows"),
        (("calibration",), [], "calibration"),
        (("summary", "federated_auc"), math.inf, "summary.federated_auc"),
        (("summary", "federated_auc"), True, "summary.federated_auc"),
        (("privacy", "epsilon"), math.nan, "privacy.epsilon"),
        (("privacy", "epsilon"), "infinite", "privacy.epsilon"),
        (("privacy", "epsilon"), -0.1, "privacy.epsilon"),
        (("privacy", "test_noise"), 0, "privacy.test_noise"),
        (("protected",), "yes", "protected"),
        (("provenance",), "guessed", "provenance"),
        (("schema_version",), "2", "schema_version"),
        (("aggregation",), "masked", "aggregation"),
        (("threshold",), 0, "threshold"),
        (("privacy", "noise"), "secret", "privacy.noise"),
        (("privacy", "accountant"), "pld", "privacy.accountant"),
        (("privacy", "honest_shares"), 0, "privacy.honest_shares"),
        (("privacy", "epsilon_alone"), None, "privacy.epsilon_alone"),
        (("privacy", "sampling_rate"), 0.0, "privacy.sampling_rate"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_place(path: tuple[str | int, ...], value: Any, problem: str) -> None:
    with pytest.raises(StoreCorruptError) as caught:
        check_result(changed(*path, value=value), path=SOMEWHERE)
    assert f"it has a wrong {problem} (" in str(caught.value)


def test_a_missing_field_is_named_and_a_value_is_never_quoted() -> None:
    result = changed("title", value=["secret-7181"])
    with pytest.raises(StoreCorruptError) as caught:
        check_result(result, path=SOMEWHERE)
    assert "secret-7181" not in str(caught.value)
    del result["title"]
    with pytest.raises(StoreCorruptError, match="it lacks title"):
        check_result(result, path=SOMEWHERE)


@pytest.mark.parametrize("name", ["epsilon_alone", "epsilon_by_renyi", "honest_shares", "noise", "preparations"])
def test_a_record_that_leaves_out_part_of_the_privacy_claim_is_refused(name: str) -> None:
    result = sample.shared_result()
    del result["privacy"][name]
    with pytest.raises(StoreCorruptError, match=rf"it lacks privacy\.{name}"):
        check_result(result, path=SOMEWHERE)


@pytest.mark.parametrize("name", ["aggregation", "threshold"])
def test_a_record_that_does_not_say_who_could_read_what_is_refused(name: str) -> None:
    result = sample.shared_result()
    del result[name]
    with pytest.raises(StoreCorruptError, match=rf"it lacks {name}"):
        check_result(result, path=SOMEWHERE)


def test_a_field_that_the_report_does_not_show_is_left_alone() -> None:
    check_result(sample.result() | {"later": 1}, path=SOMEWHERE)


def test_no_round_and_rounds_out_of_order_are_refused() -> None:
    first, second = sample.metrics(2)
    with pytest.raises(StoreCorruptError, match="no round"):
        check_rounds([], path=SOMEWHERE)
    for lines in ([second, first], [first, first]):
        with pytest.raises(StoreCorruptError, match="line 2 does not follow"):
            check_rounds(lines, path=SOMEWHERE)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no round"),
        (b"\xff\n", "not UTF-8"),
        (b"[1]\n", "line 1 is not a JSON object"),
        (b'{"round":1}\n', "line 1 lacks auc"),
        (b'{"round":NaN}\n', "line 1 holds a number that JSON does not have"),
        (b"[" * 200_000, "line 1 is not JSON"),
        (b"1" * 5000, "line 1 is not JSON"),
        (json.dumps(sample.metrics()[0]).encode() + b"\n\n", "line 2 is not JSON"),
    ],
)
def test_damaged_metrics_are_named_by_line(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "result.json").write_text(json.dumps(sample.result()))
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(StoreCorruptError, match=problem):
        read_run(tmp_path)


def test_a_damaged_result_and_a_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"schema_version":')
    with pytest.raises(StoreCorruptError, match="it is not JSON"):
        read_run(tmp_path)
    (tmp_path / "result.json").unlink()
    (tmp_path / "result.json").mkdir()
    with pytest.raises(StoreCorruptError, match="it cannot be read"):
        read_run(tmp_path)
