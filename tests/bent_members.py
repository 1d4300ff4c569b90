"""Members whose software lies: honest reactions, bent in one stage before they are signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from consortium import Consortium

from fedcredit.crypto.derivation import commitment
from fedcredit.envelope import OpenedRequest
from fedcredit.institution.stages import Reaction, Stages
from fedcredit.messages import Stage
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import Upload

Bend = Callable[[Reaction], Reaction]


class Lying:
    """A member's reactions, bent in one stage before they are signed."""

    def __init__(self, honest: Stages, stage: Stage, bend: Bend) -> None:
        self._honest = honest
        self._stage = stage
        self._bend = bend

    def react(self, opened: OpenedRequest) -> Reaction:
        honest = self._honest.react(opened)
        if opened.stage is not self._stage:
            return honest
        lie = self._bend(honest)

        def store() -> None:
            honest.store()
            if isinstance(lie.answer, Upload):
                # A liar remembers what it said, and goes along with the rest of the round.
                memory, run = self._honest._memory, opened.manifest.run
                state = memory.member_round(run)
                assert state is not None
                memory.keep_round(run, replace(state, upload=hashlib.sha256(lie.answer.to_bytes()).digest()))

        return replace(lie, store=store)


def bent(consortium: Consortium, name: str, stage: Stage, bend: Bend) -> None:
    worker = consortium.sites[name].worker
    worker._stages = Lying(worker._stages, stage, bend)  # type: ignore[assignment]


def other_commitments(count: int) -> Bend:
    """Commit to other seeds than the true ones, for the first ``count`` neighbours."""

    def bend(reaction: Reaction) -> Reaction:
        assert isinstance(reaction.answer, Upload)
        own, *pairs = reaction.answer.commitments
        lies = [commitment(bytes([i + 1]) * 32, context=own) for i in range(count)]
        return replace(reaction, answer=replace(reaction.answer, commitments=(own, *lies, *pairs[count:])))

    return bend


def other_bulk(change: Callable[[bytes], bytes], *, signed: bool = True) -> Bend:
    """Send other bytes beside a message, with or without their digest in it."""

    def bend(reaction: Reaction) -> Reaction:
        bulk = change(b"".join(reaction.bulk))
        digest = hashlib.sha256(bulk).digest()
        answer = replace(reaction.answer, bulk_digest=digest) if signed else reaction.answer  # type: ignore[call-arg]
        return replace(reaction, answer=answer, bulk=(bulk,))

    return bend


def first_share_changed(shares: bytes) -> bytes:
    return bytes([0]) + bytes(SHARE_LENGTH - 1) + shares[SHARE_LENGTH:]
