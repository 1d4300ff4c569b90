"""A release is a value: canonical bytes, exact cost, and nothing that cannot be charged."""

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.encoding import decode, encode
from fedcredit.errors import FedcreditError, MalformedMessageError, PrivacyPlanError, UnknownMechanismError
from fedcredit.privacy.release import Mechanism, Release


def release(**changes: object) -> Release:
    fields = {
        "release_id": "run-1/3/1/gradient",
        "partition": "train",
        "purpose": "梯度之和, a sum",
        "mechanism": Mechanism.ROUNDED_GAUSSIAN,
        "unit": "borrower",
        "neighbours": "add-or-remove-one",
        "sensitivity_squared": 900,
        "sigma": 120,
        "dimension": 320,
        "test_noise": False,
    }
    return Release(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_cost_is_the_exact_square_of_sensitivity_over_sigma() -> None:
    assert release().mu_squared == Fraction(1, 16)


def test_each_number_drawn_costs_two_to_the_minus_64_of_distance() -> None:
    assert release().sampler_distance == Fraction(320, 2**64)
    assert release(mechanism=Mechanism.NONE, sigma=0).sampler_distance == 0


@pytest.mark.parametrize("changes", [{"mechanism": Mechanism.NONE, "sigma": 0}, {"test_noise": True}])
def test_a_release_that_protects_nobody_has_no_finite_cost(changes: dict[str, object]) -> None:
    unprotected = release(**changes)
    assert not unprotected.protects
    with pytest.raises(PrivacyPlanError, match="unbounded"):
        _ = unprotected.mu_squared


@pytest.mark.parametrize(
    "changes",
    [
        {"release_id": ""},
        {"release_id": "a b"},
        {"release_id": "x" * 201},
        {"partition": "train\n"},
        {"purpose": ""},
        {"purpose": "two\nlines"},
        {"purpose": "e\u0301"},
        {"purpose": "p" * 201},
        {"unit": "institution"},
        {"neighbours": "replace-one"},
        {"sensitivity_squared": 0},
        {"sensitivity_squared": True},
        {"sensitivity_squared": 1.5},
        {"sigma": 7},
        {"sigma": 200_001},
        {"sigma": 120.0},
        {"dimension": 0},
        {"dimension": 2**31 + 1},
        {"test_noise": 1},
        {"mechanism": Mechanism.NONE},
        {"mechanism": Mechanism.NONE, "sigma": 0, "sensitivity_squared": False},
        {"mechanism": Mechanism.NONE, "sigma": 0, "sensitivity_squared": 0.0},
        {"mechanism": Mechanism.NONE, "sigma": 0, "sensitivity_squared": -1},
        {"test_noise": True, "sensitivity_squared": 0},
        {"mechanism": Mechanism.NONE, "sigma": 0, "test_noise": True},
    ],
)
def test_a_description_that_cannot_be_charged_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PrivacyPlanError):
        release(**changes)


def test_a_mechanism_without_accounting_is_refused_by_name() -> None:
    with pytest.raises(UnknownMechanismError, match='"laplace"'):
        release(mechanism="laplace")


@given(
    sensitivity=st.integers(1, 2**96),
    sigma=st.integers(8, 200_000),
    dimension=st.integers(1, 2**31),
    test_noise=st.booleans(),
)
def test_decoding_gives_back_the_same_release(sensitivity: int, sigma: int, dimension: int, test_noise: bool) -> None:
    original = release(sensitivity_squared=sensitivity, sigma=sigma, dimension=dimension, test_noise=test_noise)
    assert Release.from_bytes(original.to_bytes()) == original


def test_no_bound_at_all_can_be_said_where_there_is_no_noise_either() -> None:
    unbounded = release(mechanism=Mechanism.NONE, sigma=0, sensitivity_squared=0)
    assert not unbounded.protects
    assert Release.from_bytes(unbounded.to_bytes()) == unbounded


def test_the_stored_fields_are_the_dataclass_fields_and_a_version() -> None:
    stored = decode(release().to_bytes(), what="release", limit=4096)
    assert isinstance(stored, dict)
    assert set(stored) == {"version", *(field.name for field in dataclasses.fields(Release))}


def test_the_bytes_of_version_1_never_change() -> None:
    by_hand = encode(
        {
            "version": 1,
            "release_id": "run-1/3/1/gradient",
            "partition": "train",
            "purpose": "梯度之和, a sum",
            "mechanism": "rounded-gaussian",
            "unit": "borrower",
            "neighbours": "add-or-remove-one",
            "sensitivity_squared": 900,
            "sigma": 120,
            "dimension": 320,
            "test_noise": False,
        }
    )
    assert release().to_bytes() == by_hand


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2),
        ("version", True),
        ("release_id", 5),
        ("sigma", True),
        ("sigma", 1),
        ("test_noise", 0),
        ("mechanism", 1),
        ("extra", 1),
    ],
)
def test_bytes_with_another_version_type_or_field_do_not_decode(name: str, value: object) -> None:
    stored = dict(decode(release().to_bytes(), what="release", limit=4096))  # type: ignore[arg-type]
    stored[name] = value
    with pytest.raises(MalformedMessageError):
        Release.from_bytes(encode(stored))


def test_bytes_that_are_no_map_do_not_decode() -> None:
    with pytest.raises(MalformedMessageError):
        Release.from_bytes(encode([1]))


def test_a_stored_mechanism_that_this_version_does_not_know_is_refused_as_such() -> None:
    stored = dict(decode(release().to_bytes(), what="release", limit=4096))  # type: ignore[arg-type]
    stored["mechanism"] = "skellam"
    with pytest.raises(UnknownMechanismError, match='"skellam"'):
        Release.from_bytes(encode(stored))


@given(cut=st.integers(0, 200), tail=st.binary(max_size=3))
def test_a_truncated_or_extended_release_does_not_decode(cut: int, tail: bytes) -> None:
    data = release().to_bytes()
    changed = data[: min(cut, len(data))] + tail
    if changed != data:
        with pytest.raises(FedcreditError):
            Release.from_bytes(changed)
