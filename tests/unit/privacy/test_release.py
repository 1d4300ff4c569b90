"""A release is a value: canonical bytes, exact cost, and nothing that cannot be charged."""

import dataclasses
from fractions import Fraction
from typing import Any

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
        "honest_shares": 1,
        "sampled_per_million": 1_000_000,
        "test_noise": False,
    }
    return Release(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_claim_rests_on_the_variance_of_all_honest_shares_together() -> None:
    assert release().variance == 120**2
    assert release(honest_shares=4).variance == 4 * 120**2


def test_a_message_that_is_read_alone_has_one_share_and_is_otherwise_the_same_release() -> None:
    shared = release(honest_shares=5)
    assert shared.alone() == release()
    assert release().alone() == release()


@pytest.mark.parametrize(
    ("changes", "gaussian"),
    [
        ({}, True),
        ({"honest_shares": 5}, True),
        ({"sampled_per_million": 999_999}, False),
        ({"mechanism": Mechanism.SKELLAM}, False),
        ({"mechanism": Mechanism.DISCRETE_GAUSSIAN}, False),
        ({"mechanism": Mechanism.NONE, "sigma": 0}, False),
    ],
)
def test_only_rounded_gaussian_noise_on_everybody_is_priced_exactly(changes: dict[str, object], gaussian: bool) -> None:
    assert release(**changes).is_gaussian is gaussian


def test_each_number_drawn_by_each_honest_share_costs_two_to_the_minus_66_of_distance() -> None:
    assert release().sampler_distance == Fraction(320, 2**66)
    assert release(honest_shares=7).sampler_distance == Fraction(7 * 320, 2**66)
    assert release(mechanism=Mechanism.NONE, sigma=0).sampler_distance == 0


@pytest.mark.parametrize("changes", [{"mechanism": Mechanism.NONE, "sigma": 0}, {"test_noise": True}])
def test_without_noise_or_with_noise_that_repeats_nobody_is_protected(changes: dict[str, object]) -> None:
    assert release().protects
    assert not release(**changes).protects


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
        {"honest_shares": 0},
        {"honest_shares": True},
        {"honest_shares": 2.0},
        {"honest_shares": 100_001},
        {"sampled_per_million": 0},
        {"sampled_per_million": 1_000_001},
        {"sampled_per_million": True},
        {"sampled_per_million": 0.5},
        {"sampled_per_million": 500_000, "mechanism": Mechanism.SKELLAM},
        {"sampled_per_million": 500_000, "mechanism": Mechanism.DISCRETE_GAUSSIAN},
        {"mechanism": Mechanism.NONE, "sigma": 0, "honest_shares": 2},
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
    shares=st.integers(1, 100_000),
    sampled=st.integers(1, 1_000_000),
    test_noise=st.booleans(),
)
def test_decoding_gives_back_the_same_release(
    sensitivity: int, sigma: int, dimension: int, shares: int, sampled: int, test_noise: bool
) -> None:
    original = release(
        sensitivity_squared=sensitivity,
        sigma=sigma,
        dimension=dimension,
        honest_shares=shares,
        sampled_per_million=sampled,
        test_noise=test_noise,
    )
    assert Release.from_bytes(original.to_bytes()) == original


@pytest.mark.parametrize("mechanism", [Mechanism.SKELLAM, Mechanism.DISCRETE_GAUSSIAN])
def test_every_mechanism_survives_being_stored(mechanism: Mechanism) -> None:
    stored = Release.from_bytes(release(mechanism=mechanism, honest_shares=3).to_bytes())
    assert (stored.mechanism, stored.honest_shares) == (mechanism, 3)


def test_no_bound_at_all_can_be_said_where_there_is_no_noise_either() -> None:
    unbounded = release(mechanism=Mechanism.NONE, sigma=0, sensitivity_squared=0)
    assert not unbounded.protects
    assert Release.from_bytes(unbounded.to_bytes()) == unbounded


def test_the_stored_fields_are_the_dataclass_fields_and_a_version() -> None:
    stored = decode(release().to_bytes(), what="release", limit=4096)
    assert isinstance(stored, dict)
    assert set(stored) == {"version", *(field.name for field in dataclasses.fields(Release))}


VERSION_1: dict[str, Any] = {
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
VERSION_2: dict[str, Any] = {**VERSION_1, "version": 2, "honest_shares": 3, "sampled_per_million": 1_000_000}


def test_the_bytes_of_version_2_never_change() -> None:
    assert release(honest_shares=3).to_bytes() == encode(VERSION_2)
    assert Release.from_bytes(encode(VERSION_2)) == release(honest_shares=3)


def test_a_release_of_version_1_is_read_as_one_share_on_full_batches() -> None:
    # Old ledgers hold these bytes, and what they mean never changes.
    old = Release.from_bytes(encode(VERSION_1))
    assert old == release()
    assert (old.honest_shares, old.sampled_per_million) == (1, 1_000_000)


@pytest.mark.parametrize(
    "stored",
    [
        {**VERSION_1, "honest_shares": 1},
        {**VERSION_1, "sampled_per_million": 1_000_000},
        {**VERSION_2, "version": 1},
        {**VERSION_1, "version": 2},
        {name: value for name, value in VERSION_2.items() if name != "honest_shares"},
        {name: value for name, value in VERSION_2.items() if name != "version"},
    ],
)
def test_the_fields_of_one_version_do_not_decode_as_another(stored: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessageError):
        Release.from_bytes(encode(stored))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 0),
        ("version", 3),
        ("version", True),
        ("honest_shares", True),
        ("honest_shares", 0),
        ("sampled_per_million", "1"),
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
    stored["mechanism"] = "laplace"
    with pytest.raises(UnknownMechanismError, match='"laplace"'):
        Release.from_bytes(encode(stored))


@given(cut=st.integers(0, 200), tail=st.binary(max_size=3))
def test_a_truncated_or_extended_release_does_not_decode(cut: int, tail: bytes) -> None:
    data = release().to_bytes()
    changed = data[: min(cut, len(data))] + tail
    if changed != data:
        with pytest.raises(FedcreditError):
            Release.from_bytes(changed)
