"""The votes on a finished model, counted: signed answers to the closing, and what follows from them by the plan's rule.

The signed answers are in the log's closing entry, so anybody can count again (``evidence_rounds``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from fedcredit.config.plan import RunPlan
from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import MalformedMessageError, ModelNotReleasedError
from fedcredit.evaluation.vote import Choice, Outcome, Reason, decide
from fedcredit.messages import NO_VOTE, CloseAnswer, Signed
from fedcredit.parties import InstitutionId

_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the members have said to the model of a run."""

    outcome: Outcome
    votes: Mapping[InstitutionId, Reason]
    """Of everybody who answered the closing; empty where nobody votes."""
    colluders: int

    @classmethod
    def of(cls, plan: RunPlan, answers: Mapping[InstitutionId, CloseAnswer]) -> Self:
        """Return what the answers make of the model under the plan's rule.

        Raises:
            MalformedMessageError: an answer votes where nobody votes, or does not vote.
        """
        votes = {name: reason for name in sorted(answers) if (reason := reason_of(plan, answers[name])) is not None}
        colluders = plan.privacy.colluders
        heard = [reason.choice for reason in votes.values() if reason is not Reason.NO_COUNTS]
        unheard = len(plan.institutions) - len(heard)
        decided = decide(heard, unheard=unheard, colluders=colluders)
        outcome = Outcome.NOT_VOTED if plan.vote_floor is None else decided
        return cls(outcome=outcome, votes=votes, colluders=colluders)

    def count(self, choice: Choice) -> int:
        """Return how many say so."""
        return sum(reason.choice is choice for reason in self.votes.values())

    def require_released(self) -> None:
        """Return unless the members have kept the model back.

        Raises:
            ModelNotReleasedError: they have.
        """
        if self.outcome is Outcome.NOT_RELEASED:
            raise ModelNotReleasedError(
                yes=self.count(Choice.YES),
                no=self.count(Choice.NO),
                abstain=self.count(Choice.ABSTAIN),
                colluders=self.colluders,
            )

    def record(self) -> dict[str, Encodable]:
        """Return the outcome and every vote with its reason, for the log and for files beside it."""
        votes = {str(name): [str(reason.choice), str(reason)] for name, reason in self.votes.items()}
        return {"verdict": str(self.outcome), "votes": votes}


def reason_of(plan: RunPlan, answer: CloseAnswer) -> Reason | None:
    """Return the reason of an answer's vote; ``None`` where nobody votes.

    Raises:
        MalformedMessageError: it is not what the plan asks for.
    """
    if plan.vote_floor is None:
        if (answer.vote, answer.reason) != (NO_VOTE, NO_VOTE):
            raise MalformedMessageError(what="answer", problem="it votes, and the plan says that nobody does")
        return None
    if answer.reason not in set(Reason) or Reason(answer.reason).choice != answer.vote:
        raise MalformedMessageError(what="answer", problem="its vote and the reason for it do not fit")
    return Reason(answer.reason)


def ballots_to_bytes(answers: Mapping[InstitutionId, Signed]) -> bytes:
    """Return the signed answers as the closing entry holds them."""
    return encode({str(name): [answers[name].body, answers[name].signature] for name in sorted(answers)})


def ballots_from_bytes(data: bytes) -> dict[InstitutionId, Signed]:
    """Return what ``ballots_to_bytes`` was called on; no signature is checked.

    Raises:
        MalformedMessageError: it was not called on this.
    """
    value = decode(data, what="ballots", limit=_LIMIT)
    if not isinstance(value, Mapping):
        raise MalformedMessageError(what="ballots", problem="they are no map")
    return {InstitutionId(name): _signed(item) for name, item in value.items()}


def _signed(item: Encodable) -> Signed:
    match item:
        case [bytes(body), bytes(signature)]:
            return Signed(body=body, signature=signature)
    raise MalformedMessageError(what="ballots", problem="one is not an answer with its signature")
