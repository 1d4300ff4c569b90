"""The coordinator's log as the members have seen it: what each manifest names of it, and who has cosigned what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fedcredit.audit.checkpoint_note import LogCheckpoint, NoteSignature, verify_cosignature
from fedcredit.audit.log import AuditLog, log_origin
from fedcredit.crypto.keys import PublicIdentity
from fedcredit.messages import LogProof, Manifest, RoundBody
from fedcredit.parties import InstitutionId

MOST_SHOWN: Final = 64
"""Sizes of the log, of the latest that manifests named, from which consistency is proven in one request."""


class ShownLog:
    """One run's log. A member stands at the last size that it answered, which the coordinator may not have heard of."""

    def __init__(
        self, audit: AuditLog, *, identities: Mapping[InstitutionId, PublicIdentity], shown: Iterable[int]
    ) -> None:
        self._audit = audit
        self._identities = identities
        self._shown = list(shown)
        self._cosigned: dict[InstitutionId, int] = {}

    def head(self) -> tuple[int, bytes]:
        """Return the size and the root of the log as it is."""
        tree = self._audit.tree()
        return tree.size, tree.root()

    def body(self, manifest: Manifest, *, release: int, weights: bytes) -> RoundBody:
        """Return what a round begins with: the weights, their entry in the log, and how the log has grown.

        The proofs begin at every size where a member of the cohort may stand: that of its last answer, and the latest
        ones that it was shown since.
        """
        tree, size = self._audit.tree(), manifest.log_size
        known = [self._cosigned.get(InstitutionId(name), 0) for name in manifest.cohort]
        # Of everybody: who is missing from this cohort may stand at an older size, and comes back.
        oldest = min(self._cosigned.get(name, 0) for name in self._identities)
        self._shown = [shown for shown in self._shown if oldest <= shown < size][-MOST_SHOWN:]
        sizes = sorted({*known, *self._shown} - {0, size})
        self._shown.append(size)
        return RoundBody(
            weights=weights,
            release=self._audit.leaf(release),
            release_path=tree.inclusion(release, size=size),
            log_proofs=tuple(LogProof(size=start, path=tree.consistency(start, size)).to_bytes() for start in sizes),
            roots=(),
        )

    def require_cosigned(self, manifest: Manifest, name: InstitutionId, cosignature: str) -> None:
        """Return if a member cosigned the head that the manifest names.

        Raises:
            CheckpointNoteError, BadSignatureError: it did not.
        """
        origin = log_origin(consortium=manifest.consortium, run=manifest.run)
        checkpoint = LogCheckpoint(origin=origin, size=manifest.log_size, root=manifest.log_root)
        line = NoteSignature.from_line(cosignature)
        verify_cosignature(checkpoint, line, name=name, identity=self._identities[name])

    def stands_at(self, name: InstitutionId, size: int) -> None:
        """Take note of where a member stands, once its answer counts."""
        self._cosigned[name] = size
