from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.enrolment import Invitation, JoinRequest, armoured, read_armoured
from fedcredit.errors import BadSignatureError, ConfigFileMissingError, ConfigValueError, EnrolmentFileError
from fedcredit.parties import InstitutionId, InstitutionType

KEYS = IdentityKeys(signing=b"\1" * 32, kem_classic=b"\1" * 32, kem_post_quantum=b"\1" * 64)
OTHER = IdentityKeys(signing=b"\2" * 32, kem_classic=b"\2" * 32, kem_post_quantum=b"\2" * 64)
INVITATION = Invitation.make(consortium="credit", keys=KEYS, relay="relay:9092", ca_certificate=b"pem")


def join(name: str = "bank-a") -> JoinRequest:
    return JoinRequest.make(
        consortium="credit",
        institution=InstitutionId(name),
        kind=InstitutionType.BANK,
        keys=KEYS,
        supernode=b"ssh-key",
    )


def test_a_join_request_describes_the_member_that_signed_it() -> None:
    member = join().member()
    assert (member.institution, member.kind) == ("bank-a", InstitutionType.BANK)
    assert member.public_identity == KEYS.public.to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"consortium": "other"},
        {"institution": "bank-b"},
        {"kind": "insurer"},
        {"supernode_key": b"another ssh key"},
        {"identity": OTHER.public.to_bytes()},
        {"signature": b""},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_field_of_a_join_request_can_be_changed(change: dict[str, object]) -> None:
    with pytest.raises(BadSignatureError):
        replace(join(), **change).member()  # type: ignore[arg-type]


def test_a_signed_request_for_a_forbidden_name_is_refused() -> None:
    with pytest.raises(ConfigValueError):
        join("coordinator").member()


@pytest.mark.parametrize(
    "change",
    [
        {"consortium": "other"},
        {"relay": "relay.attacker:9092"},
        {"ca_certificate": b"another pem"},
        {"coordinator": OTHER.public.to_bytes()},
        {"signature": b""},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_field_of_an_invitation_can_be_changed(change: dict[str, object]) -> None:
    INVITATION.require_signed()
    with pytest.raises(BadSignatureError):
        replace(INVITATION, **change).require_signed()  # type: ignore[arg-type]


def test_an_invitation_holds_the_coordinators_keys() -> None:
    assert INVITATION.identity == KEYS.public


def test_an_armoured_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "invitation"
    path.write_bytes(armoured(INVITATION))
    assert path.read_bytes().startswith(b"fedcredit invitation 1\n")
    assert read_armoured(Invitation, path, command="ask") == INVITATION


def test_a_file_that_mail_rewrapped_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "request"
    header, _, body = armoured(join()).partition(b"\n")
    path.write_bytes(header + b"\n" + b"\r\n ".join(body.split()) + b"\r\n\r\n")
    assert read_armoured(JoinRequest, path, command="ask") == join()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"fedcredit invitation 2\n" + base64.encodebytes(INVITATION.to_bytes()),
        armoured(join()),
        armoured(INVITATION)[:-10],
        armoured(INVITATION).replace(b"cm", b"@@", 1),
        armoured(INVITATION) + b"!!!!",
        armoured(INVITATION) + b"AAAA",
        b"fedcredit invitation 1\n",
        b"fedcredit invitation 1\n" + b"A" * 70_000,
        b"\xff" * 100,
    ],
    ids=["empty", "version", "kind", "cut", "changed", "not base64", "appended", "no body", "huge", "binary"],
)
def test_a_changed_or_cut_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "invitation"
    path.write_bytes(content)
    with pytest.raises(EnrolmentFileError):
        read_armoured(Invitation, path, command="ask")


def test_a_file_that_is_not_there_tells_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileMissingError) as caught:
        read_armoured(Invitation, tmp_path / "nothing", command="fedcredit node join FILE")
    assert caught.value.fix("en").endswith("fedcredit node join FILE")
