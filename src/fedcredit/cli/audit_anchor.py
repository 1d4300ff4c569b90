"""``fedcredit audit anchor``: a time-stamp authority's word for when the log of a run existed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, next_step, note, say
from fedcredit.cli.texts import tr

if TYPE_CHECKING:
    from fedcredit.crypto.timestamps import Stamp


@guarded
def anchor(
    folder: Annotated[
        Path, typer.Argument(help="A run folder, or one with a single run below it.", metavar="[FOLDER]")
    ] = Path(),
    query: Annotated[Path | None, typer.Option(help="Write the query for the time-stamp authority here.")] = None,
    reply: Annotated[Path | None, typer.Option(help="The authority's reply, to be checked and kept.")] = None,
    authority: Annotated[
        Path | None, typer.Option(help="With --reply: certificates in PEM form that the authority is recognised by.")
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Write the query for a time stamp of a verified run (RFC 3161), or keep the reply. Nothing is sent from here."""
    from fedcredit.errors import UsageError

    if query is not None and reply is None and authority is None:
        return _write_query(folder, query)
    if query is None and reply is not None and authority is not None:
        return _keep_reply(folder, reply, authority)
    raise UsageError(
        problem="it takes either --query, or --reply with --authority", hint="See: fedcredit audit anchor --help"
    )


def _write_query(folder: Path, query: Path) -> Mapping[str, Any]:
    from fedcredit.crypto.timestamps import stamp_query
    from fedcredit.rounds.evidence import verify_run
    from fedcredit.store.files import write_atomic

    evidence = verify_run(folder)
    write_atomic(query, stamp_query(evidence.checkpoint.to_text().encode()))
    done(tr("wrote {path}: a query for the log of {size} entries", path=query, size=evidence.entries))
    if not evidence.closed:
        note(tr("the run is not closed: later entries will need a stamp of their own"))
    say(tr("   send it to the authority that the consortium names, and bring back the reply:"))
    say(
        tr(
            "   such as: curl -H 'Content-Type: application/timestamp-query' --data-binary @{query} -o reply.tsr URL",
            query=query,
        )
    )
    next_step(f"fedcredit audit anchor {folder} --reply reply.tsr --authority authority.pem")
    return {"query": str(query), "size": evidence.entries}


def _keep_reply(folder: Path, reply: Path, authority: Path) -> Mapping[str, Any]:
    from fedcredit.crypto.timestamps import read_roots, verify_stamp
    from fedcredit.rounds.evidence import verify_run
    from fedcredit.rounds.evidence_files import anchor_path
    from fedcredit.store.files import make_directory, write_atomic

    evidence = verify_run(folder)
    found = verify_stamp(reply, evidence.checkpoint.to_text().encode(), roots=read_roots(authority))
    kept = anchor_path(evidence.folder, evidence.entries)
    make_directory(kept.parent)
    write_atomic(kept, reply.read_bytes())
    tell_anchor(evidence.entries, found)
    next_step(f"fedcredit audit verify {folder} --authority {authority}")
    return {"anchor": str(kept), **anchor_data(evidence.entries, found)}


def tell_anchor(size: int, found: Stamp) -> None:
    """Print what a verified stamp says of the first ``size`` entries of a log."""
    done(
        tr(
            "the first {size} entries existed on {time}, says the authority under {root}",
            size=size,
            time=f"{found.time:%Y-%m-%d %H:%M:%S} UTC",
            root=found.root,
        )
    )


def anchor_data(size: int, found: Stamp) -> Mapping[str, Any]:
    """Return a verified stamp for the envelope."""
    return {"size": size, "time": found.time.isoformat(), "root": found.root}
