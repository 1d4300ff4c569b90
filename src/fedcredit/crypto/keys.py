"""An institution's long-lived identity: keys that sign and one hybrid key that others seal to.

Suite S1 (PROTOCOL.md 2.1): Ed25519 (RFC 8032) signs messages, together with ML-DSA-65 (FIPS 204) what lasts longer than
a round; X25519 (RFC 7748) and ML-KEM-768 (FIPS 203) together seal. Somebody must break both of a pair to forge or open.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import FingerprintMismatchError, KeyFileError, MalformedMessageError, MessageTooLargeError
from fedcredit.store.files import write_new

SIGNING_LENGTH: Final = 32
SIGNING_POST_QUANTUM_LENGTH: Final = 1952
KEM_CLASSIC_LENGTH: Final = 32
KEM_POST_QUANTUM_LENGTH: Final = 1184
FINGERPRINT_BITS: Final = 80

_IDENTITY_VERSION: Final = 2
_IDENTITY_LIMIT: Final = 4_096
_KEY_NAMES: Final = ("signing", "signing_post_quantum", "kem_classic", "kem_post_quantum")
_FILE_LIMIT: Final = 4_096
_FILE_FORMAT: Final = "fedcredit identity keys 2"
_SEED_LENGTHS: Final = {"signing": 32, "signing_post_quantum": 32, "kem_classic": 32, "kem_post_quantum": 64}
_SALT_LENGTH: Final = 16
_NONCE_LENGTH: Final = 12
# Fixed by the file format, so that a forged file cannot ask for gigabytes: 128 MiB, about 0.4 s.
_SCRYPT_N: Final = 2**17
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 1
_FIELD_PRIME: Final = 2**255 - 19
_MLDSA_MATRIX_SEED: Final = 32
_EDWARDS_D: Final = -121665 * pow(121666, -1, _FIELD_PRIME) % _FIELD_PRIME


@dataclass(frozen=True, kw_only=True)
class PublicIdentity:
    """The public half of an identity; one that exists is well-formed.

    Raises:
        MalformedMessageError: a length is wrong, a key is no key of its kind, or it is of small order or empty
            (everyone could sign or open for it).
    """

    signing: bytes
    """Ed25519 public key, 32 bytes."""
    signing_post_quantum: bytes
    """ML-DSA-65 public key, 1,952 bytes."""
    kem_classic: bytes
    """X25519 public key, 32 bytes."""
    kem_post_quantum: bytes
    """ML-KEM-768 encapsulation key, 1,184 bytes."""

    def __post_init__(self) -> None:
        _check_length("signing key", self.signing, SIGNING_LENGTH)
        _check_length("ML-DSA key", self.signing_post_quantum, SIGNING_POST_QUANTUM_LENGTH)
        _check_length("X25519 key", self.kem_classic, KEM_CLASSIC_LENGTH)
        _check_length("ML-KEM key", self.kem_post_quantum, KEM_POST_QUANTUM_LENGTH)
        _refuse_small_order_signing_key(self.signing)
        _refuse_empty_post_quantum_signing_key(self.signing_post_quantum)
        _refuse_low_order_kem_key(self.kem_classic)
        try:
            MLKEM768PublicKey.from_public_bytes(self.kem_post_quantum)
        except ValueError as error:
            raise _malformed("its ML-KEM key is not valid") from error

    def to_bytes(self) -> bytes:
        """Return the one canonical encoding."""
        return encode({"version": _IDENTITY_VERSION, **{name: getattr(self, name) for name in _KEY_NAMES}})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode exactly one public identity.

        Raises:
            MalformedMessageError: anything but the canonical encoding of a well-formed identity.
            MessageTooLargeError: longer than any identity.
        """
        value = decode(data, what="public identity", limit=_IDENTITY_LIMIT)
        if not isinstance(value, Mapping) or set(value) != {"version", *_KEY_NAMES}:
            raise _malformed("its fields are not the expected ones")
        # True == 1 in Python, but it is another encoding.
        if value["version"] is True or value["version"] != _IDENTITY_VERSION:
            raise _malformed("its version is unknown")
        keys = {name: key for name in _KEY_NAMES if isinstance(key := value[name], bytes)}
        if len(keys) != len(_KEY_NAMES):
            raise _malformed("a key is not a byte string")
        return cls(**keys)

    def fingerprint(self) -> str:
        """Return the first 80 bits of SHA-256 over ``to_bytes()`` for reading aloud: ``4F7A-19C2-E0B8-66D1-02AB``."""
        return fingerprint_of(hashlib.sha256(self.to_bytes()).hexdigest())

    def post_quantum_signing_key(self) -> MLDSA65PublicKey:
        """Return the ML-DSA-65 key that lasting signatures are checked with."""
        return MLDSA65PublicKey.from_public_bytes(self.signing_post_quantum)

    def kem_public_key(self) -> MLKEM768X25519PublicKey:
        """Return the hybrid key to seal to."""
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.kem_post_quantum),
            X25519PublicKey.from_public_bytes(self.kem_classic),
        )


def fingerprint_of(identity_digest: str) -> str:
    """Return the fingerprint that people compare, from the hexadecimal digest of an identity, as a plan names it."""
    digits = identity_digest[: FINGERPRINT_BITS // 4].upper()
    return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def check_fingerprint(given: str, identity: PublicIdentity, whose: str) -> None:
    """Compare what a person typed with the key at hand; case, spaces and hyphens do not matter.

    Raises:
        FingerprintMismatchError: it is another fingerprint, or only a part of one.
    """
    actual = identity.fingerprint()
    if _digits(given) != _digits(actual):
        raise FingerprintMismatchError(whose=whose, actual=actual)


class IdentityKeys:
    """The private half of an identity. Neither ``repr`` nor ``str`` nor an error shows key bytes."""

    def __init__(
        self, *, signing: bytes, signing_post_quantum: bytes, kem_classic: bytes, kem_post_quantum: bytes
    ) -> None:
        self._signing = Ed25519PrivateKey.from_private_bytes(signing)
        self._signing_post_quantum = MLDSA65PrivateKey.from_seed_bytes(signing_post_quantum)
        self._classic = X25519PrivateKey.from_private_bytes(kem_classic)
        self._post_quantum = MLKEM768PrivateKey.from_seed_bytes(kem_post_quantum)
        self._kem = MLKEM768X25519PrivateKey(self._post_quantum, self._classic)
        self._public = PublicIdentity(
            signing=self._signing.public_key().public_bytes_raw(),
            signing_post_quantum=self._signing_post_quantum.public_key().public_bytes_raw(),
            kem_classic=self._classic.public_key().public_bytes_raw(),
            kem_post_quantum=self._post_quantum.public_key().public_bytes_raw(),
        )

    @classmethod
    def generate(cls) -> Self:
        """Make new keys from the operating system's randomness."""
        return cls(
            signing=Ed25519PrivateKey.generate().private_bytes_raw(),
            signing_post_quantum=MLDSA65PrivateKey.generate().private_bytes_raw(),
            kem_classic=X25519PrivateKey.generate().private_bytes_raw(),
            kem_post_quantum=MLKEM768PrivateKey.generate().private_bytes_raw(),
        )

    @property
    def public(self) -> PublicIdentity:
        """The half to hand out."""
        return self._public

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """For ``crypto.signatures``."""
        return self._signing

    @property
    def post_quantum_signing_key(self) -> MLDSA65PrivateKey:
        """For ``crypto.signatures``: never signs alone."""
        return self._signing_post_quantum

    @property
    def kem_key(self) -> MLKEM768X25519PrivateKey:
        """For ``crypto.sealing``."""
        return self._kem

    def __repr__(self) -> str:
        return f"IdentityKeys({self._public.fingerprint()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("identity keys leave memory only through save()")

    def save(self, path: Path, *, passphrase: bytes | None) -> None:
        """Write the private keys to a new file of mode 0600; ``None`` leaves them unencrypted.

        With a passphrase: scrypt (RFC 7914; N = 2^17, r = 8, p = 1) gives an AES-256-GCM key.

        Raises:
            AlreadyExistsError: keys are never overwritten.
            KeyFileError: the passphrase is empty.
            DiskFullError, NotWritableError: nothing was written.
        """
        content: Encodable = {
            "format": _FILE_FORMAT,
            "signing": self._signing.private_bytes_raw(),
            "signing_post_quantum": self._signing_post_quantum.private_bytes_raw(),
            "kem_classic": self._classic.private_bytes_raw(),
            "kem_post_quantum": self._post_quantum.private_bytes_raw(),
        }
        if passphrase is not None:
            if not passphrase:
                raise KeyFileError(path=str(path), problem="cannot be protected by an empty passphrase")
            content = _protect(content, passphrase, salt=os.urandom(_SALT_LENGTH), nonce=os.urandom(_NONCE_LENGTH))
        write_new(path, encode(content), mode=0o600)

    @classmethod
    def load(cls, path: Path, *, passphrase: bytes | None) -> Self:
        """Read keys that ``save`` wrote.

        Raises:
            KeyFileError: the file is missing, not readable, open to group or others, not a key file, or does not go
                with ``passphrase``; its text says which.
        """
        fields = _decode_fields(path, _read_private(path))
        if set(fields) == {"format", "salt", "nonce", "sealed"}:
            if passphrase is None:
                raise KeyFileError(path=str(path), problem="needs its passphrase, and none was given")
            fields = _unprotect(path, fields, passphrase)
        elif passphrase is not None:
            # The operator believes that a passphrase guards this file.
            raise KeyFileError(path=str(path), problem="is not protected by a passphrase, but one was given")
        return cls(**_seeds(path, fields))


def _malformed(problem: str) -> MalformedMessageError:
    return MalformedMessageError(what="public identity", problem=problem)


def _check_length(name: str, value: bytes, expected: int) -> None:
    if len(value) != expected:
        raise _malformed(f"its {name} has {len(value)} bytes instead of {expected}")


def _refuse_small_order_signing_key(key: bytes) -> None:
    # Under a key of order 1, 2, 4 or 8 anyone can write a signature that verifies, and pyca accepts such keys.
    # On -x^2 + y^2 = 1 + d x^2 y^2 these points have y = 1, -1 or 0, or their double has y = 0, that is x^2 = -y^2,
    # which put into the equation gives d y^4 + 2 y^2 - 1 = 0.
    y = int.from_bytes(key, "little") & (2**255 - 1)
    if y >= _FIELD_PRIME:
        raise _malformed("its signing key is not canonical")
    square = y * y % _FIELD_PRIME
    if square in (0, 1) or (_EDWARDS_D * square * square + 2 * square - 1) % _FIELD_PRIME == 0:
        raise _malformed("its signing key has small order")


def _refuse_empty_post_quantum_signing_key(key: bytes) -> None:
    # Any 1,952 bytes decode as an ML-DSA key (FIPS 204, algorithm 23). What follows the seed of the matrix is t1, and a
    # verifier computes Az - c t1 2^13. With all of t1 at 0, or at 1023 (2^13 * 1023 = -1 modulo q), the answer z = 0
    # needs no secret: anyone can sign. Memory that was wiped, or never written, looks like that.
    if key[_MLDSA_MATRIX_SEED:].strip(b"\x00") == b"" or key[_MLDSA_MATRIX_SEED:].strip(b"\xff") == b"":
        raise _malformed("its ML-DSA key is empty")


def _refuse_low_order_kem_key(key: bytes) -> None:
    # RFC 7748 section 6.1: a point of low order gives the all-zero secret for every private key; pyca refuses that.
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError as error:
        raise _malformed("its X25519 key has low order") from error


def _digits(fingerprint: str) -> str:
    return "".join(fingerprint.replace("-", "").split()).upper()


def _protect(content: Encodable, passphrase: bytes, *, salt: bytes, nonce: bytes) -> Encodable:
    header: dict[str, Encodable] = {"format": _FILE_FORMAT, "salt": salt, "nonce": nonce}
    sealed = AESGCM(_passphrase_key(passphrase, salt)).encrypt(nonce, encode(content), encode(header))
    return {**header, "sealed": sealed}


def _unprotect(path: Path, fields: Mapping[str, Encodable], passphrase: bytes) -> Mapping[str, Encodable]:
    salt, nonce, sealed = fields["salt"], fields["nonce"], fields["sealed"]
    if not isinstance(salt, bytes) or not isinstance(nonce, bytes) or not isinstance(sealed, bytes):
        raise _not_a_key_file(path)
    if len(salt) != _SALT_LENGTH or len(nonce) != _NONCE_LENGTH:
        raise _not_a_key_file(path)
    header: Encodable = {"format": _FILE_FORMAT, "salt": salt, "nonce": nonce}
    try:
        plain = AESGCM(_passphrase_key(passphrase, salt)).decrypt(nonce, sealed, encode(header))
    except InvalidTag as error:
        raise KeyFileError(path=str(path), problem="does not open with this passphrase, or is damaged") from error
    return _decode_fields(path, plain)


def _passphrase_key(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P).derive(passphrase)


def _not_a_key_file(path: Path) -> KeyFileError:
    return KeyFileError(path=str(path), problem="is not a key file of this version, or is damaged")


def _read_private(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            # Asked of the open file, not of the path: nobody can swap it in between.
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise KeyFileError(path=str(path), problem="is not a regular file")
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                problem = f"is open to group or others (mode {stat.S_IMODE(mode):04o})"
                raise KeyFileError(path=str(path), problem=problem)
            return file.read(_FILE_LIMIT + 1)
    except FileNotFoundError as error:
        raise KeyFileError(path=str(path), problem="does not exist") from error
    except OSError as error:
        raise KeyFileError(path=str(path), problem=f"cannot be read ({error.strerror})") from error


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe in the place of the file would otherwise wait for a writer for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _decode_fields(path: Path, data: bytes) -> Mapping[str, Encodable]:
    try:
        value = decode(data, what="key file", limit=_FILE_LIMIT)
    except (MalformedMessageError, MessageTooLargeError) as error:
        raise _not_a_key_file(path) from error
    if not isinstance(value, Mapping) or value.get("format") != _FILE_FORMAT:
        raise _not_a_key_file(path)
    return value


def _seeds(path: Path, fields: Mapping[str, Encodable]) -> dict[str, bytes]:
    if set(fields) != {"format", *_SEED_LENGTHS}:
        raise _not_a_key_file(path)
    seeds: dict[str, bytes] = {}
    for name, length in _SEED_LENGTHS.items():
        seed = fields[name]
        if not isinstance(seed, bytes) or len(seed) != length:
            raise _not_a_key_file(path)
        seeds[name] = seed
    return seeds
