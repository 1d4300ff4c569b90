from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_faults.small_loans import contract_of, modality, number, shifted, spec_of, words
from data_faults.world import ROWS, tables

from fedcredit.errors import FedcreditError, LeakageCanaryError, StrongFeatureError
from fedcredit.features.build import training_rows

NONE = frozenset[str]()


def world(km: np.ndarray, *, sent: np.ndarray | None = None) -> dict[str, pd.DataFrame]:
    """Return the bank with one day of telematics before each decision."""
    made = tables()
    made["observation"]["split"] = np.where(made["observation"]["split"] == "oot", "oot", "dev")
    made["tel_daily"] = pd.DataFrame(
        {
            "vin_tok": made["contract"]["vin_tok"],
            "day": [shifted(day, -5) for day in made["contract"]["decision_date"]],
            "device_event": "none",
            "km": km.round(3),
            "gap_share": 0.1,
        }
    )[np.ones(ROWS, dtype=bool) if sent is None else sent]
    return made


def sing(
    folder: Path, made: dict[str, pd.DataFrame], *columns: str, accepted: frozenset[str] = NONE
) -> FedcreditError | None:
    contract = contract_of(modality("all", *columns))
    try:
        training_rows(spec_of(folder, made), contract, ["all"], place="data", accepted=accepted)
    except (LeakageCanaryError, StrongFeatureError) as error:
        return error
    return None


BAD = tables()["outcome"]["y"].to_numpy() == 1
NOISE = np.random.default_rng(3).standard_normal(ROWS)


def test_an_ordinary_feature_is_silent(tmp_path: Path) -> None:
    assert (
        sing(tmp_path, world(50 + 5 * NOISE + 2 * BAD), number("tel_daily.km.mean_90d"), number("contract.amount"))
        is None
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_feature_that_tells_all_is_a_leak_that_nobody_can_accept(tmp_path: Path, sign: int) -> None:
    made = world(100 + 5 * NOISE + sign * 20 * BAD)
    error = sing(tmp_path, made, number("tel_daily.km.mean_90d"), accepted=frozenset({"FC-5121", "FC-5120"}))
    assert isinstance(error, LeakageCanaryError)
    assert '"tel_daily.km.mean_90d"' in str(error.describe())


def test_a_strong_one_waits_for_a_person(tmp_path: Path) -> None:
    made = world(100 + 5 * NOISE + 7 * BAD)
    assert isinstance(sing(tmp_path / "a", made, number("tel_daily.km.mean_90d")), StrongFeatureError)
    assert sing(tmp_path / "b", made, number("tel_daily.km.mean_90d"), accepted=frozenset({"FC-5121"})) is None


def test_where_a_feature_is_missing_may_sing_as_well(tmp_path: Path) -> None:
    error = sing(tmp_path, world(50 + NOISE, sent=~BAD), number("tel_daily.km.mean_90d"))
    assert isinstance(error, LeakageCanaryError)
    assert "tel_daily.km.mean_90d missing" in str(error.describe())


def test_words_sing_by_the_defaults_that_stand_behind_them(tmp_path: Path) -> None:
    made = tables()
    made["veh"]["fuel"] = np.where(BAD, "BEV", "ICE")
    assert isinstance(sing(tmp_path, made, words("veh.fuel", "BEV", "ICE")), LeakageCanaryError)


def test_with_few_defaults_it_does_not_sing_by_chance(tmp_path: Path) -> None:
    made = world(100 + 5 * NOISE + 20 * BAD)
    made["outcome"]["y"] = np.where(BAD & (np.cumsum(BAD) <= 10), 1, 0)
    assert sing(tmp_path, made, number("tel_daily.km.mean_90d")) is None
