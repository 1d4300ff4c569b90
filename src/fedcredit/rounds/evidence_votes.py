"""The votes of a closing counted again, from the members' signed answers that the log holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fedcredit.crypto.signatures import verify
from fedcredit.envelope import ANSWER_TAG
from fedcredit.errors import WrongContextError
from fedcredit.messages import CloseAnswer
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence_log import Line
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.rounds.voting import Verdict, ballots_from_bytes


def count_again(line: Line, manifest: bytes, accepted: Mapping[InstitutionId, Line], opening: Opening) -> Verdict:
    """Return what the signed answers in the closing entry make of the model; ``accepted`` are the log's answers to it.

    Raises:
        AuditError: an answer is missing, is not signed by its member, is for another closing, or the entry states
            another vote or outcome than follows from them.
    """
    with line.naming("holds votes that do not hold"):
        ballots = ballots_from_bytes(line.octets("ballots"))
        line.require(set(ballots) == set(accepted), "holds votes of others than those whose answers were accepted")
        answers = {}
        for name, signed in ballots.items():
            verify(
                opening.identities[name],
                tag=ANSWER_TAG,
                body=signed.body,
                signature=signed.signature,
                signer=name,
                what="vote",
            )
            if hashlib.sha256(signed.body).digest() != accepted[name].octets("answer"):
                raise WrongContextError(what=f"vote of {name}", field="entry of the log")
            answers[name] = CloseAnswer.from_bytes(signed.body)
            if answers[name].manifest_digest != manifest:
                raise WrongContextError(what=f"vote of {name}", field="manifest")
        verdict = Verdict.of(opening.plan, answers)
    for field, value in verdict.record().items():
        line.require(line.fields.get(field) == value, f"states another {field} than its members' answers give")
    return verdict
