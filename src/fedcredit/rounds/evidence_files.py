"""The other files of a run's folder: transcripts that nothing names, and copies of the log for people and programs.

A coordinator that was cut off leaves a copy behind the log, or a transcript that it could not record any more; neither
may say anything else than the log.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.errors import RunNotFoundError, UsageError
from fedcredit.rounds.drive import CLOSING_FILE, PREPARATION_FILE, ROUNDS_FILE
from fedcredit.rounds.evidence_log import JOURNAL, RUN_DATABASE, Line, RunLog, open_database
from fedcredit.rounds.evidence_models import read_json
from fedcredit.rounds.evidence_rounds import Rounds
from fedcredit.rounds.transcript import TRANSCRIPTS
from fedcredit.store.journal import Journal

_OF_THE_CLOSING: Final = ("contributors", "verdict", "votes")
READABLE_LOG: Final = "audit.jsonl"
ANCHORS: Final = "anchors"
_PLACES: Final = (
    RUN_DATABASE,
    *(f"{place}/*/{RUN_DATABASE}" for place in ("runs", "coordinator/runs", "*/runs", "*/coordinator/runs")),
)
"""Where a run may lie below the folder that somebody names: a run, a coordinator, a demo, or what is above them."""


def run_folder(folder: Path) -> Path:
    """Return the folder of the run at ``folder``, or of the only one below it.

    Raises:
        RunNotFoundError: there is none.
        UsageError: there are several.
    """
    if (folder / RUN_DATABASE).is_file():
        return folder
    found = sorted({path.parent for pattern in _PLACES for path in folder.glob(pattern)})
    if not found:
        raise RunNotFoundError(place=str(folder))
    if len(found) > 1:
        raise UsageError(
            problem=f"there are {len(found)} runs below {folder}", hint=f"Name one of them, such as {found[-1]}"
        )
    return found[0]


def anchor_path(folder: Path, size: int) -> Path:
    """Return where the time stamp of the first ``size`` entries of a run's log lies."""
    return folder / ANCHORS / f"{size}.tsr"


def kept_anchors(folder: Path) -> Mapping[int, Path]:
    """Return the time stamps beside a run, by how many entries their names say that they cover."""
    found = (folder / ANCHORS).glob("*.tsr")
    return {int(path.stem): path for path in found if path.stem.isascii() and path.stem.isdecimal()}


def check_transcripts(rounds: Rounds, log: RunLog, folder: Path) -> int:
    """Return how many transcripts are of rounds that the coordinator did not live to record; each of them holds.

    Raises:
        AuditError: a transcript belongs to no round of the log, or does not hold.
    """
    count = 0
    for path in sorted((folder / TRANSCRIPTS).glob("*")):
        # Hidden files are those that a write left unfinished when the power went.
        if path.name not in rounds.recorded and not path.name.startswith("."):
            known = rounds.unrecorded(path.name)
            log.lines[-1].require(known, f"is the last one, and none names the transcript {path.name[:80]}")
            count += 1
    return count


def check_copies(log: RunLog, folder: Path) -> int:
    """Return how many lines of audit.jsonl, rounds.jsonl, preparation.json and closing.json say what the log says.

    What they tell of messages and bytes is the coordinator's word.

    Raises:
        AuditError: a line says something else.
    """
    return _check_readable_log(log, folder) + _check_rounds(log, folder) + _check_closing(log, folder)


def _check_readable_log(log: RunLog, folder: Path) -> int:
    """Compare audit.jsonl with what the log would be exported as; it may end earlier."""
    path = folder / READABLE_LOG
    if not path.exists():
        return 0
    with tempfile.TemporaryDirectory() as scratch, open_database(folder / RUN_DATABASE) as database:
        exported = Path(scratch) / READABLE_LOG
        AuditLog(Journal(database, JOURNAL)).export(exported)
        expected = exported.read_bytes().splitlines(keepends=True)
    lines = path.read_bytes().splitlines(keepends=True)
    for index, data in enumerate(lines):
        line = log.lines[min(index, len(log) - 1)]
        line.require(index < len(expected) and data == expected[index], f"is another one in {READABLE_LOG}")
    return len(lines)


def _check_rounds(log: RunLog, folder: Path) -> int:
    released = {line.fields.get("round"): line for line in log.lines if line.kind is EventKind.ROUND_RELEASED}
    preparation = {line.fields.get("round", 0): line for line in log.lines if line.kind is EventKind.PREPARED}
    count = 0
    for name, lines in ((PREPARATION_FILE, preparation), (ROUNDS_FILE, released)):
        for record in _records(log.lines[-1], folder / name):
            number = record.get("round")
            line = lines.get(number) if isinstance(number, int) else None
            if line is None:
                raise log.lines[-1].error(f"is the last one, and none released the round that {name} tells of")
            stated = record.get("contributors"), record.get("checkpoint", line.octets("checkpoint").hex())
            same = stated == (list(line.names("contributors")), line.octets("checkpoint").hex())
            line.require(same, f"releases something else than {name} says")
            count += 1
    return count


def _check_closing(log: RunLog, folder: Path) -> int:
    closed = [line for line in log.lines if line.kind is EventKind.CLOSED]
    released = [line.fields.get("round") for line in log.lines if line.kind is EventKind.ROUND_RELEASED]
    count = 0
    for record in _records(log.lines[-1], folder / CLOSING_FILE):
        log.lines[-1].require(bool(closed), f"is the last one, and none closes what {CLOSING_FILE} tells of")
        fields = closed[-1].fields
        stated = [record.get("round")], *(record.get(name) for name in _OF_THE_CLOSING)
        same = stated == (released[-1:], *(fields.get(name) for name in _OF_THE_CLOSING))
        closed[-1].require(same, f"closes something else than {CLOSING_FILE} says")
        count += 1
    return count


def _records(last: Line, path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a JSON file, or of one with a record on each line; none if it does not exist."""
    if not path.exists():
        return
    with last.naming(f"is the last one, and {path.name} does not decode"):
        if path.suffix == ".json":
            yield read_json(path)
            return
        try:
            records = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        except (ValueError, RecursionError) as error:
            raise last.error(f"is the last one, and {path.name} does not decode") from error
        for record in records:
            last.require(isinstance(record, dict), f"is the last one, and {path.name} does not decode")
            yield record
