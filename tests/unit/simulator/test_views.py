"""What institutions write down, and what they miss."""

from __future__ import annotations

import numpy as np
import pytest

from fedcredit.simulator.columns import NO_DATE, NOT_APPLICABLE, NOT_COLLECTED
from fedcredit.simulator.labels import HALF_YEAR, observations, observe, outcomes
from fedcredit.simulator.people import CONSUMER
from fedcredit.simulator.repayment import DEFAULT, LATE_2, PREPAID
from fedcredit.simulator.sightings import of_records
from fedcredit.simulator.view_contracts import contract_table
from fedcredit.simulator.view_vehicles import pictures, rv_weekly, value_at


@pytest.fixture(scope="module")
def numbers(planned):
    return planned.world.numbers


def _generator():
    return np.random.default_rng(5)


def test_an_unknown_person_has_no_bureau_cells_and_a_known_one_has_them(block, numbers) -> None:
    records = block.lenders["L1"]
    table, unknown = contract_table(_generator(), numbers, records), records.book.terms.no_hit
    assert 0.1 < unknown.mean() < 0.4
    for name in ("bureau_score", "n_enq_6m", "max_dpd_24m", "n_open", "util_rev"):
        assert (table[name][unknown] == NOT_APPLICABLE).all(), name
        assert (table[name][~unknown] != NOT_APPLICABLE).all(), name
    assert np.array_equal(table["bureau_hit"] == 0, unknown)


def test_each_member_has_its_own_scale_of_the_bureau(block, numbers) -> None:
    for member in ("B1", "B2", "L1"):
        records = block.lenders[member]
        score = contract_table(_generator(), numbers, records)["bureau_score"]
        known = (score > 300) & (score < 900)
        slope, offset = np.polyfit(records.book.people.bureau[known], score[known], 1)
        rules = numbers.members[member]
        assert abs(slope - rules.score_slope) < 0.01
        assert abs(offset - rules.score_offset) < 5


def test_businesses_state_no_income_more_often(block, numbers) -> None:
    records = block.lenders["B3"]
    missing = contract_table(_generator(), numbers, records)["income_m"] == NOT_COLLECTED
    business = records.book.people.kind != CONSUMER
    assert 0.0 < missing[~business].mean() < 0.09
    assert missing[business].mean() > 2 * missing[~business].mean()


def test_guide_values_end_a_week_before_the_observation_and_lie_near_the_true_value(block, numbers, planned) -> None:
    records = block.lenders["A1"].take(np.arange(200))
    seen = of_records(_generator(), numbers, records, np.full(200, NO_DATE))
    table = rv_weekly(_generator(), numbers, planned.economy, seen)
    week = np.asarray(table["week"]).reshape(200, -1)
    assert (week.max(axis=1) + 7 <= seen.day).all()
    assert (week.max(axis=1) + 14 > seen.day).all()
    assert np.array_equal(table["week"], table["guide_vintage"])
    middle = np.asarray(table["rv_mid"]).reshape(200, -1)
    assert np.abs(np.log(middle[:, -1] / seen.vehicles.value)).max() < 0.25
    assert np.allclose(value_at(numbers, planned.economy, seen, seen.day), seen.vehicles.value)


def test_a_default_label_has_its_date_and_a_good_one_has_seen_the_whole_year(block, numbers) -> None:
    records = block.lenders["B1"]
    observed = observe(_generator(), numbers, records)
    application = outcomes(_generator(), numbers, records, observed, flip=0.0)[0]
    y = np.asarray(application["y"])
    known, day = np.asarray(application["known_at"]), np.asarray(application["obs_date"])
    assert (known[y == 0] - day[y == 0] >= 365).all()
    assert (np.asarray(application["event_date"])[y == 1] <= known[y == 1]).all()
    assert (np.asarray(application["event_date"])[y == 0] == NO_DATE).all()
    middling = np.asarray(application["indeterminate"]) == 1
    assert (y[middling] == 0).all()
    states = records.histories.states[records.book.terms.accepted][:, 1:13]
    once_late = ((states >= LATE_2) & (states < DEFAULT)).any(axis=1) & (y == 0)
    assert np.array_equal(middling, once_late)


def test_a_contract_paid_off_within_half_a_year_weighs_less(block, numbers) -> None:
    records = block.lenders["A1"]
    observed = observe(_generator(), numbers, records)
    weight = np.asarray(observations(numbers, records, observed)["weight"])[: len(records)]
    closed = records.histories.states == PREPAID
    month = np.where(closed.any(axis=1), closed.argmax(axis=1), 99)
    assert (weight[month >= 7] == 1).all()
    assert (weight[month <= 4] < 1).all()
    assert (month <= 4).sum() > 20
    assert 0 < weight.min() < 40 / HALF_YEAR


def test_pictures_show_more_on_a_damaged_vehicle(block, numbers) -> None:
    records = block.lenders["B1"].take(np.arange(60))
    seen = of_records(_generator(), numbers, records, np.full(60, NO_DATE))
    whole = seen.replaced(vehicles=seen.vehicles.replaced(damage=np.zeros(60), condition=np.full(60, 3.0)))
    broken = seen.replaced(vehicles=seen.vehicles.replaced(damage=np.full(60, 0.4), condition=np.full(60, -3.0)))
    edges = [np.abs(np.diff(pictures(_generator(), some).astype(float), axis=3)).mean() for some in (whole, broken)]
    assert edges[1] > 1.05 * edges[0]
    images = pictures(_generator(), whole)
    assert (images.shape, images.dtype) == ((60, 3, 64, 64), np.uint8)


def test_a_vehicle_is_taken_after_the_default_of_its_contract_and_not_after_an_extension(block, numbers) -> None:
    for records in block.lenders.values():
        extended = records.replaced(restructures=np.ones(len(records), dtype=bool))
        observed = observe(_generator(), numbers, extended)
        for part in outcomes(_generator(), numbers, extended, observed, flip=0.0)[:2]:
            taken = np.asarray(part["repo_date"]) != NO_DATE
            row = part["contract_id"].codes[taken]
            event = np.asarray(part["event_date"])[taken].astype("datetime64[D]").astype("datetime64[M]")
            months = (event - np.datetime64("2019-01")).astype(int) - extended.book.terms.month[row]
            assert np.array_equal(months, extended.histories.default_month[row])
