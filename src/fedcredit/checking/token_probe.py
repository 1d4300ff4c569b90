"""A cheap trial: are tokens hashes, without a key, of what stands beside them or of what anybody can count?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from fedcredit.checking.findings import FindingBook, Rows
from fedcredit.checking.spec import TableSpec
from fedcredit.errors import UnkeyedTokenError

_ROWS: Final = 500
_METHODS: Final = ("sha256", "sm3", "sha3_256", "blake2s")
"""Hashes of 64 hexadecimal digits; MD5 and SHA-1 are shorter and are no tokens at all."""
_BESIDE: Final = ("contract_id", "policy_id", "eqp_id", "claim_id")


def probe_tokens(spec: TableSpec, chunk: Mapping[str, NDArray[Any]], rows: Rows, book: FindingBook) -> None:
    """Add a finding if tokens of the first rows are plain hashes of a local identifier or of a row number.

    It proves nothing when it finds nothing: real identifiers are not there to be tried. The manifest must name the
    method, and a member that tests its own tokens does so with ``fedcredit node tokenise --check``.
    """
    tokens = [None if token is None else str(token) for token in chunk["entity_tok"][:_ROWS]]
    numbered = zip(rows.tolist(), tokens, strict=False)
    places = {token: row for row, token in reversed(list(numbered)) if token is not None}
    tried = [str(number) for number in range(_ROWS + 1)]
    for name in _BESIDE:
        if name in chunk:
            tried += [str(cell) for cell in chunk[name][:_ROWS] if cell is not None]
    for method in _METHODS:
        if method not in hashlib.algorithms_available:
            continue
        hits = {places[digest] for cell in tried if (digest := _digest(method, cell)) in places}
        if hits:
            where = {"table": spec.table.name, "column": "entity_tok", "path": spec.place}
            figures = {"method": method.upper(), "tried": f"{len(tried):,}"}
            book.add(UnkeyedTokenError, count=len(hits), row=min(hits), **figures, **where)
            return


def _digest(method: str, text: str) -> str:
    hashed = hashlib.new(method, text.encode())
    return hashed.hexdigest()
