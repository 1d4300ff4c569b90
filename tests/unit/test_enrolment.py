from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.enrolment import Invitation, JoinRequest, armoured, read_armoured
from fedcredit.errors import BadSignatureError, ConfigFileMissingError, ConfigValueError, EnrolmentFileError
from fedcredit.parties import InstitutionId, InstitutionType


def keys(seed: bytes) -> IdentityKeys:
    return IdentityKeys(
        signing=seed * 32, signing_post_quantum=seed * 32, kem_classic=seed * 32, kem_post_quantum=seed * 64
    )


KEYS, OTHER = keys(b"\1"), keys(b"\2")
INVITATION = Invitation.make(consortium="credit", keys=KEYS, relay="relay:9092", ca_certificate=b"pem")


def join(name: str = "bank-a") -> JoinRequest:
    return JoinRequest.make(
        consortium="credit",
        institution=InstitutionId(name),
        kind=InstitutionType.BANK,
        keys=KEYS,
        supernode=b"ssh-key",
        schemas=(1, 2),
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
        {"signature": bytes(3373)},
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
        {"signature": bytes(3373)},
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
    assert path.read_bytes().startswith(b"fedcredit invitation 2\n")
    assert read_armoured(Invitation, path, command="ask") == INVITATION


@pytest.mark.parametrize("half", [slice(0, 64), slice(64, 3373)], ids=["Ed25519", "ML-DSA-65"])
def test_neither_file_counts_with_one_half_of_its_signature(half: slice) -> None:
    def only(signature: bytes) -> bytes:
        kept = bytearray(len(signature))
        kept[half] = signature[half]
        return bytes(kept)

    request = join()
    with pytest.raises(BadSignatureError):
        replace(INVITATION, signature=only(INVITATION.signature)).require_signed()
    with pytest.raises(BadSignatureError):
        replace(request, signature=only(request.signature)).member()


def test_the_largest_files_that_the_fields_allow_are_read(tmp_path: Path) -> None:
    path = tmp_path / "invitation"
    largest = Invitation.make(consortium="c" * 41, keys=KEYS, relay="r" * 300, ca_certificate=bytes(16 * 1024))
    path.write_bytes(armoured(largest))
    assert path.stat().st_size < 64 * 1024
    read_armoured(Invitation, path, command="ask").require_signed()


def test_a_file_that_mail_rewrapped_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "request"
    request = join()
    header, _, body = armoured(request).partition(b"\n")
    path.write_bytes(header + b"\n" + b"\r\n ".join(body.split()) + b"\r\n\r\n")
    assert read_armoured(JoinRequest, path, command="ask") == request


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"fedcredit invitation 1\n" + base64.encodebytes(INVITATION.to_bytes()),
        armoured(join()),
        armoured(INVITATION)[:-10],
        armoured(INVITATION).replace(b"cm", b"@@", 1),
        armoured(INVITATION) + b"!!!!",
        armoured(INVITATION) + b"AAAA",
        b"fedcredit invitation 2\n",
        b"fedcredit invitation 2\n" + b"A" * 70_000,
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
