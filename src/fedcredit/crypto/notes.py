"""Ed25519 signatures on the text of a note: C2SP ``signed-note`` and ``tlog-cosignature`` (``cosignature/v1``).

The identity key also signs fedcredit's own messages, always behind an encoded array whose first byte is 0x84
(``crypto.signatures``). No text begins with that byte, because it is not the first byte of any UTF-8 character; nor
does a note text hold the zero byte of a TLS 1.3 ``CertificateVerify``. So no signature on a note can stand for another
statement, and this module takes text, never bytes.
"""

from __future__ import annotations

import enum
import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcredit.errors import BadSignatureError

KEY_ID_LENGTH: Final = 4
NOTE_SIGNATURE_LENGTH: Final = 64
COSIGNATURE_LENGTH: Final = 72
"""Eight bytes of time, big-endian, then the Ed25519 signature."""
MAX_TIME_S: Final = 2**63 - 1

_COSIGNATURE_HEADER: Final = "cosignature/v1\n"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
"""Everything before the space except the newline."""
_TIME_LENGTH: Final = 8


class NoteKeyType(enum.IntEnum):
    """The signature type that a key id names (C2SP signed-note, "Signature types")."""

    NOTE = 0x01
    COSIGNATURE_V1 = 0x04


def note_key_id(*, name: str, kind: NoteKeyType, public_key: bytes) -> bytes:
    """Return the four bytes that name a key in a signature line: ``SHA-256(name || 0x0A || kind || key)[:4]``."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:KEY_ID_LENGTH]


def sign_note(key: Ed25519PrivateKey, *, text: str) -> bytes:
    """Return the signature of a log on ``text``, 64 bytes.

    Raises:
        ValueError: ``text`` is no note text, or it could be read as a cosigned one.
    """
    if text.startswith(_COSIGNATURE_HEADER):
        raise ValueError("a note must not begin like a cosigned message")
    return key.sign(_note_bytes(text))


def verify_note(public_key: bytes, *, text: str, signature: bytes, signer: str) -> None:
    """Return only if ``public_key`` signed ``text``; ``signer`` is for the message.

    Raises:
        BadSignatureError: anything else, a signature of the wrong length included.
    """
    _verify(public_key, message=_note_bytes(text), signature=signature, signer=signer)


def cosign_note(key: Ed25519PrivateKey, *, text: str, time_s: int) -> bytes:
    """Return the timed signature of a witness on ``text``, 72 bytes; ``time_s`` counts seconds since 1970 (POSIX).

    Raises:
        ValueError: ``text`` is no note text, or the time is outside 0 to 2^63 - 1.
    """
    if not 0 <= time_s <= MAX_TIME_S:
        raise ValueError("the time of a cosignature is outside 0 to 2^63 - 1")
    return time_s.to_bytes(_TIME_LENGTH, "big") + key.sign(_cosigned_bytes(text, time_s=time_s))


def verify_cosigned_note(public_key: bytes, *, text: str, signature: bytes, signer: str) -> int:
    """Return the time in seconds since 1970 at which ``public_key`` cosigned ``text``.

    The time is the witness's own claim, signed with the text.

    Raises:
        BadSignatureError: it did not, or the signature has another length or an impossible time.
    """
    time_s = int.from_bytes(signature[:_TIME_LENGTH], "big")
    if len(signature) != COSIGNATURE_LENGTH or time_s > MAX_TIME_S:
        raise BadSignatureError(signer=signer, what="log checkpoint")
    message = _cosigned_bytes(text, time_s=time_s)
    _verify(public_key, message=message, signature=signature[_TIME_LENGTH:], signer=signer)
    return time_s


def _note_bytes(text: str) -> bytes:
    if not text.endswith("\n"):
        raise ValueError("the text of a note ends with a newline")
    if _CONTROL.search(text):
        raise ValueError("the text of a note has no control characters")
    return text.encode()


def _cosigned_bytes(text: str, *, time_s: int) -> bytes:
    return f"{_COSIGNATURE_HEADER}time {time_s}\n".encode() + _note_bytes(text)


def _verify(public_key: bytes, *, message: bytes, signature: bytes, signer: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(signer=signer, what="log checkpoint") from error
