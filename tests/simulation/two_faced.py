"""A coordinator that shows members two cohorts of one attempt and asks for shares of both (PROTOCOL.md 9.1, attack 2).

It has every key of the coordinator and hides nothing from the oracle. Against members that do as they should, all it
gets is refusals; ``test_mutants`` takes one check after another away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from consortium import COORDINATOR
from simulation.federation import Federation
from simulation.members import SimulatedMember
from simulation.network import resealed
from simulation.oracle import answer_plaintext

from fedcredit.crypto.signatures import sign
from fedcredit.envelope import OpenedRequest
from fedcredit.messages import Message, Signed, Stage, padded_length, unpad
from fedcredit.parties import InstitutionId
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.wire import AcceptBody, RevealBody, Selection
from fedcredit.transport import Deadline, Reply, Transport


class TwoFaced:
    """Carries what the honest engine asks, and more when it comes to the cohort.

    ``apart``: it shows each member one cohort only, a part of them the one and the rest the other; otherwise it shows
    everybody both.
    """

    def __init__(self, federation: Federation, inner: Transport, *, apart: bool) -> None:
        self._federation = federation
        self._inner = inner
        self._apart = apart
        self._members = {member.name: member for member in federation.members}

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        """Do as a transport should, and then what a coordinator should not."""
        if self._federation.stage != Stage.ACCEPT:
            yield from self._inner.exchange(requests, deadline=deadline)
            return
        names = sorted(requests)
        first = names[: len(names) // 2] if self._apart else names
        second = names[len(names) // 2 :] if self._apart else names[:-1]
        read = {name: self._read(name, request) for name, request in requests.items()}
        shown = Selection.from_bytes(AcceptBody.from_bytes(read[names[0]].request.body).selection)
        left_out = names[0] if self._apart else names[-1]
        replies: list[Reply] = []
        honest = self._inner.exchange({name: requests[name] for name in first}, deadline=deadline)
        while len(replies) < len(first):
            replies.append(next(honest))
        shows = [(first, shown), (second, _without(shown, left_out))]
        agreed = [self._agree(names_shown, selection, read) for names_shown, selection in shows]
        for (names_shown, selection), signatures in zip(shows, agreed, strict=True):
            self._open(names_shown, selection, signatures, read)
        yield from replies

    def _read(self, name: InstitutionId, request: bytes) -> OpenedRequest:
        member = self._members[name]
        opened = member.worker._open(request)
        assert opened.stage is Stage.ACCEPT
        return opened

    def _agree(
        self, names: list[InstitutionId], selection: Selection, read: Mapping[InstitutionId, OpenedRequest]
    ) -> dict[InstitutionId, bytes]:
        """Ask ``names`` to agree to ``selection``; return the signatures on what they answer."""
        encoded = selection.to_bytes()
        accept = AcceptBody(selection=encoded, signature=sign(COORDINATOR, tag=SELECTION_TAG, body=encoded))
        return {name: self._ask(name, read[name], Stage.ACCEPT, accept) for name in names}

    def _open(
        self,
        names: list[InstitutionId],
        selection: Selection,
        agreed: Mapping[InstitutionId, bytes],
        read: Mapping[InstitutionId, OpenedRequest],
    ) -> None:
        """Ask for shares, however many have agreed."""
        for name in names:
            body = RevealBody(
                selection=hashlib.sha256(selection.to_bytes()).digest(),
                members=tuple(agreed),
                signatures=tuple(agreed.values()),
                boxes=(b"",) * (len(read[name].manifest.cohort) - 1),
            )
            self._ask(name, read[name], Stage.REVEAL, body)

    def _ask(self, name: InstitutionId, opened: OpenedRequest, stage: Stage, body: Message) -> bytes:
        """Return the member's signature on whatever it answers."""
        member: SimulatedMember = self._members[name]
        request = replace(
            opened.request, stage=str(stage), body=body.to_bytes(), answer_length=padded_length(64 * 1024)
        )
        sealed = resealed(request.to_bytes(), opened, member)
        reply, asked = self._federation.network.ask_at_once(member, sealed, str(stage))
        plaintext = answer_plaintext(reply, asked, member) if asked else None
        assert plaintext is not None
        content, _ = unpad(plaintext, what="answer")
        return Signed.from_bytes(content).signature


def _without(selection: Selection, left_out: str) -> Selection:
    kept = [place for place, name in enumerate(selection.members) if name != left_out]
    return Selection(
        manifest_digest=selection.manifest_digest,
        members=tuple(selection.members[place] for place in kept),
        uploads=tuple(selection.uploads[place] for place in kept),
        signatures=tuple(selection.signatures[place] for place in kept),
    )
