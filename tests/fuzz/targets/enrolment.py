"""Key material from outside: invitations, join requests, public identities, key files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzz.harness import chosen, from_file, one_of, same_bytes
from fuzz.keys import keys_of

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.enrolment import Invitation, JoinRequest, armoured, read_armoured
from fedcredit.parties import InstitutionType, institution_id


def _invitation(path: Path) -> None:
    read_armoured(Invitation, path, command="ask the coordinator").require_signed()


def _join(path: Path) -> None:
    read_armoured(JoinRequest, path, command="ask the institution").member()


def _unsigned(path: Path) -> None:
    # What a signature would otherwise hide from the mutations.
    invitation = Invitation.from_bytes(path.read_bytes())
    invitation.identity.fingerprint()


def _keys(path: Path) -> None:
    # Without a passphrase: with one, every input would cost 128 MB and half a second of scrypt.
    IdentityKeys.load(path, passphrase=None)


TARGET = one_of(
    from_file("invitation.txt", _invitation),
    from_file("join.txt", _join),
    same_bytes(PublicIdentity.from_bytes),
    from_file("keys", _keys),
    from_file("invitation.cbor", _unsigned),
)


def seeds() -> dict[str, bytes]:
    """Return one of each."""
    invitation = Invitation.make(
        consortium="credit", keys=keys_of(1), relay="relay.example:9092", ca_certificate=b"-----BEGIN CERTIFICATE-----"
    )
    join = JoinRequest.make(
        consortium="credit",
        institution=institution_id("bank-a"),
        kind=InstitutionType.BANK,
        keys=keys_of(2),
        supernode=b"ecdsa-sha2-nistp384 AAAA",
        schemas=(1,),
    )
    return {
        "invitation": chosen(0, armoured(invitation)),
        "join-request": chosen(1, armoured(join)),
        "identity": chosen(2, keys_of(2).public.to_bytes()),
        "key-file": chosen(3, _saved(keys_of(2))),
        "unsigned": chosen(4, invitation.to_bytes()),
    }


def _saved(keys: IdentityKeys) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys"
        keys.save(path, passphrase=None)
        return path.read_bytes()
