"""Stress and prices."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.economy import BEV, COMM, ICE, draw_economy
from fedcredit.simulator.parameters import load_world


def test_a_pack_changes_the_script_and_not_the_shocks() -> None:
    base, war = load_world("missing_modality").numbers, load_world("nev_price_war").numbers
    one, other = draw_economy(3, base), draw_economy(3, war)
    assert np.array_equal(one.stress, other.stress)
    steps = [np.diff(economy.log_index, axis=1) for economy in (one, other)]
    moved = np.flatnonzero(np.abs(steps[0] - steps[1]).max(axis=0) > 1e-12) + 1
    assert moved.tolist() == [49, 50, 56, 61]
    # month 50 has the pack's first jump, and the base has none there
    assert np.allclose((steps[1] - steps[0])[:, 49], [-0.05, -0.12, -0.20, 0.0])


def test_the_recession_is_where_the_script_says_and_nowhere_else() -> None:
    base, late = load_world("missing_modality").numbers, load_world("recession_oot").numbers
    added = draw_economy(3, late).national - draw_economy(3, base).national
    assert np.flatnonzero(added < -1e-12).tolist() == list(range(30, 42))
    assert np.flatnonzero(added > 1e-12).tolist() == list(range(50, 64))
    assert 2.3 < added[50:64].max() <= 2.4


def test_stress_has_about_unit_variance_and_regions_share_the_nation() -> None:
    numbers = load_world("missing_modality").numbers
    quiet = [draw_economy(seed, numbers).stress[:, 20] for seed in range(400)]  # before the recession
    assert abs(np.std(quiet) - 1) < 0.1
    assert 0.5 < np.corrcoef([one[0] for one in quiet], [one[1] for one in quiet])[0, 1] < 0.7


def test_a_price_class_follows_its_own_jump() -> None:
    numbers = load_world("missing_modality").numbers
    steps = np.mean([np.diff(draw_economy(seed, numbers).log_index, axis=1)[:, 48] for seed in range(200)], axis=0)
    assert abs(steps[BEV] - (-0.08 - 0.0025)) < 0.004
    assert abs(steps[ICE] - (-0.03 - 0.0005)) < 0.002
    assert abs(steps[COMM] - (-0.0010)) < 0.003
