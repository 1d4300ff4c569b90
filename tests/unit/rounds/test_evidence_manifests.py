"""The record of a set-up of keys: whose keys an epoch has is what the members signed, not what the coordinator says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from consortium import COORDINATOR, NAMES, SECURE, Consortium, keys_of, plan_of
from kept_runs import change, copied, driven, places, read, setups, transcripts

from fedcredit.audit.log import EventKind
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.envelope import sign_manifest
from fedcredit.errors import AuditError
from fedcredit.messages import Manifest
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.transcript import SetupRecord
from fedcredit.secagg.epoch import EpochOffer, epoch_id
from fedcredit.secagg.wire import EpochKey


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driven(Consortium.make(tmp_path_factory.mktemp("secure"), plan_of(**SECURE, **{"run/rounds": 1})))


@pytest.fixture
def run(secure: Path, tmp_path: Path) -> Path:
    return copied(secure, tmp_path / "run")


def refused(folder: Path, problem: str) -> None:
    """Fail unless the verification ends at the entry that says that the keys are ready."""
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(folder)
    assert caught.value.fields["index"] == places(read(folder), EventKind.EPOCH_READY)[0]


def new_key(setup: bytes, name: str, keys: IdentityKeys) -> bytes:
    return EpochOffer.make(setup=setup, member=name, keys=keys, entropy=bytes)[1].to_bytes()


def test_an_honest_set_up_holds_and_is_counted(secure: Path) -> None:
    (path,) = setups(secure)
    assert path.name == "00000-setup-001.cbor"
    assert verify_run(secure).epochs == 1
    record = SetupRecord.from_bytes(path.read_bytes())
    assert [EpochKey.from_bytes(key).member for key in record.keys] == sorted(NAMES)
    assert SetupRecord.from_bytes(record.to_bytes()) == record


def exchanged(record: SetupRecord, setup: bytes) -> SetupRecord:
    """Put a key that the coordinator has made in the place of the first member's, with the epoch's name to match."""
    forged = new_key(setup, sorted(NAMES)[0], keys_of(99))
    return replace(record, keys=(forged, *record.keys[1:]))


def dropped(record: SetupRecord, setup: bytes) -> SetupRecord:
    return replace(record, keys=record.keys[1:])


def doubled(record: SetupRecord, setup: bytes) -> SetupRecord:
    return replace(record, keys=(record.keys[0], *record.keys))


def of_another_set_up(record: SetupRecord, setup: bytes) -> SetupRecord:
    honest = new_key(bytes(32), sorted(NAMES)[0], keys_of(10))
    return replace(record, keys=(honest, *record.keys[1:]))


def unsigned(record: SetupRecord, setup: bytes) -> SetupRecord:
    signature = bytearray(record.manifest_signature)
    signature[-1] ^= 1
    return replace(record, manifest_signature=bytes(signature))


@pytest.mark.parametrize("damage", [exchanged, of_another_set_up, doubled, unsigned])
def test_keys_that_the_members_did_not_sign_for_this_set_up_are_found(
    run: Path, damage: Callable[[SetupRecord, bytes], SetupRecord]
) -> None:
    (path,) = setups(run)
    record = SetupRecord.from_bytes(path.read_bytes())
    setup = read(run)[places(read(run), EventKind.EPOCH_READY)[0]][1]["manifest"]
    changed = damage(record, setup)
    path.write_bytes(changed.to_bytes())
    keys = [EpochKey.from_bytes(key) for key in changed.keys]
    change(run, places(read(run), EventKind.EPOCH_READY)[0], {"epoch": epoch_id(setup, keys)})
    refused(run, r"a set-up whose record does not hold: 00000-setup-001\.cbor")


def test_an_epoch_of_fewer_members_than_the_log_says_is_found(run: Path) -> None:
    (path,) = setups(run)
    record = SetupRecord.from_bytes(path.read_bytes())
    path.write_bytes(dropped(record, b"").to_bytes())
    refused(run, "names other keys than")


def test_another_manifest_of_the_set_up_is_found_even_if_the_coordinator_signs_it(run: Path) -> None:
    (path,) = setups(run)
    record = SetupRecord.from_bytes(path.read_bytes())
    other = replace(Manifest.from_bytes(record.manifest), quorum=2)
    path.write_bytes(
        replace(record, manifest=other.to_bytes(), manifest_signature=sign_manifest(other, COORDINATOR)).to_bytes()
    )
    refused(run, "another round's? manifest|manifest")


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x01" * 50], ids=["empty", "nothing", "junk"])
def test_a_record_that_does_not_decode_is_found(run: Path, data: bytes) -> None:
    setups(run)[0].write_bytes(data)
    refused(run, "does not hold")


def test_a_record_of_a_round_is_none_of_a_set_up(run: Path) -> None:
    setups(run)[0].write_bytes(transcripts(run)[0].read_bytes())
    refused(run, "its parts are not the expected ones")


def test_a_missing_record_is_found(run: Path) -> None:
    setups(run)[0].unlink()
    refused(run, "missing")
