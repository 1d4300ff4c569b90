from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.sealing import SEAL_OVERHEAD, SealContext, open_sealed, seal
from fedcredit.crypto.signatures import sign, sign_lasting, verify, verify_lasting
from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import BadSignatureError, CannotOpenError, MalformedMessageError, MessageTooLargeError

KEYS = IdentityKeys(
    signing=bytes(range(32)),
    signing_post_quantum=bytes(range(32)),
    kem_classic=bytes(range(32)),
    kem_post_quantum=bytes(range(64)),
)
IDENTITY = KEYS.public.to_bytes()
CONTEXT = SealContext(
    consortium="credit",
    run="run-1",
    round_number=3,
    attempt=1,
    message_type="upload",
    sender="bank-1",
    recipient="coordinator",
    manifest_digest=bytes(32),
)
SEALED = seal(b"the update", recipient=KEYS.public, context=CONTEXT)
SIGNATURE = sign(KEYS, tag="upload", body=b"body")
LASTING = sign_lasting(KEYS, tag="upload", body=b"body")
UNHURRIED = settings(deadline=None)  # a busy machine is no finding
NAMES = st.text(alphabet="abc-1", max_size=3)
CONTEXTS = st.builds(
    SealContext,
    consortium=NAMES,
    run=NAMES,
    round_number=st.integers(0, 3),
    attempt=st.integers(0, 3),
    message_type=NAMES,
    sender=NAMES,
    recipient=NAMES,
    manifest_digest=st.binary(min_size=32, max_size=32),
)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@UNHURRIED
@given(st.integers(0, len(SEALED) * 8 - 1))
def test_a_flipped_bit_never_opens(bit: int) -> None:
    with pytest.raises(MalformedMessageError if bit < 16 else CannotOpenError):
        open_sealed(flipped(SEALED, bit), keys=KEYS, context=CONTEXT)


@UNHURRIED
@given(st.binary(min_size=1, max_size=40))
def test_an_extended_seal_never_opens(more: bytes) -> None:
    with pytest.raises(CannotOpenError):
        open_sealed(SEALED + more, keys=KEYS, context=CONTEXT)


@UNHURRIED
@given(st.binary(max_size=SEAL_OVERHEAD + 50))
def test_arbitrary_bytes_never_open(data: bytes) -> None:
    with pytest.raises((MalformedMessageError, CannotOpenError)):
        open_sealed(data, keys=KEYS, context=CONTEXT)


@UNHURRIED
@given(st.binary(max_size=300), CONTEXTS)
def test_opening_undoes_sealing(plaintext: bytes, context: SealContext) -> None:
    sealed = seal(plaintext, recipient=KEYS.public, context=context)
    assert open_sealed(sealed, keys=KEYS, context=context) == plaintext


@UNHURRIED
@given(CONTEXTS, CONTEXTS)
def test_two_contexts_have_the_same_bytes_only_if_they_are_equal(first: SealContext, second: SealContext) -> None:
    assert (first.to_bytes() == second.to_bytes()) == (first == second)


@UNHURRIED
@given(st.integers(0, 64 * 8 - 1))
def test_a_flipped_bit_never_verifies(bit: int) -> None:
    with pytest.raises(BadSignatureError):
        verify(
            KEYS.public,
            tag="upload",
            body=b"body",
            signature=flipped(SIGNATURE, bit),
            signer="bank-1",
            what="upload",
        )


@UNHURRIED
@given(st.integers(0, len(LASTING) * 8 - 1))
def test_a_flipped_bit_of_a_lasting_signature_never_verifies(bit: int) -> None:
    with pytest.raises(BadSignatureError):
        verify_lasting(
            KEYS.public, tag="upload", body=b"body", signature=flipped(LASTING, bit), signer="bank-1", what="upload"
        )


@UNHURRIED
@given(st.integers(0, len(IDENTITY) * 8 - 1))
def test_a_flipped_bit_gives_another_identity_or_none(bit: int) -> None:
    changed = flipped(IDENTITY, bit)
    try:
        identity = PublicIdentity.from_bytes(changed)
    except MalformedMessageError:
        return
    assert identity != KEYS.public
    assert identity.to_bytes() == changed
    assert identity.fingerprint() != KEYS.public.fingerprint()


def test_every_truncation_of_an_identity_is_refused() -> None:
    for length in range(len(IDENTITY)):
        with pytest.raises(MalformedMessageError):
            PublicIdentity.from_bytes(IDENTITY[:length])


@UNHURRIED
@given(st.binary(min_size=1, max_size=900))
def test_an_extended_identity_is_refused(more: bytes) -> None:
    with pytest.raises((MalformedMessageError, MessageTooLargeError)):
        PublicIdentity.from_bytes(IDENTITY + more)


@UNHURRIED
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_any_pair_of_curve_bytes_is_refused_by_name_or_can_be_sealed_to(signing: bytes, classic: bytes) -> None:
    try:
        identity = replace(KEYS.public, signing=signing, kem_classic=classic)
    except MalformedMessageError:
        return
    assert len(seal(b"", recipient=identity, context=CONTEXT)) == SEAL_OVERHEAD
    with pytest.raises(BadSignatureError):
        verify(identity, tag="upload", body=b"body", signature=SIGNATURE, signer="bank-1", what="upload")


@UNHURRIED
@given(st.lists(st.integers(0, 100), max_size=8))
def test_a_keystream_does_not_depend_on_how_it_is_read(counts: list[int]) -> None:
    stream = KeyStream(bytes(32))
    pieces = b"".join(stream.bytes(count).tobytes() for count in counts)
    assert pieces == KeyStream(bytes(32)).bytes(sum(counts)).tobytes()
