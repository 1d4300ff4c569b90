"""The institution's answer to one request: bytes in, bytes out, one guard around everything.

After reading ``handle`` and ``_reply`` you can retell the institution's side: open and verify, repeat a stored answer,
let the stage react, then store what it must not forget **before** its answer leaves. ``stages`` has the reactions.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.envelope import OpenedRequest, open_request, seal_answer, seal_unreadable
from fedcredit.errors import FedcreditError, InternalError, MalformedMessageError
from fedcredit.institution.admission import Admission
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.releases import Sums
from fedcredit.institution.stages import Reaction, Stages
from fedcredit.messages import NO_HEAD, Manifest, Refusal, radii_digest
from fedcredit.privacy.ledger import PrivacyLedger

LOG: Final = logging.getLogger("fedcredit.institution")
RECORDED_UNREADABLE: Final = 100
"""Requests that did not open and are recorded, per start: they need no key, and must not fill the ledger's disk."""


class InstitutionWorker:
    """Answers the coordinator's requests for one institution."""

    def __init__(
        self,
        *,
        consortium: str,
        holdings: Holdings,
        keys: IdentityKeys,
        coordinator: PublicIdentity,
        admission: Admission,
        ledger: PrivacyLedger,
        audit: AuditLog,
        sums: Sums,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._consortium = consortium
        self._institution = holdings.institution
        self._keys = keys
        self._coordinator = coordinator
        self._memory = admission.memory
        self._ledger = ledger
        self._audit = audit
        self._stages = Stages(
            holdings=holdings,
            keys=keys,
            coordinator=coordinator,
            admission=admission,
            ledger=ledger,
            sums=sums,
            entropy=entropy,
        )
        self._one_at_a_time = threading.Lock()
        self._unreadable = 0

    def handle(self, request: bytes) -> bytes:
        """Answer one request; never raises. A failure leaves as a code, its text stays in the institution's log."""
        opened: OpenedRequest | None = None
        # One at a time: the charge, the answer and its log line belong together.
        with self._one_at_a_time:
            try:
                opened = self._open(request)
                return self._reply(opened)
            except FedcreditError as error:
                return self._refuse(error, request, opened)
            except Exception as error:  # noqa: BLE001 - the guard around everything
                # Neither the wire nor the log gets the text of an unforeseen error: it could quote a cell.
                LOG.error("internal error of type %s while answering a request", type(error).__name__)
                return self._refuse(InternalError(kind=type(error).__name__), request, opened)

    def _open(self, request: bytes) -> OpenedRequest:
        return open_request(
            request,
            consortium=self._consortium,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
            channels=self._memory.channel,
        )

    def _reply(self, opened: OpenedRequest) -> bytes:
        run = opened.manifest.run
        stored = self._memory.answer_to(opened.digest, run=run)
        if stored is not None:
            return stored
        self._check_ledger(opened.manifest)
        reaction = self._stages.react(opened)
        sealed = seal_answer(
            reaction.answer,
            opened=opened,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
            bulk=reaction.bulk,
        )
        self._remember(opened, reaction, sealed)
        return sealed

    def _remember(self, opened: OpenedRequest, reaction: Reaction, sealed: bytes) -> None:
        """Store what the stage leaves behind, the answer and its log line durably and together, before it is sent."""
        manifest = opened.manifest
        try:
            with self._audit.together():
                reaction.store()
                self._memory.remember_answer(manifest.run, opened.digest, sealed)
                self._audit.record(
                    EventKind.REQUEST_ANSWERED,
                    run=manifest.run,
                    round=manifest.round,
                    attempt=manifest.attempt,
                    purpose=manifest.purpose,
                    stage=opened.request.stage,
                    manifest=opened.manifest_digest,
                    # The coordinator's log states them too, and of some attempts no manifest is kept.
                    radii=radii_digest(manifest.radii),
                    # As the coordinator's log has it; the bulk data is bound by the digest inside.
                    answer=hashlib.sha256(reaction.answer.to_bytes()).digest(),
                )
        except BaseException:
            self._memory.forget()
            raise

    def _check_ledger(self, manifest: Manifest) -> None:
        """Refuse if the coordinator has seen a head that the ledger lacks: it was set back, and has forgotten charges.

        Raises:
            LedgerRolledBackError: it lacks the head.
        """
        head = dict(zip(manifest.cohort, manifest.ledger_heads, strict=False)).get(self._institution, NO_HEAD)
        if head != NO_HEAD:
            self._ledger.require_head(head)

    def _worth_recording(self, opened: OpenedRequest | None) -> bool:
        """Record every refusal of the coordinator's requests, but only so many of bytes that anybody can send."""
        if opened is not None:
            return True
        self._unreadable += 1
        return self._unreadable <= RECORDED_UNREADABLE

    def _refuse(self, error: FedcreditError, request: bytes, opened: OpenedRequest | None) -> bytes:
        LOG.warning("%s %s", error.code, error)
        digest = opened.manifest_digest if opened else hashlib.sha256(request).digest()
        run = opened.manifest.run if opened else ""
        refusal = Refusal(manifest_digest=digest, ledger_head=self._ledger.head, code=error.code)
        try:
            if self._worth_recording(opened):
                self._audit.record(EventKind.REQUEST_REFUSED, run=run, code=error.code, manifest=digest)
        except FedcreditError as storage_error:
            # The refusal still leaves: nothing was computed, and the coordinator must not wait.
            LOG.error("%s %s", storage_error.code, storage_error)
        except Exception as unforeseen:  # noqa: BLE001 - neither may what nobody foresaw keep the refusal here
            LOG.error("internal error of type %s while logging a refusal", type(unforeseen).__name__)
        return self._seal_refusal(refusal, request, opened)

    def _seal_refusal(self, refusal: Refusal, request: bytes, opened: OpenedRequest | None) -> bytes:
        if opened is not None:
            try:
                return seal_answer(
                    refusal,
                    opened=opened,
                    institution=self._institution,
                    keys=self._keys,
                    coordinator=self._coordinator,
                )
            except MalformedMessageError:
                LOG.warning("a request asks for an answer too short for a refusal")
                refusal = replace(refusal, manifest_digest=hashlib.sha256(request).digest())
        return seal_unreadable(
            refusal,
            consortium=self._consortium,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
        )
