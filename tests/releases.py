"""A release to charge, as tests of ledgers and of noise need it."""

from __future__ import annotations

from typing import Any

from fedcredit.privacy.release import Mechanism, Release


def release(name: str = "run/1/1/train", **changes: Any) -> Release:
    """Return a release of mu 0.1: a training sum with rounded Gaussian noise of one whole share."""
    fields: dict[str, Any] = {
        "release_id": name,
        "partition": "train",
        "purpose": "a sum",
        "mechanism": Mechanism.ROUNDED_GAUSSIAN,
        "unit": "borrower",
        "neighbours": "add-or-remove-one",
        "sensitivity_squared": 100,
        "sigma": 100,
        "dimension": 50,
        "honest_shares": 1,
        "sampled_per_million": 1_000_000,
        "test_noise": False,
    }
    return Release(**{**fields, **changes})
