"""Fixed keys for seeds and targets: an input must mean the same in every run. They protect nothing."""

from __future__ import annotations

from functools import cache

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.envelope import encode_roster
from fedcredit.parties import InstitutionType, Member, Roster, institution_id


@cache
def keys_of(number: int) -> IdentityKeys:
    """Return the keys that ``number`` stands for; 1 is the coordinator."""
    seed = bytes([number]) * 64
    return IdentityKeys(signing=seed[:32], signing_post_quantum=seed[:32], kem_classic=seed[:32], kem_post_quantum=seed)


def roster_of(*names: str) -> bytes:
    """Return an encoded roster of banks with the keys 2, 3, ..."""
    members = tuple(
        Member(
            institution=institution_id(name),
            kind=InstitutionType.BANK,
            public_identity=keys_of(number).public.to_bytes(),
        )
        for number, name in enumerate(names, start=2)
    )
    return encode_roster(Roster(members))
