"""Manifests that the coordinator signed, held against the log; and the set-up of keys that one of them asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedcredit.encoding import Encodable
from fedcredit.envelope import verified_manifest
from fedcredit.errors import WrongContextError
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.rounds.transcript import SetupRecord
from fedcredit.secagg.epoch import epoch_id, require_keys
from fedcredit.secagg.wire import EpochKey


@dataclass(frozen=True, kw_only=True)
class ExpectedManifest:
    """What the log says of a manifest."""

    digest: bytes
    fields: Mapping[str, Encodable]
    """All but the deadline, and the heads of ledgers, which every member compares with its own."""

    @property
    def cohort(self) -> Sequence[str]:
        """Return the names of everybody who was asked."""
        cohort = self.fields["cohort"]
        return [str(name) for name in cohort] if isinstance(cohort, list | tuple) else []

    def with_fields(self, **fields: Encodable) -> ExpectedManifest:
        """Return the same with other values of these fields."""
        return replace(self, fields={**self.fields, **fields})

    def require(self, data: bytes, signature: bytes, opening: Opening) -> None:
        """Return if the coordinator signed this manifest, and it says what the log says.

        Raises:
            BadSignatureError: it did not sign these bytes.
            WrongContextError: it is another manifest, or says something else.
            MalformedMessageError: it does not decode.
        """
        if hashlib.sha256(data).digest() != self.digest:
            raise WrongContextError(what="transcript", field="manifest")
        manifest = verified_manifest(data, signature, coordinator=opening.coordinator)
        for name, value in self.fields.items():
            if getattr(manifest, name) != value:
                raise WrongContextError(what="round manifest", field=name)
        if len(manifest.ledger_heads) != len(manifest.cohort):
            raise WrongContextError(what="round manifest", field="ledger_heads")


def check_setup(
    record: SetupRecord, expected: ExpectedManifest, opening: Opening
) -> tuple[bytes, tuple[InstitutionId, ...]]:
    """Return the epoch that a set-up made, and its members: each signed its key with both of its long-lived keys.

    Raises:
        BadSignatureError: the manifest or a key is not signed by whom it names.
        WrongContextError: the manifest says something else than the log, or a key is for another set-up.
        MalformedMessageError: a part does not decode.
    """
    expected.require(record.manifest, record.manifest_signature, opening)
    keys = [EpochKey.from_bytes(key) for key in record.keys]
    asked = {name: opening.identities[InstitutionId(name)] for name in expected.cohort}
    require_keys(keys, setup=expected.digest, identities=asked, smallest=opening.plan.rounds.quorum)
    return epoch_id(expected.digest, keys), tuple(InstitutionId(key.member) for key in keys)
