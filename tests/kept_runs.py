"""Runs that were driven to their end and kept in a folder, and what a coordinator could write into one afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from consortium import COORDINATOR, RUN, Consortium

from fedcredit.audit.log import EventKind
from fedcredit.encoding import decode, encode
from fedcredit.messages import Manifest, Signed
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import OpenRun
from fedcredit.rounds.drive import drive
from fedcredit.rounds.evidence_log import JOURNAL, RUN_DATABASE
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.transcript import TRANSCRIPTS, Transcript, keep_attempt
from fedcredit.store.database import Database
from fedcredit.store.files import write_atomic
from fedcredit.store.journal import EMPTY_HEAD, Journal, chain_digest
from fedcredit.transport import Transport

Fields = dict[str, Any]
Log = list[tuple[EventKind, Fields]]
"""A log as its owner may rewrite it: kinds and fields."""


def opened_run(consortium: Consortium, transport: Transport | None = None) -> OpenRun:
    """Return the consortium's run, opened in its folder or resumed."""
    return OpenRun(
        plan=consortium.plan,
        run_id=RUN,
        folder=consortium.folder / "run",
        roster=consortium.roster,
        keys=COORDINATOR,
        transport=transport or consortium.loopback(),
        heads=LedgerHeads(None),
        clock=consortium.clock,
    )


def driven(consortium: Consortium, transport: Transport | None = None) -> Path:
    """Drive the run to its end and return its folder."""
    with opened_run(consortium, transport) as opened:
        drive(opened, privacy_plan(consortium.plan))
    return consortium.folder / "run"


def trained(consortium: Consortium, transport: Transport | None = None) -> Path:
    """Train only, so that nothing comes after the last round: its entries are in no manifest yet."""
    with opened_run(consortium, transport) as opened:
        for _ in opened.run.rounds():
            pass
    (consortium.folder / "run" / "audit.jsonl").unlink()
    return consortium.folder / "run"


def copied(folder: Path, to: Path) -> Path:
    """Return a copy of a run's folder."""
    shutil.copytree(folder, to)
    return to


def _database(place: Path) -> Database:
    """Open the database of a run's folder, or the one at this very path."""
    return Database.open(place / RUN_DATABASE if place.is_dir() else place)


def read(folder: Path) -> Log:
    """Return the log of a run, or the one in a database."""
    with _database(folder) as database:
        entries = list(Journal(database, JOURNAL).entries())
    return [(EventKind(entry.kind), _fields(entry.body)) for entry in entries]


def _fields(body: bytes) -> Fields:
    fields = decode(body, what="entry", limit=2**24)
    assert isinstance(fields, dict)
    return fields


def rewrite(folder: Path, log: Log) -> None:
    """Put ``log`` in the place of a run's log, or of the one in a database, with a chain of its own."""
    with _database(folder) as database, database.transaction():
        database.execute("DELETE FROM journal_entries WHERE journal = ?", (JOURNAL,))
        previous = EMPTY_HEAD
        for index, (kind, fields) in enumerate(log):
            body = encode(fields)
            previous = chain_digest(journal=JOURNAL, previous=previous, index=index, kind=str(kind), body=body)
            database.execute(
                "INSERT INTO journal_entries VALUES (?, ?, ?, ?, ?)", (JOURNAL, index, str(kind), body, previous)
            )
        database.execute(
            "UPDATE journal_heads SET length = ?, digest = ? WHERE journal = ?", (len(log), previous, JOURNAL)
        )
    if folder.is_dir():
        (folder / "audit.jsonl").unlink(missing_ok=True)


def places(log: Log, kind: EventKind) -> list[int]:
    """Return the indices of the entries of a kind."""
    return [index for index, (found, _) in enumerate(log) if found is kind]


def change(folder: Path, index: int, fields: Mapping[str, Any]) -> None:
    """Change fields of one entry, and the chain behind it."""
    log = read(folder)
    log[index] = log[index][0], {**log[index][1], **fields}
    rewrite(folder, log)


def transcripts(folder: Path) -> list[Path]:
    """Return the transcripts of a run's rounds, in order of their names."""
    return [path for path in _kept(folder) if "-setup-" not in path.name]


def setups(folder: Path) -> list[Path]:
    """Return the records of its set-ups of keys, in order."""
    return [path for path in _kept(folder) if "-setup-" in path.name]


def attempts(folder: Path) -> list[Path]:
    """Return the records of attempts that gave no sum, or left somebody out, in order."""
    return sorted((folder / TRANSCRIPTS).glob("*-attempt.cbor"))


def attempt_of(folder: Path, path: Path) -> bytes:
    """Write the record of the attempt whose transcript is at ``path``, as if it had failed; return its digest."""
    transcript = Transcript.from_bytes(path.read_bytes())
    uploads = {name: Signed(body=item.body, signature=item.signature) for name, item in transcript.uploads.items()}
    manifest = Manifest.from_bytes(transcript.manifest)
    return keep_attempt(
        manifest,
        signature=transcript.manifest_signature,
        uploads=uploads,
        keep=lambda name, data: write_atomic(folder / TRANSCRIPTS / name, data),
    )


def _kept(folder: Path) -> list[Path]:
    return [path for path in sorted((folder / TRANSCRIPTS).iterdir()) if path not in attempts(folder)]


def retell(folder: Path, path: Path, changed: Callable[[Transcript], Transcript]) -> int:
    """Change the last transcript and the entry that names it; return the index of that entry."""
    transcript = changed(Transcript.from_bytes(path.read_bytes()))
    path.write_bytes(transcript.to_bytes())
    index = places(read(folder), EventKind.SUM_OPENED)[-1]
    change(folder, index, {"transcript": transcript.digest()})
    return index
