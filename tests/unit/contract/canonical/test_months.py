"""Ends of months, by a calendar on paper."""

from __future__ import annotations

import numpy as np

from fedcredit.contract.canonical.months import month_end


def test_the_end_of_a_month_is_its_last_day_in_leap_years_and_before_1970_too() -> None:
    days = ["2024-02-01", "2023-02-28", "2025-12-31", "1969-12-30", "1900-02-01"]
    ends = ["2024-02-29", "2023-02-28", "2025-12-31", "1969-12-31", "1900-02-28"]
    given = np.array(days, dtype="datetime64[D]").astype(np.float64)
    assert month_end(given).astype("datetime64[D]").astype(str).tolist() == ends


def test_no_day_has_no_month() -> None:
    found = month_end(np.array([np.nan, 0.0]))
    assert np.isnan(found[0])
    assert found[1] == 30.0  # 31 January 1970
