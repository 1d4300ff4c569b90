from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.encoding import digest
from fedcredit.errors import ConfigValueError, FedcreditError, MalformedMessageError
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster, institution_id


def member(name: str, identity: bytes = b"key", kind: InstitutionType = InstitutionType.BANK) -> Member:
    return Member(institution=InstitutionId(name), kind=kind, public_identity=identity)


@pytest.mark.parametrize("name", ["a", "bank-1", "a" * 63])
def test_an_allowed_name_is_returned_as_it_is(name: str) -> None:
    assert institution_id(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "1bank", "-bank", "bank_1", "bank 1", "bänk", "a" * 64, "coordinator", "bank\n", "../bank"]
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigValueError):
        institution_id(name)
    with pytest.raises(MalformedMessageError):
        Member.from_value({"institution": name, "kind": "bank", "identity": b"key"})


def test_a_member_survives_its_encoding() -> None:
    bank = member("bank-1", kind=InstitutionType.INSURER)
    assert Member.from_value(bank.to_value()) == bank


@pytest.mark.parametrize("kind", ["", "BANK", 1, None, b"bank", ["bank"], {"bank": 1}, True])
def test_a_kind_that_is_not_one_of_ours_is_refused_whatever_its_type(kind: object) -> None:
    with pytest.raises(MalformedMessageError):
        Member.from_value({"institution": "bank", "kind": kind, "identity": b"key"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"institution": "bank", "kind": "bank"},
        {"institution": "bank", "kind": "bank", "identity": b"k", "extra": 1},
        {"institution": b"bank", "kind": "bank", "identity": b"k"},
        {"institution": "bank", "kind": "bank", "identity": "k"},
    ],
    ids=repr,
)
def test_a_member_has_exactly_three_fields_of_the_right_types(value: object) -> None:
    with pytest.raises(MalformedMessageError):
        Member.from_value(value)  # type: ignore[arg-type]


@given(st.permutations(["bank-a", "bank-b", "fund-c", "insurer-d"]))
def test_a_roster_is_the_same_in_whatever_order_its_members_were_given(names: list[str]) -> None:
    roster = Roster(tuple(member(name, name.encode()) for name in names))
    assert [item.institution for item in roster] == sorted(names)
    assert roster.digest() == digest(
        [{"institution": name, "kind": "bank", "identity": name.encode()} for name in sorted(names)]
    )


def test_every_field_of_every_member_is_in_the_digest() -> None:
    base = Roster((member("a", b"1"), member("b", b"2")))
    others = [
        Roster((member("a", b"1"),)),
        Roster((member("a", b"1"), member("c", b"2"))),
        Roster((member("a", b"1"), member("b", b"3"))),
        Roster((member("a", b"1"), member("b", b"2", InstitutionType.LESSOR))),
        Roster((member("a", b"2"), member("b", b"1"))),
    ]
    assert len({roster.digest() for roster in (base, *others)}) == 1 + len(others)


def test_nobody_is_listed_twice_and_no_two_share_keys() -> None:
    with pytest.raises(MalformedMessageError, match="twice"):
        Roster((member("a", b"1"), member("a", b"2")))
    with pytest.raises(MalformedMessageError, match="share keys"):
        Roster((member("a", b"1"), member("b", b"1")))


def test_a_member_is_found_by_name_only() -> None:
    roster = Roster((member("a", b"1"), member("b", b"2")))
    assert roster.find(InstitutionId("b")) == member("b", b"2")
    assert roster.find(InstitutionId("c")) is None
    assert len(roster) == 2


@pytest.mark.parametrize("value", [None, {}, "x", 1, [1], [[]], [None]], ids=repr)
def test_a_roster_is_a_list_of_members(value: object) -> None:
    with pytest.raises(MalformedMessageError):
        Roster.from_value(value)  # type: ignore[arg-type]


def test_a_roster_is_encoded_in_the_order_of_the_names_and_in_no_other() -> None:
    value = Roster((member("a", b"1"), member("b", b"2"), member("c", b"3"))).to_value()
    assert Roster.from_value(value).to_value() == value
    for other in (value[::-1], [value[1], value[0], value[2]]):
        with pytest.raises(MalformedMessageError, match="order"):
            Roster.from_value(other)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.just("bank"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["institution", "kind", "identity", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(JUNK)
def test_only_our_own_errors_escape_from_junk(value: object) -> None:
    try:
        roster = Roster.from_value(value)  # type: ignore[arg-type]
    except FedcreditError:
        return
    assert Roster.from_value(roster.to_value()) == roster
