"""The hold-out vote: what one institution says to a candidate model, from its own noised score counts.

The counts carry the noise that the plan charges the hold-out borrowers for, so the vote is post-processing. That holds
for counts that are private **alone**: under shared noise an institution's own counts carry only a share, and a vote on
them is a release of its own, to be charged as one.

``decide`` is the rule. With c colluders a model is released if more than c institutions say yes, and more yes than no
or unheard. So colluders alone neither release a model nor keep one back, as long as more than c of the others can tell.
A single no is no veto: whoever holds only inputs that tell nothing ranks its borrowers by chance with every model.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from fedcredit.errors import EvaluationError, EvaluationInputError
from fedcredit.evaluation.counts import ScoreCounts
from fedcredit.evaluation.figures import noisy_auc_interval
from fedcredit.evaluation.intervals import Interval


class Choice(enum.StrEnum):
    """What an institution says."""

    YES = "yes"
    NO = "no"
    ABSTAIN = "abstain"


class Reason(enum.StrEnum):
    """Why."""

    BETTER_THAN_CHANCE = "better-than-chance"
    """The interval reaches the floor, and chance lies below it."""
    BELOW_FLOOR = "below-floor"
    """The whole interval lies below the floor."""
    CANNOT_TELL = "cannot-tell"
    """The interval holds chance and the floor."""
    TOO_FEW = "too-few"
    """Too few defaults or too few others for an interval."""
    NO_COUNTS = "no-counts"
    """The institution took no part in the evaluation."""

    @property
    def choice(self) -> Choice:
        """Return what it is the reason for."""
        return {Reason.BETTER_THAN_CHANCE: Choice.YES, Reason.BELOW_FLOOR: Choice.NO}.get(self, Choice.ABSTAIN)


class Outcome(enum.StrEnum):
    """What the votes make of a model."""

    RELEASED = "released"
    NOT_RELEASED = "not-released"
    NOT_VOTED = "not-voted"
    """The plan says that nobody votes."""


_CHANCE: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One institution's vote; all of it may leave if the counts may."""

    reason: Reason
    auc: Interval | None
    """The AUC with its 95 % interval; ``None`` without one."""

    @property
    def choice(self) -> Choice:
        """Return what the institution says."""
        return self.reason.choice


def decide(choices: Collection[Choice], *, unheard: int, colluders: int) -> Outcome:
    """Return whether a model is released: more than ``colluders`` say yes, and more than say no or were not heard.

    Whom the coordinator does not hear counts as a no, or it could leave out those who would say it.
    """
    votes = list(choices)
    passed = votes.count(Choice.YES) > max(colluders, votes.count(Choice.NO) + unheard)
    return Outcome.RELEASED if passed else Outcome.NOT_RELEASED


def vote(counts: ScoreCounts, *, noise_deviation: float, floor: float) -> Vote:
    """Return the vote on the model that ``counts`` were scored with.

    The answer is *no* if the 95 % interval of the AUC, from sampling and noise, ends below the floor: a model exactly
    as good as the floor gets that in about 1 of 30 tables, a better one less often. It is *yes* if the interval reaches
    the floor and chance, 0.5, lies below the interval. A table that excludes neither speaks neither for nor against.

    The vote sees ranking over all borrowers. It does not see a wrong level, nor a backdoor that few borrowers trigger.

    Args:
        counts: the institution's own released table, its noise included.
        noise_deviation: standard deviation of the noise in one cell, in rows; public, from the privacy plan.
        floor: the plan's public least AUC, strictly between 0.5 and 1.

    Raises:
        EvaluationInputError: the floor or the deviation is out of range.
    """
    if not _CHANCE < floor < 1.0:
        raise EvaluationInputError(what="the floor of a vote", problem="it is not strictly between 0.5 and 1")
    try:
        auc = noisy_auc_interval(counts, noise_deviation=noise_deviation)
    except EvaluationError:
        return Vote(reason=Reason.TOO_FEW, auc=None)
    if auc.high < floor:
        return Vote(reason=Reason.BELOW_FLOOR, auc=auc)
    if auc.low > _CHANCE:
        return Vote(reason=Reason.BETTER_THAN_CHANCE, auc=auc)
    return Vote(reason=Reason.CANNOT_TELL, auc=auc)
