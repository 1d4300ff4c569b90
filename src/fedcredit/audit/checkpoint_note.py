"""The head of a log as text that other tools read too: C2SP ``signed-note``, ``tlog-checkpoint``, ``tlog-cosignature``.

    fedcredit.example/north/audit
    42
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — fedcredit.example/north/audit <base64 of the key id and the log's signature>
    — bank-1 <base64 of the key id, the time and the witness's signature>

The log signs under its origin, an institution cosigns under its name. A signature line of a key that nobody gave is
kept and never counts. Extension lines, which the format permits and advises against, are refused: no witness vouches
for what they say.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from fedcredit.audit.merkle import EMPTY_ROOT, MAX_LOG_SIZE
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.notes import (
    KEY_ID_LENGTH,
    NoteKeyType,
    cosign_note,
    note_key_id,
    sign_note,
    verify_cosigned_note,
    verify_note,
)
from fedcredit.encoding import DIGEST_LENGTH
from fedcredit.errors import BadSignatureError, CheckpointNoteError, WrongContextError

MAX_NAME_BYTES: Final = 255
MAX_TEXT_BYTES: Final = 4_096
MAX_SIGNATURE_BYTES: Final = 5_000
"""Without the key id; room for the largest ML-DSA signature of somebody else's key."""
MAX_SIGNATURES: Final = 200

_LINE_START: Final = "\u2014 "
_MAX_LINE_BYTES: Final = (
    len(_LINE_START.encode()) + MAX_NAME_BYTES + 1 + (KEY_ID_LENGTH + MAX_SIGNATURE_BYTES + 2) // 3 * 4
)
MAX_NOTE_BYTES: Final = MAX_TEXT_BYTES + 1 + MAX_SIGNATURES * (_MAX_LINE_BYTES + 1)
"""No well-formed note is longer."""
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_CHECKPOINT_LINES: Final = 3
_NOT_IN_A_NAME: Final = re.compile(r"[\s\x00-\x1f+]")


@dataclass(frozen=True)
class LogCheckpoint:
    """What a log says about itself: the root of its first ``size`` entries. One that exists is well-formed.

    Raises:
        CheckpointNoteError: a field is not what the text can carry, or an empty log has another root than its own.
    """

    origin: str
    """Which log: a URL without a scheme, such as ``fedcredit.example/north/audit``."""
    size: int
    root: bytes
    """SHA-256, 32 bytes."""

    def __post_init__(self) -> None:
        _require_name(self.origin, what="the origin")
        if not 0 <= self.size <= MAX_LOG_SIZE:
            raise CheckpointNoteError(problem="the size is out of range")
        if len(self.root) != DIGEST_LENGTH:
            raise CheckpointNoteError(problem="the root is not a SHA-256 hash")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise CheckpointNoteError(problem="an empty log has another root")

    def to_text(self) -> str:
        """Return the three lines that are signed."""
        return f"{self.origin}\n{self.size:d}\n{_base64(self.root)}\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Decode exactly three lines.

        Raises:
            CheckpointNoteError: another number of lines, a size with a leading zero or a sign, a root that is not
                canonical base64 of 32 bytes.
        """
        lines = text.split("\n")
        if len(lines) != _CHECKPOINT_LINES + 1 or lines[-1]:
            raise CheckpointNoteError(problem="it does not have exactly three lines")
        origin, size, root, _ = lines
        if not _DECIMAL.fullmatch(size):
            raise CheckpointNoteError(problem="the size is not a plain decimal number")
        return cls(origin, int(size), _unbase64(root, what="the root"))


@dataclass(frozen=True, kw_only=True)
class NoteSignature:
    """One signature line: who, with which key, and the bytes. It is well-formed, not verified.

    Raises:
        CheckpointNoteError: the name is not usable or a length is wrong.
    """

    name: str
    key_id: bytes
    """Four bytes (``crypto.notes.note_key_id``); with the name they tell which key and kind of signature it is."""
    signature: bytes
    """64 bytes of a log, 72 of a witness, any number up to 5,000 of an unknown key."""

    def __post_init__(self) -> None:
        _require_name(self.name, what="a key name")
        if len(self.key_id) != KEY_ID_LENGTH:
            raise CheckpointNoteError(problem="a key id does not have four bytes")
        if not 1 <= len(self.signature) <= MAX_SIGNATURE_BYTES:
            raise CheckpointNoteError(problem="a signature is empty or too long")

    def to_line(self) -> str:
        """Return the line, without a newline."""
        return f"{_LINE_START}{self.name} {_base64(self.key_id + self.signature)}"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Decode exactly one line without its newline; anything else raises ``CheckpointNoteError``."""
        if not line.startswith(_LINE_START):
            raise CheckpointNoteError(problem="a signature line does not begin with a dash and a space")
        name, _, encoded = line.removeprefix(_LINE_START).partition(" ")
        if len(encoded) > _MAX_LINE_BYTES:
            raise CheckpointNoteError(problem="a signature is empty or too long")
        blob = _unbase64(encoded, what="a signature")
        return cls(name=name, key_id=blob[:KEY_ID_LENGTH], signature=blob[KEY_ID_LENGTH:])


@dataclass(frozen=True, kw_only=True)
class SignedNote:
    """A text and the signature lines under it, in their order. It is well-formed; nothing in it is verified.

    Raises:
        CheckpointNoteError: the text is too long, has a control character or no newline at its end, or there is no
            signature or more than 200.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n"):
            raise CheckpointNoteError(problem="its text does not end with a newline")
        if any(character < " " and character != "\n" for character in self.text):
            raise CheckpointNoteError(problem="it has a control character")
        if len(_utf8(self.text, what="its text")) > MAX_TEXT_BYTES:
            raise CheckpointNoteError(problem="its text is too long")
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise CheckpointNoteError(problem=f"it does not have 1 to {MAX_SIGNATURES} signatures")

    def to_bytes(self) -> bytes:
        """Return the note: the text, an empty line, the signature lines."""
        return (self.text + "\n" + "".join(f"{signature.to_line()}\n" for signature in self.signatures)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode exactly one note; a byte more, less or otherwise raises ``CheckpointNoteError``."""
        if len(data) > MAX_NOTE_BYTES:
            raise CheckpointNoteError(problem="it is too long")
        try:
            note = data.decode()
        except UnicodeDecodeError as error:
            raise CheckpointNoteError(problem="it is not UTF-8") from error
        # The text may hold empty lines itself; the last one ends it.
        body, separator, tail = note.rpartition("\n\n")
        lines = tail.split("\n")
        if not separator or lines.pop():
            raise CheckpointNoteError(problem="it is not a text, an empty line and signature lines")
        if len(lines) > MAX_SIGNATURES:
            raise CheckpointNoteError(problem=f"it does not have 1 to {MAX_SIGNATURES} signatures")
        return cls(text=body + "\n", signatures=tuple(NoteSignature.from_line(line) for line in lines))


def sign_checkpoint(checkpoint: LogCheckpoint, *, keys: IdentityKeys) -> NoteSignature:
    """Return the signature line of the log itself, under its origin."""
    public_key = keys.signing_key.public_key().public_bytes_raw()
    return NoteSignature(
        name=checkpoint.origin,
        key_id=note_key_id(name=checkpoint.origin, kind=NoteKeyType.NOTE, public_key=public_key),
        signature=sign_note(keys.signing_key, text=checkpoint.to_text()),
    )


def cosign_checkpoint(checkpoint: LogCheckpoint, *, name: str, keys: IdentityKeys, time_s: int) -> NoteSignature:
    """Return the signature line of a witness; ``time_s`` counts seconds since 1970.

    It states that at that time this was the longest log that the witness had seen, and that it continues every shorter
    one it cosigned: ``audit.witness.advance`` decides that, and its state is on disk first.
    """
    public_key = keys.signing_key.public_key().public_bytes_raw()
    return NoteSignature(
        name=name,
        key_id=note_key_id(name=name, kind=NoteKeyType.COSIGNATURE_V1, public_key=public_key),
        signature=cosign_note(keys.signing_key, text=checkpoint.to_text(), time_s=time_s),
    )


def verify_log_signature(
    checkpoint: LogCheckpoint, signatures: Iterable[NoteSignature], *, identity: PublicIdentity
) -> None:
    """Return only if the key of the log signed ``checkpoint``; lines of other keys are passed over.

    Raises:
        CheckpointNoteError: no line is of that key.
        BadSignatureError: a line of that key does not verify.
    """
    name = checkpoint.origin
    key_id = note_key_id(name=name, kind=NoteKeyType.NOTE, public_key=identity.signing)
    own = [line for line in signatures if (line.name, line.key_id) == (name, key_id)]
    if not own:
        raise CheckpointNoteError(problem="the log did not sign it with its registered key")
    for line in own:
        verify_note(identity.signing, text=checkpoint.to_text(), signature=line.signature, signer=name)


def verify_cosignature(
    checkpoint: LogCheckpoint, signature: NoteSignature, *, name: str, identity: PublicIdentity
) -> int:
    """Return the time, in seconds since 1970, at which ``name`` says that it cosigned ``checkpoint``.

    Raises:
        BadSignatureError: the line is not of this witness and key, or does not verify.
    """
    key_id = note_key_id(name=name, kind=NoteKeyType.COSIGNATURE_V1, public_key=identity.signing)
    if (signature.name, signature.key_id) != (name, key_id):
        raise BadSignatureError(signer=name, what="log checkpoint")
    return verify_cosigned_note(identity.signing, text=checkpoint.to_text(), signature=signature.signature, signer=name)


def open_checkpoint(
    data: bytes, *, origin: str, identity: PublicIdentity
) -> tuple[LogCheckpoint, tuple[NoteSignature, ...]]:
    """Decode a note, check that the log ``origin`` signed it, and return the checkpoint with all its signature lines.

    The cosignatures among them are not verified; ``audit.witness.require_final`` does that.

    Raises:
        CheckpointNoteError: it is not exactly one signed checkpoint, or the log did not sign it.
        WrongContextError: it is a checkpoint of another log.
        BadSignatureError: the log's signature does not verify.
    """
    note = SignedNote.from_bytes(data)
    checkpoint = LogCheckpoint.from_text(note.text)
    if checkpoint.origin != origin:
        raise WrongContextError(what="log checkpoint", field="origin")
    verify_log_signature(checkpoint, note.signatures, identity=identity)
    return checkpoint, note.signatures


def _require_name(name: str, *, what: str) -> None:
    if not name or _NOT_IN_A_NAME.search(name):
        raise CheckpointNoteError(problem=f"{what} is empty or has a space, a plus or a control character")
    if len(_utf8(name, what=what)) > MAX_NAME_BYTES:
        raise CheckpointNoteError(problem=f"{what} is too long")


def _utf8(text: str, *, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise CheckpointNoteError(problem=f"{what} is not UTF-8") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unbase64(text: str, *, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise CheckpointNoteError(problem=f"{what} is not base64") from error
    if _base64(data) != text:
        # Unused bits or padding that a decoder forgives: two texts would carry one signature.
        raise CheckpointNoteError(problem=f"{what} is not canonical base64")
    return data
