"""PROTOCOL.md 9.1, attack 15: an aggregator that lies about a finished run is found by every auditor.

It owns the log, its files and its own keys, and writes the chain anew after each lie. Five auditors look: somebody with
the folder alone, and each of the four members, who has beside it the head that it cosigned and its own log. More lies,
field by field, are in ``unit/rounds/test_evidence_*``; here each is told to everybody.

Three are known to nobody but the members who were asked, and prove nothing: an upload that is said never to have come,
a sum that was opened and thrown away, a vote that was left out. Members get no receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from consortium import NAMES, RUN, SECURE, Consortium, Flaky, plan_of
from kept_runs import change, copied, driven, places, read, retell, rewrite, transcripts

from fedcredit.audit.log import EventKind
from fedcredit.errors import AuditError, FedcreditError
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_log import read_log
from fedcredit.rounds.evidence_member import Compared, MemberRecord, compare
from fedcredit.rounds.transcript import SignedUpload, Transcript

BANK = InstitutionId("bank-a")
FIRST_SHARES = (5, 6)
"""Exchanges in which the first training round's shares are asked for: of three members, and of the fourth."""


@dataclass
class Finished:
    """A run that is over, and what its members have kept of it."""

    folder: Path
    records: Mapping[str, MemberRecord]

    @classmethod
    def of(cls, consortium: Consortium, lost: Callable[[str, int], bool]) -> Finished:
        folder = driven(consortium, Flaky(consortium.loopback(), lost, lose_reply=True))
        records = {}
        for name, site in consortium.sites.items():
            witnessed = site.state.memory.witnessed(RUN)
            site.state.database.close()
            records[name] = MemberRecord(
                institution=site.name, witnessed=witnessed, log=read_log(site.folder / "node.db")
            )
        return cls(folder, records)

    def compared(self, folder: Path, name: str) -> Compared:
        """Return what a member finds that holds the folder beside its own record."""
        return compare(read_log(folder / "run.db"), RUN, self.records[name])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    consortium = Consortium.make(tmp_path_factory.mktemp("run"), plan_of(**SECURE), on_disk=True)
    return Finished.of(consortium, lambda *_: False)


# --- the lies --------------------------------------------------------------------------------------------------------


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def a_coordinate_of_an_upload(folder: Path) -> None:
    """Change one number of one masked vector, and the digest that the log has of the transcript."""

    def bent(transcript: Transcript) -> Transcript:
        upload = transcript.uploads[BANK]
        other = SignedUpload(upload.body, upload.signature, flipped(upload.bulk, 0))
        return replace(transcript, uploads={**transcript.uploads, BANK: other})

    path = [path for path in transcripts(folder) if "train" in path.name][-1]
    transcript = bent(Transcript.from_bytes(path.read_bytes()))
    path.write_bytes(transcript.to_bytes())
    log = read(folder)
    trained = [index for index in places(log, EventKind.SUM_OPENED) if log[index][1]["purpose"] == "train"]
    change(folder, trained[-1], {"transcript": transcript.digest()})


def a_coordinate_of_the_sum(folder: Path) -> None:
    """Put the digest of another sum into the log, and leave the transcript as it is."""
    index = places(read(folder), EventKind.SUM_OPENED)[0]
    change(folder, index, {"total": flipped(read(folder)[index][1]["total"], 0)})


def a_transcript_of_another_round(folder: Path) -> None:
    """Show the first round's messages for the last sum."""
    retell(folder, transcripts(folder)[-1], lambda _: Transcript.from_bytes(transcripts(folder)[0].read_bytes()))


def without_a_signed_upload(folder: Path) -> None:
    """Take one answer out of the log that was in it, and its sender out of those who were added up."""
    log = read(folder)
    index = next(index for index in places(log, EventKind.ANSWER_ACCEPTED) if log[index][1]["institution"] == BANK)
    chosen = next(place for place in places(log, EventKind.COHORT_SELECTED) if place > index)
    fewer = [name for name in log[chosen][1]["contributors"] if name != BANK]
    log[chosen] = log[chosen][0], {**log[chosen][1], "contributors": fewer}
    rewrite(folder, [*log[:index], *log[index + 1 :]])


def an_upload_without_a_word(folder: Path) -> None:
    """Leave an answer in the log, and its sender out of those who were added up."""
    log = read(folder)
    chosen = places(log, EventKind.COHORT_SELECTED)[0]
    fewer = [name for name in log[chosen][1]["contributors"] if name != BANK]
    change(folder, chosen, {"contributors": fewer})


def an_old_model(folder: Path) -> None:
    """Release the model of the round before once more."""
    log = read(folder)
    before, last = places(log, EventKind.ROUND_RELEASED)[-2:]
    old = {name: log[before][1][name] for name in ("checkpoint", "weights", "released")}
    change(folder, last, old)
    files = sorted((folder / "checkpoints").glob("*"))
    assert len(files) >= 2
    files[-1].write_bytes(files[-2].read_bytes())


def an_old_model_to_train_on(folder: Path) -> None:
    """Say that the last round was asked with the weights of the one before."""
    log = read(folder)
    opened = [place for place in places(log, EventKind.ROUND_OPENED) if log[place][1]["purpose"] == "train"]
    change(folder, opened[-1], {"manifest": log[opened[-2]][1]["manifest"]})


LIES: Mapping[str, Callable[[Path], None]] = {
    "one coordinate of an upload": a_coordinate_of_an_upload,
    "one coordinate of the sum": a_coordinate_of_the_sum,
    "a transcript of another round": a_transcript_of_another_round,
    "a signed upload omitted": without_a_signed_upload,
    "a logged upload not added up": an_upload_without_a_word,
    "an old model released again": an_old_model,
    "an old model trained on": an_old_model_to_train_on,
}


def test_every_auditor_finds_that_an_honest_run_holds(finished: Finished, tmp_path: Path) -> None:
    folder = copied(finished.folder, tmp_path / "run")
    evidence = verify_run(folder)
    assert (evidence.released, evidence.sums, evidence.closed) == (3, 4, True)
    for name in NAMES:
        found = finished.compared(folder, name)
        # Four uploads and the end; of the shares, three members' suffice, and the fourth is not asked.
        assert found.accepted == 4 + 1
        assert found.answered in {2 + 4 * 3 + 1, 2 + 4 * 2 + 1}
        assert (found.unused, found.unheard) == (0, False)


@pytest.mark.parametrize("lie", LIES)
def test_every_auditor_finds_the_lie(finished: Finished, tmp_path: Path, lie: str) -> None:
    folder = copied(finished.folder, tmp_path / "run")
    LIES[lie](folder)
    with pytest.raises(AuditError) as caught:
        verify_run(folder)
    assert caught.value.exit_code == 5
    assert isinstance(caught.value.fields["index"], int)
    for name in NAMES:
        with pytest.raises(FedcreditError) as found:
            finished.compared(folder, name)
        assert found.value.exit_code == 5, name


def test_an_upload_that_is_said_never_to_have_come_is_known_to_its_member_and_proven_to_nobody(tmp_path: Path) -> None:
    """A limit, not a promise: a coordinator that swallows an answer and a network that loses it look alike."""
    consortium = Consortium.make(tmp_path / "made", plan_of(**SECURE), on_disk=True)
    swallowed = Finished.of(consortium, lambda name, number: (name, number) == (BANK, 6))
    assert verify_run(swallowed.folder).released == 3
    counts = {name: swallowed.compared(swallowed.folder, name) for name in NAMES}
    left_out = {name for name, found in counts.items() if found.accepted < 4 + 1}
    assert left_out == {BANK}
    log = read(swallowed.folder)
    chosen = [log[place][1]["contributors"] for place in places(log, EventKind.COHORT_SELECTED)]
    assert [BANK in names for names in chosen] == [True, False, True, True]


def test_a_sum_that_was_opened_and_thrown_away_is_told_beside_the_members_who_gave_shares_for_it(
    tmp_path: Path,
) -> None:
    """The coordinator gets the shares of the first training round, and says that they never came."""
    consortium = Consortium.make(tmp_path / "made", plan_of(**SECURE), on_disk=True)
    thrown = Finished.of(consortium, lambda _, number: number in FIRST_SHARES)
    assert verify_run(thrown.folder).released == 3
    counts = {name: thrown.compared(thrown.folder, name).unused for name in NAMES}
    assert counts == dict.fromkeys(NAMES, 1)


def test_a_vote_that_is_said_never_to_have_come_is_told_beside_its_member(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path / "made", plan_of(**SECURE), on_disk=True)
    closing = 2 + 4 * 3 + 1
    censored = Finished.of(consortium, lambda name, number: (name, number) == (BANK, closing))
    assert verify_run(censored.folder).released == 3
    unheard = {name: censored.compared(censored.folder, name).unheard for name in NAMES}
    assert unheard == {name: name == BANK for name in NAMES}
