"""The rounds of a log, followed entry by entry: what was asked, who answered, what was added up, what came of it.

After reading ``Rounds.follow`` you can retell what an honest coordinator writes. Every entry is checked against those
before it and against the signed messages of its round; the first one that does not fit ends the verification.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedcredit.audit.checkpoint_note import NoteSignature, verify_cosignature
from fedcredit.audit.log import EventKind
from fedcredit.encoding import Encodable
from fedcredit.errors import NotFinalError, UpdateOutOfRangeError
from fedcredit.evaluation.vote import Outcome
from fedcredit.messages import NO_EPOCH, Purpose
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence_asked import AskedRound, recorded_setup, replayed_sum
from fedcredit.rounds.evidence_attempts import recorded_attempt
from fedcredit.rounds.evidence_log import Line, RunLog, is_digest
from fedcredit.rounds.evidence_manifests import ExpectedManifest
from fedcredit.rounds.evidence_models import Models
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.rounds.evidence_privacy import Releases
from fedcredit.rounds.evidence_sums import ReplayedSum
from fedcredit.rounds.evidence_votes import count_again
from fedcredit.rounds.transcript import TRANSCRIPTS
from fedcredit.rounds.voting import Verdict
from fedcredit.secagg.agreement import require_safe_difference

_LAST: Final = frozenset({Purpose.EVALUATE, Purpose.CLOSE})
_OPEN_ANYWAY: Final = frozenset({Purpose.SETUP, Purpose.CLOSE})
"""Purposes without a masked sum, also under secure aggregation."""


@dataclass(kw_only=True)
class _Epoch:
    epoch: bytes
    cohort: tuple[InstitutionId, ...]
    steps: int = 0


class Rounds:
    """Follows a log from its second entry to its end."""

    def __init__(self, log: RunLog, opening: Opening, models: Models, folder: Path) -> None:
        self.asked: Final[list[AskedRound]] = []
        self.models = models
        self.releases = Releases(opening)
        self.evaluated: tuple[Line, AskedRound] | None = None
        """The last evaluation."""
        self.verdict: Verdict | None = None
        self.finished = False
        self.epochs = 0
        self._log = log
        self._opening = opening
        self._transcripts = folder / TRANSCRIPTS
        self._attempts: Counter[tuple[int, Purpose]] = Counter()
        self._epoch: _Epoch | None = None
        self._follow: Final[Mapping[EventKind, Callable[[Line], object]]] = {
            EventKind.ROUND_OPENED: self._open,
            EventKind.ANSWER_ACCEPTED: self._accept,
            EventKind.ANSWER_REFUSED: self._current,
            EventKind.INSTITUTION_REFUSED: self._current,
            EventKind.MEMBER_BLAMED: self._blame,
            EventKind.EPOCH_READY: self._ready,
            EventKind.EPOCH_FAILED: self._ready,
            EventKind.COHORT_SELECTED: self._select,
            EventKind.SUM_OPENED: self._add_up,
            EventKind.ROUND_ABORTED: self._abort,
            EventKind.PREPARED: self._prepare,
            EventKind.ROUND_RELEASED: self._release,
            EventKind.EVALUATED: self._evaluate,
            EventKind.CLOSED: self._close,
            EventKind.RUN_FINISHED: self._finish,
            EventKind.MODEL_REJECTED: self._finish,
        }

    def follow(self, line: Line) -> None:
        """Take the next entry.

        Raises:
            AuditError: it does not follow from those before, or the files that it names say otherwise.
        """
        line.require(line.kind is not EventKind.RUN_OPENED, "opens the run a second time")
        line.require(line.fields.get("run") == self._opening.run, "belongs to another run")
        line.require(line.kind in self._follow, "is of a kind that no coordinator writes")
        self._follow[line.kind](line)

    # --- a round is asked for ----------------------------------------------------------------------------------------

    def _open(self, line: Line) -> None:
        purpose, number = self._purpose(line), line.number("round")
        # Numbers may be left out: an attempt that failed in the set-up of its keys was never asked for.
        line.require(line.number("attempt") > self._attempts[number, purpose], "opens a round a second time")
        self.settle(line)
        self._attempts[number, purpose] = line.number("attempt")
        self._require_turn(line, purpose, number)
        manifest, cohort = line.octets("manifest"), line.names("cohort")
        line.require(
            is_digest(manifest) and all(manifest != other.manifest for other in self.asked), "reuses a manifest"
        )
        line.require(list(cohort) == sorted(cohort), "names a cohort out of order")
        line.require(
            set(cohort) <= set(self._opening.identities) and len(cohort) >= self._opening.plan.rounds.quorum,
            "asks others than the plan's institutions, or too few",
        )
        signed, lanes = self._expected(line, purpose, cohort)
        self.asked.append(
            AskedRound(
                line=line,
                purpose=purpose,
                place=(number, line.number("attempt"), str(purpose)),
                manifest=manifest,
                cohort=cohort,
                signed=signed,
                lanes=lanes,
            )
        )

    def settle(self, line: Line) -> None:
        """Return if nobody stays blamed in a round that just ends there: a coordinator writes both, or nothing.

        Raises:
            AuditError: ``line``, which comes behind such a round, or is the last of the log.
        """
        asked = self.asked[-1] if self.asked else None
        if asked is not None and asked.sum is None and not asked.over:
            line.require(
                not asked.blamed and (bool(asked.selected) or not asked.conflicting),
                "comes behind a round that blames a member, and then has neither a cohort nor a sum nor an end",
            )

    def _require_turn(self, line: Line, purpose: Purpose, number: int) -> None:
        """Return if this is what an honest coordinator asks for next."""
        plan, models = self._opening.plan, self.models
        due = {
            Purpose.SETUP: 0,
            Purpose.PREPARE: 1,
            Purpose.TRAIN: models.released + 1,
            Purpose.EVALUATE: plan.run.rounds,
            Purpose.CLOSE: plan.run.rounds,
        }[purpose]
        preparing = purpose is Purpose.PREPARE
        early = purpose in _LAST and models.released < plan.run.rounds
        unprepared = purpose is Purpose.TRAIN and plan.privacy.preparation_share and not models.prepared
        line.require(number == due and not early and not unprepared, "opens a round out of turn")
        line.require(number <= plan.run.rounds, "opens a round that the plan does not have")
        line.require(
            not preparing or bool(plan.privacy.preparation_share and not models.prepared and not models.released),
            "opens a preparation that the plan does not have, or has had",
        )
        line.require(
            purpose is not Purpose.SETUP or plan.secure is not None, "sets up keys that the plan has no use for"
        )

    def _expected(
        self, line: Line, purpose: Purpose, cohort: tuple[InstitutionId, ...]
    ) -> tuple[ExpectedManifest, int | None]:
        """Return what the manifest says, and how many numbers a masked answer has; ``None`` if answers are open."""
        plain = ExpectedManifest(digest=line.octets("manifest"), fields=self._plain_fields(line, purpose, cohort))
        if purpose is Purpose.SETUP:
            return plain, None
        radii = self.models.contained.radii(cohort) if purpose is Purpose.TRAIN else ()
        stated = line.fields.get("radii")
        line.require(stated == list(radii), "bounds its members otherwise than the plan and the last sum do")
        weights = self.models.weights_digest(purpose)
        line.require(line.octets("weights") == weights, "asks with other weights than the log released last")
        signed = plain.with_fields(weights_digest=weights, release=self.models.release_index, radii=radii)
        if self._opening.plan.secure is None or purpose in _OPEN_ANYWAY:
            line.require(set(cohort) == set(self._opening.identities), "does not ask every institution of the plan")
            return signed, None
        epoch = self._epoch
        if epoch is None:
            raise line.error("asks for masked answers before any keys were agreed on")
        line.require(cohort == epoch.cohort, "asks others than the members of the epoch")
        signed = signed.with_fields(epoch=epoch.epoch, step=epoch.steps)
        epoch.steps += 1
        return signed, self._opening.lanes(purpose)

    def _plain_fields(self, line: Line, purpose: Purpose, cohort: tuple[InstitutionId, ...]) -> dict[str, Encodable]:
        """Return what the manifest of a set-up says; a round names an epoch and weights beside."""
        return {
            "consortium": self._opening.plan.run.consortium,
            "run": self._opening.run,
            "round": line.number("round"),
            "attempt": line.number("attempt"),
            "purpose": str(purpose),
            "plan_digest": self._opening.plan_digest,
            "roster_digest": self._opening.roster_digest,
            "weights_digest": bytes(32),
            "cohort": cohort,
            "quorum": self._opening.plan.rounds.quorum,
            "epoch": NO_EPOCH,
            "step": 0,
            "log_size": line.index,
            "log_root": self._log.tree.root(line.index),
            "release": 0,
            "radii": (),
        }

    def _ready(self, line: Line) -> None:
        asked = self._current(line, Purpose.SETUP)
        line.require(line.octets("manifest") == asked.manifest, "names another set-up")
        cohort, epoch = line.names("cohort"), line.octets("epoch")
        asked.over = True
        if line.kind is EventKind.EPOCH_FAILED:
            self._record(line, asked)
            return
        line.require(
            list(cohort) == sorted(cohort) and set(cohort) <= set(asked.cohort), "names others than were asked"
        )
        line.require(len(cohort) >= self._opening.plan.rounds.quorum, "agrees on keys with too few members")
        line.require(is_digest(epoch) and epoch != NO_EPOCH, "names no epoch")
        found = recorded_setup(line, asked, self._opening, self._transcripts)
        line.require(found == (epoch, cohort), f"names other keys than {asked.name}")
        asked.ready = True
        self._epoch = _Epoch(epoch=epoch, cohort=cohort)
        self.epochs += 1

    # --- answers -----------------------------------------------------------------------------------------------------

    def _accept(self, line: Line) -> None:
        asked, name = self._current(line), InstitutionId(line.text("institution"))
        line.require(asked.purpose is not Purpose.SETUP and not asked.selected, "takes an answer that nobody asked for")
        line.require(name in asked.cohort, "takes an answer of somebody who was not asked")
        line.require(name not in asked.answers, "takes a second answer of one member")
        line.require(is_digest(line.octets("answer")) and is_digest(line.octets("ledger_head")), "names no answer")
        line.require(line.number("log_size") == asked.line.index, "names another state of the log than its round")
        with line.naming("has a cosignature that does not hold"):
            note = NoteSignature.from_line(line.text("cosignature"))
            checkpoint = self._log.checkpoint(asked.line.index, origin=self._opening.origin)
            verify_cosignature(checkpoint, note, name=name, identity=self._opening.identities[name])
        self.releases.take(line, name, asked.purpose)
        asked.answers[name] = line

    def _blame(self, line: Line) -> None:
        asked, name = self._current(line), line.text("institution")
        masked = asked.lanes is not None and name in asked.answers
        line.require(masked and asked.sum is None, "blames somebody whose masked answer it does not hold")
        (asked.blamed if asked.selected else asked.conflicting).add(name)

    def _select(self, line: Line) -> None:
        asked, members = self._current(line), line.names("contributors")
        line.require(asked.lanes is not None, "selects a cohort for an open question")
        line.require(not asked.selected, "selects a second cohort for one round")
        line.require(list(members) == sorted(members), "names its members out of order")
        self._require_answered(line, asked, members)
        self._require_everybody(line, asked, members)
        asked.selected, asked.selection = members, line.octets("selection")
        if set(members) != set(asked.answers):
            self._record(line, asked)

    def _record(self, line: Line, asked: AskedRound) -> None:
        """Return if the record that the entry names holds; in a log of before there may be none."""
        if "record" not in line.fields and not self._opening.keeps_attempts:
            asked.unkept = True
            return
        line.require("record" in line.fields, "names no record of what was asked, and of who had answered")
        recorded_attempt(line, asked, self._opening, self._transcripts, digest=line.octets("record"))
        asked.recorded = True

    def _require_everybody(self, line: Line, asked: AskedRound, members: tuple[InstitutionId, ...]) -> None:
        """Return if nobody was left out without a word.

        Who revealed shares for an earlier attempt agrees to the same members only, so others may have to wait.
        """
        line.require(asked.conflicting.isdisjoint(members), "takes the answer of a member that it blames")
        left_out = sorted(set(asked.answers) - set(members) - asked.conflicting)
        again = any(other.selected == members for other in self._of_same_round(asked))
        problem = f"leaves out {', '.join(left_out)}, whose answer was accepted, and does not say why"
        line.require(not left_out or again, problem)

    def _of_same_round(self, asked: AskedRound) -> list[AskedRound]:
        """Return the earlier attempts of a round."""
        place = (asked.place[0], asked.purpose)
        return [other for other in self.asked if other is not asked and (other.place[0], other.purpose) == place]

    def _require_answered(self, line: Line, asked: AskedRound, members: tuple[InstitutionId, ...]) -> None:
        line.require(
            set(members) <= set(asked.answers) and len(members) >= self._opening.plan.rounds.quorum,
            "names contributors whose answers the log does not hold, or too few",
        )

    # --- sums --------------------------------------------------------------------------------------------------------

    def _add_up(self, line: Line) -> None:
        asked = self._current(line)
        line.require(bool(asked.selected), "opens a sum of no cohort")
        line.require(asked.sum is None, "opens a second sum of one round")
        found = replayed_sum(line, asked, self._opening, self._transcripts, digest=line.octets("transcript"))
        line.require(found.wrong == asked.blamed, "blames others than those whose shares are wrong")
        line.require(line.octets("total") == found.total_digest, "names another sum than its signed messages give")
        with line.naming("opens a sum too close to an earlier one"):
            for other in self._of_same_round(asked):
                if other.sum is not None:
                    require_safe_difference(
                        asked.selected, other.selected, colluders=self._opening.plan.privacy.colluders
                    )
        asked.sum = found

    def unrecorded(self, name: str) -> bool:
        """Return whether a transcript that no entry names is of a round that the coordinator did not live to record.

        Raises:
            AuditError: it is of such a round, and does not hold.
        """
        asked = next((item for item in self.asked if name in {item.name, item.attempt_name}), None)
        if asked is None or name in self.recorded:
            return False
        if name == asked.attempt_name:
            if not asked.over:
                recorded_attempt(asked.line, asked, self._opening, self._transcripts, digest=None)
            return not asked.over
        if asked.purpose is Purpose.SETUP:
            recorded_setup(asked.line, asked, self._opening, self._transcripts)
        elif asked.selected:
            replayed_sum(asked.line, asked, self._opening, self._transcripts, digest=None)
        return asked.purpose is Purpose.SETUP or bool(asked.selected)

    @property
    def recorded(self) -> frozenset[str]:
        """Return the file names of the transcripts behind the log's sums and epochs."""
        named = {asked.name for asked in self.asked if asked.sum or asked.ready}
        return frozenset(named | {asked.attempt_name for asked in self.asked if asked.recorded})

    # --- what comes of them ------------------------------------------------------------------------------------------

    def _abort(self, line: Line) -> None:
        asked = self._current(line)
        asked.over = True
        # A sum that was opened is used, unless it is out of range: nobody may choose among sums. With open aggregation
        # only the coordinator knows them.
        said = line.fields.get("code") == UpdateOutOfRangeError.code
        found = asked.sum if asked.purpose is Purpose.TRAIN else None
        holds = self._out_of_range(asked, found) and said if found else not said or self._opening.plan.secure is None
        line.require(holds, "gives up a sum that is in range, or that was never opened")
        if asked.sum is None:
            line.require(not asked.blamed, "gives up a round in which it blames members for the shares of no sum")
            self._record(line, asked)

    def _out_of_range(self, asked: AskedRound, found: ReplayedSum) -> bool:
        try:
            self.models.contained.require(found.total, asked.selected, round_number=asked.place[0])
        except UpdateOutOfRangeError:
            return True
        return False

    def _prepare(self, line: Line) -> None:
        asked = self._ended(line, Purpose.PREPARE)
        self.models.prepare(line, asked.total)

    def _release(self, line: Line) -> None:
        line.require(line.fields.get("round") == self.models.released + 1, "releases a round out of order")
        asked = self._ended(line, Purpose.TRAIN)
        self.models.release(line, asked.total, asked.contributors)

    def _evaluate(self, line: Line) -> None:
        self.evaluated = line, self._ended(line, Purpose.EVALUATE)

    def _close(self, line: Line) -> None:
        asked = self._ended(line, Purpose.CLOSE)
        line.require(line.number("log_size") == asked.line.index, "closes another state of the log than was cosigned")
        line.require(self.verdict is None, "closes the run a second time")
        line.require(
            line.octets("weights") == self.models.weights_digest(Purpose.CLOSE),
            "closes with votes on another model than was released last",
        )
        self.verdict = count_again(line, asked.manifest, asked.answers, self._opening)

    def _finish(self, line: Line) -> None:
        line.require(not self.finished, "finishes the run a second time")
        line.require(self.models.released == self._opening.plan.run.rounds, "finishes before the last round")
        line.require(line.octets("checkpoint") == self.models.digest, "finishes with another model than was released")
        line.require(self.verdict is not None, "finishes a run that was not closed")
        kept_back = self.verdict is not None and self.verdict.outcome is Outcome.NOT_RELEASED
        line.require(
            kept_back == (line.kind is EventKind.MODEL_REJECTED), "finishes otherwise than the votes have decided"
        )
        self.finished = True

    def _ended(self, line: Line, purpose: Purpose) -> AskedRound:
        """Return the round that this entry ends: its contributors are those who answered, and enough cosigned."""
        asked = self.asked[-1] if self.asked else None
        if asked is None or asked.purpose is not purpose or asked.over:
            raise line.error("ends a round that is not open")
        line.require(line.octets("manifest") == asked.manifest, "names another manifest than its round")
        line.require(asked.lanes is None or asked.sum is not None, "ends a round whose sum was not opened")
        contributors = line.names("contributors")
        self._require_answered(line, asked, contributors)
        line.require(contributors == asked.contributors, "names other contributors than the answers in its sum")
        with line.naming("ends a round whose state of the log is not final"):
            self.witnesses(asked)
        asked.over = True
        return asked

    def witnesses(self, asked: AskedRound) -> tuple[InstitutionId, ...]:
        """Return who cosigned the log as it was when the round was opened; each cosignature was verified on arrival.

        As ``audit.witness.require_final``, for cohorts of any size: one key under two names counts once.

        Raises:
            NotFinalError: too few.
        """
        identities, needed = self._opening.identities, self._opening.final_at
        signers = {identities[name].signing: name for name in asked.answers}
        if len(signers) < needed:
            missing = ", ".join(sorted(identities.keys() - signers.values()))
            raise NotFinalError(size=asked.line.index, valid=len(signers), needed=needed, missing=missing)
        return tuple(sorted(signers.values()))

    def final(self) -> tuple[int, tuple[InstitutionId, ...]]:
        """Return the largest final size of the log, and who cosigned it; 0 and nobody if there is none."""
        for asked in reversed(self.asked):
            try:
                return asked.line.index, self.witnesses(asked)
            except NotFinalError:
                continue
        return 0, ()

    # --- shared ------------------------------------------------------------------------------------------------------

    def _purpose(self, line: Line) -> Purpose:
        text = line.text("purpose")
        line.require(text in set(Purpose), "has a purpose that no round has")
        return Purpose(text)

    def _current(self, line: Line, purpose: Purpose | None = None) -> AskedRound:
        """Return the round to which the entry says that it belongs: the last one, while it is not over."""
        asked = self.asked[-1] if self.asked else None
        place = (line.number("round"), line.number("attempt"), line.text("purpose"))
        if asked is None or asked.over or asked.place != place or purpose not in {None, asked.purpose}:
            raise line.error("does not belong to the round that is open")
        return asked
