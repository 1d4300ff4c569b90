from __future__ import annotations

import dataclasses
import itertools
import re

import pytest

from fedcredit.audit.checkpoint_note import MAX_SIGNATURES, LogCheckpoint, NoteSignature, cosign_checkpoint
from fedcredit.audit.merkle import EMPTY_ROOT, MAX_LOG_SIZE, MerkleTree
from fedcredit.audit.witness import FIRST_SIGHT, WitnessState, advance, require_final
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.encoding import encode
from fedcredit.errors import (
    CheckpointNoteError,
    LogForkError,
    LogProofError,
    LogRolledBackError,
    MalformedMessageError,
    MessageTooLargeError,
    NotFinalError,
)
from fedcredit.parties import InstitutionId

ORIGIN = "fedcredit.example/north/audit"


def grow(leaves: list[bytes]) -> MerkleTree:
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree


ENTRIES = [b"entry %d" % index for index in range(12)]
TREE = grow(ENTRIES)
FORK = grow([*ENTRIES[:4], b"another entry", *ENTRIES[5:]])


def head(size: int, *, tree: MerkleTree = TREE) -> LogCheckpoint:
    return LogCheckpoint(ORIGIN, size, tree.root(size))


def state(size: int) -> WitnessState:
    return WitnessState(size, TREE.root(size))


# --- the decision --------------------------------------------------------------------------------------------


def test_a_witness_follows_a_log_that_grows() -> None:
    seen = FIRST_SIGHT
    for size in (3, 3, 4, 7, 12):
        seen = advance(seen, head(size), TREE.consistency(seen.size, size))
        assert seen == state(size)


@pytest.mark.parametrize("size", [0, 1, 12])
def test_any_head_is_accepted_at_first_sight(size: int) -> None:
    assert advance(FIRST_SIGHT, head(size), ()) == state(size)


def test_a_log_that_lost_its_end_is_refused_with_both_sizes() -> None:
    for known, size in itertools.combinations(range(13), 2):
        with pytest.raises(LogRolledBackError) as error:
            advance(state(size), head(known), TREE.consistency(known, size))
        assert error.value.fields == {"size": known, "known_size": size}
    assert error.value.exit_code == 5


def test_a_fork_at_the_same_size_is_refused_with_both_roots() -> None:
    with pytest.raises(LogForkError) as error:
        advance(state(8), head(8, tree=FORK), ())
    assert error.value.fields == {
        "size": 8,
        "root": FORK.root(8).hex(),
        "known_size": 8,
        "known_root": TREE.root(8).hex(),
    }
    assert error.value.exit_code == 5


def test_a_fork_behind_the_known_head_is_refused_whatever_the_proof() -> None:
    # The fork replaces entry 4: heads of up to four entries are common to both.
    for known in range(1, 12):
        for size in range(known + 1, 13):
            step = head(size, tree=FORK)
            if known <= 4:
                advance(state(known), step, FORK.consistency(known, size))
                continue
            for proof in (FORK.consistency(known, size), TREE.consistency(known, size), ()):
                with pytest.raises(LogForkError):
                    advance(state(known), step, proof)


def test_growth_without_its_proof_is_refused() -> None:
    for proof in ((), TREE.consistency(5, 9)[:-1], (*TREE.consistency(5, 9), EMPTY_ROOT), TREE.consistency(6, 9)):
        with pytest.raises(LogForkError) as error:
            advance(state(5), head(9), proof)
        assert isinstance(error.value.__cause__, LogProofError)


def test_a_proof_where_nothing_is_to_be_proven_is_refused() -> None:
    for known, size in ((0, 5), (5, 5)):
        with pytest.raises(LogProofError, match="it is too long"):
            advance(state(known), head(size), (EMPTY_ROOT,))


# --- the stored state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 12])
def test_a_state_comes_back(size: int) -> None:
    assert WitnessState.from_bytes(state(size).to_bytes()) == state(size)


def test_a_state_is_canonical_cbor() -> None:
    expected = encode({"format": "fedcredit witness state 1", "size": 5, "root": TREE.root(5)})
    assert state(5).to_bytes() == expected
    largest = WitnessState(MAX_LOG_SIZE, TREE.root(5))
    assert WitnessState.from_bytes(largest.to_bytes()) == largest


def test_what_is_not_exactly_one_state_is_refused() -> None:
    fields = {"format": "fedcredit witness state 1", "size": 5, "root": TREE.root(5)}
    for value, expected in (
        (["format", "size", "root"], "its fields are not the expected ones"),
        ({**fields, "more": 1}, "its fields are not the expected ones"),
        ({"size": 5, "root": TREE.root(5)}, "its fields are not the expected ones"),
        ({**fields, "format": "fedcredit witness state 2"}, "its version is unknown"),
        ({**fields, "size": "5"}, "a field has the wrong type"),
        ({**fields, "size": True}, "a field has the wrong type"),
        ({**fields, "root": TREE.root(5).hex()}, "a field has the wrong type"),
        ({**fields, "size": -1}, "a field is out of range"),
        ({**fields, "size": MAX_LOG_SIZE + 1}, "a field is out of range"),
        ({**fields, "root": TREE.root(5)[:-1]}, "a field is out of range"),
        ({**fields, "size": 0}, "an empty log has another root"),
    ):
        with pytest.raises(MalformedMessageError, match=expected):
            WitnessState.from_bytes(encode(value))  # type: ignore[arg-type]


def test_every_truncation_and_extension_of_a_state_is_refused() -> None:
    data = state(5).to_bytes()
    for length in range(len(data)):
        with pytest.raises(MalformedMessageError):
            WitnessState.from_bytes(data[:length])
    with pytest.raises(MalformedMessageError):
        WitnessState.from_bytes(data + b"\x00")
    with pytest.raises(MalformedMessageError):
        WitnessState.from_bytes(bytes(128))
    with pytest.raises(MessageTooLargeError):
        WitnessState.from_bytes(bytes(129))


# --- finality ------------------------------------------------------------------------------------------------

NAMES = [InstitutionId(f"bank-{number}") for number in range(1, 6)]
KEYS = {name: IdentityKeys.generate() for name in NAMES}
MEMBERS: dict[InstitutionId, PublicIdentity] = {name: keys.public for name, keys in KEYS.items()}
FINAL = head(9)
LINES = {name: cosign_checkpoint(FINAL, name=name, keys=keys, time_s=7) for name, keys in KEYS.items()}


def test_a_checkpoint_is_final_exactly_when_enough_members_cosigned_it() -> None:
    for count in range(6):
        for chosen in itertools.combinations(NAMES, count):
            lines = [LINES[name] for name in reversed(chosen)]
            if count >= 3:
                assert require_final(FINAL, lines, MEMBERS, threshold=3) == chosen
                continue
            with pytest.raises(NotFinalError) as error:
                require_final(FINAL, lines, MEMBERS, threshold=3)
            missing = ", ".join(name for name in NAMES if name not in chosen)
            assert error.value.fields == {"size": 9, "valid": count, "needed": 3, "missing": missing}
    assert error.value.exit_code == 5


def test_an_institution_counts_once_however_often_it_cosigned() -> None:
    again = cosign_checkpoint(FINAL, name=NAMES[0], keys=KEYS[NAMES[0]], time_s=8)
    with pytest.raises(NotFinalError) as error:
        require_final(FINAL, [LINES[NAMES[0]], LINES[NAMES[0]], again], MEMBERS, threshold=2)
    assert error.value.fields["valid"] == 1


def test_two_names_with_one_signing_key_count_once() -> None:
    # A cosignature does not name its witness, so the key of bank-1 signs for bank-2 as well.
    shared = dataclasses.replace(MEMBERS[NAMES[1]], signing=MEMBERS[NAMES[0]].signing)
    lines = [LINES[NAMES[0]], cosign_checkpoint(FINAL, name=NAMES[1], keys=KEYS[NAMES[0]], time_s=7)]
    with pytest.raises(NotFinalError) as error:
        require_final(FINAL, lines, {NAMES[0]: MEMBERS[NAMES[0]], NAMES[1]: shared}, threshold=2)
    assert error.value.fields == {"size": 9, "valid": 1, "needed": 2, "missing": "bank-2"}


def test_lines_that_do_not_verify_do_not_count_and_do_not_hinder() -> None:
    first, second, third = NAMES[:3]
    bad = [
        cosign_checkpoint(head(8), name=first, keys=KEYS[first], time_s=7),
        cosign_checkpoint(head(9, tree=FORK), name=first, keys=KEYS[first], time_s=7),
        cosign_checkpoint(FINAL, name=first, keys=KEYS[second], time_s=7),
        dataclasses.replace(LINES[first], name=str(second)),
        dataclasses.replace(LINES[first], signature=LINES[first].signature[:-1]),
        cosign_checkpoint(FINAL, name="stranger", keys=IdentityKeys.generate(), time_s=7),
        NoteSignature(name=ORIGIN, key_id=bytes(4), signature=bytes(64)),
    ]
    with pytest.raises(NotFinalError) as error:
        require_final(FINAL, bad, MEMBERS, threshold=1)
    assert error.value.fields["valid"] == 0
    good = [LINES[first], LINES[third]]
    assert require_final(FINAL, [*bad, *good], MEMBERS, threshold=2) == (first, third)
    assert require_final(FINAL, [*good, *bad], MEMBERS, threshold=2) == (first, third)


@pytest.mark.parametrize("threshold", [-1, 0, 6])
def test_a_threshold_that_anyone_or_nobody_meets_is_a_bug(threshold: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the number of members"):
        require_final(FINAL, LINES.values(), MEMBERS, threshold=threshold)


def test_no_more_lines_are_read_than_a_note_can_have() -> None:
    stranger = NoteSignature(name="stranger", key_id=bytes(4), signature=b"x")
    full = [stranger] * (MAX_SIGNATURES - 1) + [LINES[NAMES[0]]]
    assert require_final(FINAL, full, MEMBERS, threshold=1) == (NAMES[0],)
    with pytest.raises(CheckpointNoteError, match=re.escape("it has more than 200 signatures")):
        require_final(FINAL, itertools.chain(full, itertools.repeat(stranger)), MEMBERS, threshold=1)
