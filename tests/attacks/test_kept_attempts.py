"""PROTOCOL.md 9.1, attack 15, in what gave no sum: other bounds than the log says, and blame that nothing shows.

Each lie is told twice: by a coordinator of which nothing is asked that an older version did not keep, where it holds in
every check; and by one that has to keep what it asked and who had uploaded, or whose members remember it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from consortium import COORDINATOR, NAMES, RUN, SECURE, Consortium, Flaky, plan_of
from kept_runs import attempts, change, copied, opened_run, places, read, rewrite, trained

from fedcredit.audit.log import EventKind
from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG
from fedcredit.errors import AuditError, SumNotOpenedError
from fedcredit.messages import Signed
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_log import read_log
from fedcredit.rounds.evidence_member import Compared, MemberRecord, compare
from fedcredit.rounds.transcript import AttemptRecord
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.conflicts import Conflicts
from fedcredit.secagg.wire import Upload

BOUNDED = {
    **SECURE,
    "aggregation": {**SECURE["aggregation"], "update_bound": "share"},
    "run/rounds": 2,
    "rounds/retries": 0,
}
VICTIM = InstitutionId("insurer-d")


class PowerCutError(BaseException):
    """Ends the coordinator, or is what it says to whoever asks."""


def an_older_version(folder: Path) -> None:
    """Take away what an older coordinator would not have kept, as far as nobody has cosigned it."""
    for path in attempts(folder):
        path.unlink()
    rewrite(
        folder,
        [(kind, {name: value for name, value in fields.items() if name != "record"}) for kind, fields in read(folder)],
    )


# --- bounds ----------------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """A run whose second round asked with radii of zero, of which the log says what an honest one would."""

    folder: Path
    records: Mapping[str, MemberRecord]

    @classmethod
    def of(cls, folder: Path, *, cut_off: bool) -> Asked:
        """Let the second attempt fail at the agreement, or be cut off there, and write its entry anew."""
        consortium = Consortium.make(folder, plan_of(**BOUNDED), on_disk=True)

        def lost(name: str, number: int) -> bool:
            if number == 7 and cut_off:
                raise PowerCutError
            return number == 7

        with opened_run(consortium, Flaky(consortium.loopback(), lost)) as opened:
            rounds, contained = opened.run.rounds(), opened.run._contained
            next(rounds)
            honest = contained.radii(sorted(NAMES))
            contained.radii = lambda cohort: (0,) * len(cohort)  # type: ignore[method-assign]
            with pytest.raises((SumNotOpenedError, PowerCutError)):
                next(rounds)
        assert all(honest)
        run = folder / "run"
        change(run, places(read(run), EventKind.ROUND_OPENED)[-1], {"radii": list(honest)})
        records = {}
        for name, site in consortium.sites.items():
            witnessed = site.state.memory.witnessed(RUN)
            site.state.database.close()
            log = read_log(site.folder / "node.db")
            records[name] = MemberRecord(institution=site.name, witnessed=witnessed, log=log)
        return cls(run, records)

    def compared(self, name: str, *, remembered: bool) -> Compared:
        """Return what a member finds, with what its own log says of radii or without."""
        record = self.records[name]
        if not remembered:
            lines = tuple(
                replace(line, fields={key: value for key, value in line.fields.items() if key != "radii"})
                for line in record.log.lines
            )
            record = replace(record, log=replace(record.log, lines=lines))
        return compare(read_log(self.folder / "run.db"), RUN, record)


def test_other_radii_in_an_attempt_that_was_cut_off_are_found_by_every_member_that_remembers_them(
    tmp_path: Path,
) -> None:
    asked = Asked.of(tmp_path, cut_off=True)
    # Whoever has the folder alone learns only that there is an attempt without an end.
    assert verify_run(asked.folder).cut_off == 1
    opened = places(read(asked.folder), EventKind.ROUND_OPENED)[-1]
    assert read(asked.folder)[opened][1]["round"] == 2
    for name in NAMES:
        blind = asked.compared(name, remembered=False)
        # Two or three requests of the first round (three members' shares suffice), and the one upload.
        assert blind.unstated in {2 + 1, 3 + 1}
        with pytest.raises(AuditError, match="answers a request with other radii than the run's log says") as caught:
            asked.compared(name, remembered=True)
        assert caught.value.exit_code == 5
        line = asked.records[name].log.lines[caught.value.fields["index"]]
        assert (line.fields["round"], line.fields["stage"]) == (2, "upload")


def test_other_radii_in_an_attempt_that_failed_are_found_by_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked.of(tmp_path / "kept", cut_off=False)
    aborted = places(read(asked.folder), EventKind.ROUND_ABORTED)[-1]
    with pytest.raises(AuditError, match="The round manifest does not belong here: radii") as caught:
        verify_run(asked.folder)
    assert (caught.value.fields["index"], caught.value.exit_code) == (aborted, 5)
    monkeypatch.setattr("fedcredit.rounds.run.RECORDS", 1)
    older = Asked.of(tmp_path / "older", cut_off=False)
    an_older_version(older.folder)
    evidence = verify_run(older.folder)
    assert (evidence.unkept, evidence.released) == (1, 1)


def test_honest_radii_are_the_same_in_all_logs(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**BOUNDED), on_disk=True)
    folder = trained(consortium)
    assert verify_run(folder).released == 2
    for site in consortium.sites.values():
        witnessed = site.state.memory.witnessed(RUN)
        site.state.database.close()
        record = MemberRecord(institution=site.name, witnessed=witnessed, log=read_log(site.folder / "node.db"))
        assert compare(read_log(folder / "run.db"), RUN, record).unstated == 0


# --- blame -----------------------------------------------------------------------------------------------------------


def against_the_victim(commitments: Mapping[int, object], *, cohort: Cohort, colluders: int) -> Conflicts:
    """Say that the victim contradicts others, whatever they have committed to."""
    places = frozenset({cohort.places[VICTIM]})
    return Conflicts(left_out=places, liars=places)


def slandered(folder: Path) -> Path:
    """Return a run of one round whose coordinator blames an honest member and adds up the others."""
    consortium = Consortium.make(folder, plan_of(**SECURE, **{"run/rounds": 1}))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fedcredit.secagg.aggregator.conflicts", against_the_victim)
        run = trained(consortium)
    log = read(run)
    assert [log[index][1]["institution"] for index in places(log, EventKind.MEMBER_BLAMED)] == [VICTIM]
    assert VICTIM not in log[places(log, EventKind.ROUND_RELEASED)[0]][1]["contributors"]
    return run


def test_false_blame_holds_where_nothing_has_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcredit.rounds.run.RECORDS", 1)
    folder = slandered(tmp_path)
    an_older_version(folder)
    evidence = verify_run(folder)
    assert (evidence.released, evidence.unkept, evidence.blames) == (1, 1, 0)


def nothing_more(folder: Path) -> None:
    """Keep what an honest program keeps."""


def no_record(folder: Path) -> None:
    attempts(folder)[0].unlink()


def retold(folder: Path, changed: Callable[[AttemptRecord], AttemptRecord]) -> None:
    path = attempts(folder)[0]
    data = changed(AttemptRecord.from_bytes(path.read_bytes())).to_bytes()
    path.write_bytes(data)
    change(folder, places(read(folder), EventKind.COHORT_SELECTED)[0], {"record": hashlib.sha256(data).digest()})


def without_the_victim(folder: Path) -> None:
    retold(
        folder,
        lambda it: replace(it, uploads={name: item for name, item in it.uploads.items() if name != VICTIM}),
    )


def other_commitments_of_the_victim(folder: Path) -> None:
    """Make up commitments that contradict everybody's, and the log's entry of the answer with them."""
    upload = Upload.from_bytes(AttemptRecord.from_bytes(attempts(folder)[0].read_bytes()).uploads[VICTIM].body)
    body = replace(upload, commitments=(upload.commitments[0], *(bytes([i]) * 32 for i in range(3)))).to_bytes()
    item = Signed(body=body, signature=sign(COORDINATOR, tag=ANSWER_TAG, body=body))
    retold(folder, lambda it: replace(it, uploads={**it.uploads, VICTIM: item}))
    log = read(folder)
    taken = [index for index in places(log, EventKind.ANSWER_ACCEPTED) if log[index][1]["institution"] == VICTIM]
    change(folder, taken[0], {"answer": hashlib.sha256(body).digest()})


def commitments_of_somebody_else(folder: Path) -> None:
    """Show another member's signed commitments under the victim's name."""
    retold(folder, lambda it: replace(it, uploads={**it.uploads, VICTIM: it.uploads[InstitutionId("bank-a")]}))


HIDDEN: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "not at all": (nothing_more, "blames insurer-d for contradicting others, where the commitments show nobody"),
    "no entry names a record": (an_older_version, "names no record of what was asked, and of who had answered"),
    "the record is gone": (no_record, "names a transcript that is missing"),
    "a record without the victim": (without_the_victim, "uploads, without that of insurer-d"),
    "made-up commitments": (other_commitments_of_the_victim, "FC-3103: The signature of insurer-d on the upload"),
    "somebody else's commitments": (commitments_of_somebody_else, "FC-3103: The signature of insurer-d on the upload"),
}


@pytest.fixture(scope="module")
def slander(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slandered(tmp_path_factory.mktemp("slander"))


@pytest.mark.parametrize("hidden", HIDDEN)
def test_false_blame_is_found_however_it_is_hidden(slander: Path, tmp_path: Path, hidden: str) -> None:
    folder = copied(slander, tmp_path / "run")
    hide, problem = HIDDEN[hidden]
    hide(folder)
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(folder)
    selected = places(read(folder), EventKind.COHORT_SELECTED)[0]
    assert (caught.value.fields["index"], caught.value.exit_code, caught.value.code) == (selected, 5, "FC-3301")
