"""The heads of the institutions' privacy ledgers, as the coordinator saw them last, over all runs.

An institution whose ledger lacks the head that it sent itself has lost charges: a disk was restored, a folder copied.
It finds out from the next manifest and releases nothing. The coordinator learns nothing from a head; it is a digest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from fedcredit.errors import StoreCorruptError
from fedcredit.messages import NO_HEAD
from fedcredit.parties import InstitutionId
from fedcredit.store.files import write_atomic

HEADS_FILE: Final = "ledger-heads.json"


class LedgerHeads:
    """The last heads, kept in a file of the coordinator's folder, or in memory without a path.

    Raises:
        StoreCorruptError: the file is not what ``save`` wrote.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._heads: dict[str, bytes] = _read(path) if path is not None and path.exists() else {}
        self._seen: dict[str, bytes] = {}

    def of(self, institution: InstitutionId) -> bytes:
        """Return the head seen last, or 32 zero bytes."""
        return self._heads.get(institution, NO_HEAD)

    def saw(self, institution: InstitutionId, head: bytes) -> None:
        """Take a head from an answer whose signature was verified; a refusal is none.

        Only an answer proves that the ledger still contained the head seen before it.
        """
        if self._heads.get(institution) != head:
            self._heads[institution] = self._seen[institution] = head

    def save(self) -> None:
        """Make what this object has seen durable; what another run wrote about the others meanwhile stays."""
        if self._seen and self._path is not None:
            kept = _read(self._path) if self._path.exists() else {}
            content = {name: head.hex() for name, head in sorted((kept | self._seen).items())}
            write_atomic(self._path, json.dumps(content, indent=1).encode())
        self._seen = {}


def _read(path: Path) -> dict[str, bytes]:
    try:
        content = json.loads(path.read_text())
        heads = {str(name): bytes.fromhex(head) for name, head in content.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise StoreCorruptError(path=str(path), problem="it is not a list of ledger heads") from error
    if any(len(head) != len(NO_HEAD) for head in heads.values()):
        raise StoreCorruptError(path=str(path), problem="a ledger head has the wrong length")
    return heads
