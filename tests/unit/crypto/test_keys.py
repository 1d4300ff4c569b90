from __future__ import annotations

import copy
import hashlib
import logging
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity, check_fingerprint
from fedcredit.encoding import Encodable, encode
from fedcredit.errors import AlreadyExistsError, FingerprintMismatchError, KeyFileError, MalformedMessageError

SIGNING_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8032, 7.1 TEST 1
SIGNING = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
CLASSIC_SEED = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
CLASSIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")  # RFC 7748, 6.1 (Bob)
# C2SP wycheproof, mldsa_65_sign_seed_test.json, first group: its seed and the SHA-256 of its public key
POST_QUANTUM_SEED = b"\x2a" * 32
POST_QUANTUM_DIGEST = "b7acce2ddb11f8cc1aa46e2bafac6eacfa2b732ef192bd636ad8d3a56d649c66"
POST_QUANTUM = bytes(1951) + b"\x01"
SEEDS = {
    "signing": SIGNING_SEED,
    "signing_post_quantum": POST_QUANTUM_SEED,
    "kem_classic": CLASSIC_SEED,
    "kem_post_quantum": bytes(range(64)),
}
NAMES = ["signing", "signing_post_quantum", "kem_classic", "kem_post_quantum"]
FORMAT = "fedcredit identity keys 2"
PUBLIC = {
    "signing": SIGNING,
    "signing_post_quantum": POST_QUANTUM,
    "kem_classic": CLASSIC,
    "kem_post_quantum": bytes(1184),
}
ENCODED: dict[str, Encodable] = {"version": 2, **PUBLIC}
P = 2**255 - 19


def identity(**changes: bytes) -> PublicIdentity:
    return PublicIdentity(**(PUBLIC | changes))


def problem_of(path: Path, passphrase: bytes | None = None) -> str:
    with pytest.raises(KeyFileError) as caught:
        IdentityKeys.load(path, passphrase=passphrase)
    assert caught.value.fields["path"] == str(path)
    return str(caught.value.fields["problem"])


def private_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def add(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    """Add on -x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032, 5.1.4, affine)."""
    d = -121665 * pow(121666, -1, P) % P
    (x1, y1), (x2, y2) = first, second
    product = d * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P


def lift(y: int) -> tuple[int, int] | None:
    """Return a point with this y, if there is one (RFC 8032, 5.1.3)."""
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    for x in (pow(square, (P + 3) // 8, P), pow(square, (P + 3) // 8, P) * pow(2, (P - 1) // 4, P) % P):
        if x * x % P == square:
            return x, y
    return None


def small_order_points() -> list[tuple[int, int]]:
    """Find the eight points by multiplying some point with the prime group order: what is left has order 8 at most."""
    order = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 200):
        base = lift(y)
        if base is None:
            continue
        torsion, power = (0, 1), base
        for bit in range(order.bit_length()):
            if order >> bit & 1:
                torsion = add(torsion, power)
            power = add(power, power)
        points = [(0, 1)]
        while (following := add(points[-1], torsion)) != (0, 1):
            points.append(following)
        if len(points) == 8:
            return points
    raise AssertionError("no generator of the torsion found")


def compressed(point: tuple[int, int]) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def test_public_keys_are_those_of_the_published_seeds() -> None:
    keys = IdentityKeys(**SEEDS)
    assert keys.public.signing == SIGNING
    assert keys.public.kem_classic == CLASSIC
    assert len(keys.public.signing_post_quantum) == 1952
    assert hashlib.sha256(keys.public.signing_post_quantum).hexdigest() == POST_QUANTUM_DIGEST
    assert len(keys.public.kem_post_quantum) == 1184


def test_two_generated_identities_differ_in_every_key() -> None:
    first, second = IdentityKeys.generate().public, IdentityKeys.generate().public
    for name in NAMES:
        assert getattr(first, name) != getattr(second, name)


def test_the_encoding_is_canonical_cbor_byte_for_byte() -> None:
    # map(5); keys by length, then bytes: signing, version (7), kem_classic (11), kem_post_quantum (16),
    # signing_post_quantum (20).
    by_hand = (
        b"\xa5\x67signing\x58\x20" + SIGNING
        + b"\x67version\x02"
        + b"\x6bkem_classic\x58\x20" + CLASSIC
        + b"\x70kem_post_quantum\x59\x04\xa0" + bytes(1184)
        + b"\x74signing_post_quantum\x59\x07\xa0" + POST_QUANTUM
    )  # fmt: skip
    assert identity().to_bytes() == by_hand
    assert PublicIdentity.from_bytes(by_hand) == identity()


def test_the_fingerprint_is_the_start_of_the_digest() -> None:
    digits = hashlib.sha256(identity().to_bytes()).digest()[:10].hex().upper()
    expected = f"{digits[0:4]}-{digits[4:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}"
    assert identity().fingerprint() == expected
    # sha256sum over the bytes of the test above
    assert expected == "4394-B075-3B51-13B9-E048"


def test_a_typed_fingerprint_may_differ_in_case_and_spaces_only() -> None:
    right = identity().fingerprint()
    for given in (right, right.lower(), right.replace("-", ""), f"  {right.replace('-', ' - ')}\n"):
        check_fingerprint(given, identity(), "bank-1")
    changed = ("0" if right[0] != "0" else "1") + right[1:]
    for given in (changed, right[:-1], right + "0", "", right[:-4]):
        with pytest.raises(FingerprintMismatchError) as caught:
            check_fingerprint(given, identity(), "bank-1")
        assert caught.value.fields == {"whose": "bank-1", "actual": right}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_key_of_another_length_is_refused(name: str, change: int) -> None:
    whole = getattr(identity(), name)
    with pytest.raises(MalformedMessageError):
        identity(**{name: whole[:-1] if change < 0 else whole + b"\x00"})


def test_an_ml_kem_key_with_a_coefficient_above_the_modulus_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        identity(kem_post_quantum=b"\xff" * 1184)


def signed_by_nobody(key: bytes, message: bytes) -> bytes:
    """Return an ML-DSA-65 signature made without a secret: z = 0, no hints, and the challenge of a high part of 0."""
    representative = hashlib.shake_256(hashlib.shake_256(key).digest(64) + b"\x00\x00" + message).digest(64)
    challenge = hashlib.shake_256(representative + bytes(6 * 256 * 4 // 8)).digest(48)
    pair = (2**19 | 2**19 << 20).to_bytes(5, "little")  # FIPS 204, algorithm 26: each z as 2^19 - z in 20 bits
    return challenge + pair * (5 * 256 // 2) + bytes(55 + 6)


@pytest.mark.parametrize("filling", [b"\x00", b"\xff"])
def test_an_empty_ml_dsa_key_under_which_anyone_can_sign_is_refused(filling: bytes) -> None:
    key = bytes(range(32)) + filling * 1920
    forged = signed_by_nobody(key, b"a manifest")
    MLDSA65PublicKey.from_public_bytes(key).verify(forged, b"a manifest")
    with pytest.raises(MalformedMessageError) as caught:
        identity(signing_post_quantum=key)
    assert "ML-DSA key is empty" in str(caught.value)


def test_a_signing_key_of_small_order_is_refused() -> None:
    points = small_order_points()
    assert len({compressed(point) for point in points}) == 8
    for point in points:
        for sign_bit in (0, 1):
            key = bytearray(compressed(point))
            key[31] = key[31] & 0x7F | sign_bit << 7
            with pytest.raises(MalformedMessageError) as caught:
                identity(signing=bytes(key))
            assert "small order" in str(caught.value)


@pytest.mark.parametrize("y", [P, P + 1, 2**255 - 1])
def test_a_signing_key_that_is_not_reduced_is_refused(y: int) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        identity(signing=y.to_bytes(32, "little"))
    assert "canonical" in str(caught.value)


@pytest.mark.parametrize(
    "u",
    [
        0,
        1,
        P - 1,
        P,
        P + 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    ],
)
def test_an_x25519_point_of_low_order_is_refused(u: int) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        identity(kem_classic=u.to_bytes(32, "little"))
    assert "low order" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"version": 1, "signing": SIGNING, "kem_classic": CLASSIC, "kem_post_quantum": bytes(1184)},
        ENCODED | {"version": 1},
        ENCODED | {"version": 3},
        ENCODED | {"version": True},
        ENCODED | {"version": None},
        {name: key for name, key in ENCODED.items() if name != "signing_post_quantum"},
        ENCODED | {"more": 1},
        ENCODED | {"signing": "text"},
        ENCODED | {"signing_post_quantum": []},
        ENCODED | {"kem_classic": None},
        ENCODED | {"kem_post_quantum": 1},
        [2, SIGNING, POST_QUANTUM, CLASSIC, bytes(1184)],
        None,
    ],
)
def test_another_shape_is_no_identity(value: Encodable) -> None:
    with pytest.raises(MalformedMessageError):
        PublicIdentity.from_bytes(encode(value))


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_saved_keys_come_back(tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "keys"
    keys = IdentityKeys.generate()
    keys.save(path, passphrase=passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    back = IdentityKeys.load(path, passphrase=passphrase)
    assert back.public == keys.public
    assert back.signing_key.sign(b"x") == keys.signing_key.sign(b"x")
    back.public.post_quantum_signing_key().verify(keys.post_quantum_signing_key.sign(b"x"), b"x")


def test_a_passphrase_hides_every_seed(tmp_path: Path) -> None:
    IdentityKeys(**SEEDS).save(tmp_path / "open", passphrase=None)
    IdentityKeys(**SEEDS).save(tmp_path / "hidden", passphrase=b"pass")
    for seed in SEEDS.values():
        assert seed in (tmp_path / "open").read_bytes()
        assert seed not in (tmp_path / "hidden").read_bytes()


def test_a_wrong_or_missing_or_needless_passphrase_is_told_apart(tmp_path: Path) -> None:
    IdentityKeys(**SEEDS).save(tmp_path / "open", passphrase=None)
    IdentityKeys(**SEEDS).save(tmp_path / "hidden", passphrase=b"right")
    assert "does not open with this passphrase" in problem_of(tmp_path / "hidden", b"wrong")
    assert "needs its passphrase" in problem_of(tmp_path / "hidden")
    assert "is not protected" in problem_of(tmp_path / "open", b"any")


def test_an_empty_passphrase_protects_nothing_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        IdentityKeys(**SEEDS).save(tmp_path / "keys", passphrase=b"")
    assert list(tmp_path.iterdir()) == []


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    IdentityKeys(**SEEDS).save(tmp_path / "keys", passphrase=None)
    before = (tmp_path / "keys").read_bytes()
    with pytest.raises(AlreadyExistsError):
        IdentityKeys.generate().save(tmp_path / "keys", passphrase=None)
    assert (tmp_path / "keys").read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o610, 0o602, 0o777])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    IdentityKeys(**SEEDS).save(tmp_path / "keys", passphrase=None)
    (tmp_path / "keys").chmod(mode)
    assert problem_of(tmp_path / "keys") == f"is open to group or others (mode {mode:04o})"


def test_a_missing_file_a_folder_and_a_pipe_are_told_apart(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "none") == "does not exist"
    (tmp_path / "folder").mkdir(mode=0o700)
    assert problem_of(tmp_path / "folder") == "cannot be read (Is a directory)"
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert problem_of(tmp_path / "pipe") == "is not a regular file"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in problem_of(tmp_path / "loop")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
        bytes(5000),
        encode({"format": "fedcredit identity keys 1", **SEEDS}),
        encode({"format": "fedcredit identity keys 3", **SEEDS}),
        encode({"format": FORMAT, **SEEDS, "more": b""}),
        encode({"format": FORMAT, **{name: SEEDS[name] for name in NAMES if name != "signing_post_quantum"}}),
        *(encode({"format": FORMAT, **(SEEDS | {name: SEEDS[name][:-1]})}) for name in NAMES),
        *(encode({"format": FORMAT, **(SEEDS | {name: "x" * len(SEEDS[name])})}) for name in NAMES),
        encode({"format": FORMAT, **SEEDS}) + b"\x00",
        encode([SIGNING_SEED]),
    ],
)
def test_a_malformed_file_is_no_key_file(tmp_path: Path, content: bytes) -> None:
    assert "is not a key file" in problem_of(private_file(tmp_path / "keys", content))


@pytest.mark.parametrize(
    "fields",
    [
        {"salt": bytes(16), "nonce": bytes(12), "sealed": "text"},
        {"salt": bytes(15), "nonce": bytes(12), "sealed": bytes(99)},
        {"salt": bytes(16), "nonce": bytes(13), "sealed": bytes(99)},
    ],
)
def test_a_malformed_protected_file_is_no_key_file(tmp_path: Path, fields: dict[str, bytes | str]) -> None:
    content = encode({"format": FORMAT, **fields})
    assert "is not a key file" in problem_of(private_file(tmp_path / "keys", content), b"pass")


def test_a_protected_file_with_a_changed_salt_does_not_open(tmp_path: Path) -> None:
    IdentityKeys(**SEEDS).save(tmp_path / "keys", passphrase=b"pass")
    content = bytearray((tmp_path / "keys").read_bytes())
    content[content.index(b"salt") + 6] ^= 1
    assert "does not open" in problem_of(private_file(tmp_path / "keys", bytes(content)), b"pass")


def test_no_text_form_shows_key_bytes(caplog: pytest.LogCaptureFixture) -> None:
    keys = IdentityKeys(**SEEDS)
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("made %s and %r", keys, keys)
    shown = caplog.text + repr(keys) + str(keys) + f"{keys}" + repr(vars(keys))
    for seed in SEEDS.values():
        assert seed.hex() not in shown.lower()
        assert repr(seed) not in shown
    assert repr(keys) == f"IdentityKeys({keys.public.fingerprint()})"


def test_keys_cannot_be_pickled_or_copied_by_accident() -> None:
    with pytest.raises(TypeError):
        copy.copy(IdentityKeys(**SEEDS))
