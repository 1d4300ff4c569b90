"""``fedcredit audit``: what anyone may check afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcredit.cli.audit_anchor import anchor, anchor_data, tell_anchor
from fedcredit.cli.audit_view import view
from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, note, say, table
from fedcredit.cli.plan_view import spent_twice, tell_pairs
from fedcredit.cli.result_view import tell_verdict
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.crypto.timestamps import Stamp
    from fedcredit.errors import AuditError, FedcreditError
    from fedcredit.privacy.spending import Spending
    from fedcredit.rounds.evidence import Evidence
    from fedcredit.rounds.evidence_member import Compared

app = typer.Typer(
    help="Check the evidence of a run, browse its log, or check the privacy ledger of a node.", no_args_is_help=True
)
app.command("view")(view)
app.command("anchor")(anchor)


class LedgerKind(StrEnum):
    """Ledgers of a node that can be verified."""

    PRIVACY = "privacy"


@app.command("verify")
@guarded
def verify(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or one with a single run below it; with --ledger a node's folder.", metavar="[FOLDER]"
        ),
    ] = Path(),
    ledger: Annotated[
        LedgerKind | None, typer.Option(help="Verify this ledger of a node instead; the node must not be running.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="A stopped node's folder: the run's log must be the one that it cosigned. "
            "With --ledger: a run folder whose log must name no head that the ledger lacks."
        ),
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="The coordinator's fingerprint, as it was compared by voice.")
    ] = None,
    authority: Annotated[
        Path | None, typer.Option(help="Certificates (PEM) to check the kept time stamps with; there must be one.")
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Check a whole run offline: log, signatures, sums, models, figures and privacy; or a node's privacy ledger."""
    from fedcredit.config.node import NODE_FILE
    from fedcredit.errors import UsageError

    if ledger is not None and (coordinator is not None or authority is not None):
        option = "--coordinator" if coordinator is not None else "--authority"
        raise UsageError(problem=f"{option} goes without --ledger", hint="See: fedcredit audit verify --help")
    if ledger is not None:
        return _verify_ledger(folder, against)
    if against is not None and (folder / NODE_FILE).is_file():
        raise UsageError(
            problem="for a node, --against goes with --ledger privacy", hint="See: fedcredit audit verify --help"
        )
    return _verify_run(folder, against, coordinator, authority)


# --- a run -----------------------------------------------------------------------------------------------------------


def _verify_run(
    folder: Path, against: Path | None, coordinator: str | None, authority: Path | None
) -> Mapping[str, Any]:
    from fedcredit.crypto.keys import check_fingerprint
    from fedcredit.rounds.evidence import verify_run
    from fedcredit.rounds.evidence_files import ANCHORS, kept_anchors

    evidence = verify_run(folder)
    if coordinator is not None:
        check_fingerprint(coordinator, evidence.opening.coordinator, "the coordinator of this run")
    compared = None if against is None else _compare(evidence, against)
    anchors = _anchors(evidence, authority)
    _tell_log(evidence)
    _tell_sums(evidence)
    _tell_cosignatures(evidence)
    _tell_privacy(evidence)
    if compared is not None:
        _tell_compared(compared)
    if coordinator is not None:
        done(tr("the coordinator's fingerprint is the one that you gave"))
    for size, found in anchors.items():
        tell_anchor(size, found)
    if authority is None and kept_anchors(evidence.folder):
        note(tr("time stamps lie in {path}; with --authority they are checked", path=ANCHORS))
    _tell_fingerprints(evidence)
    return {**_run_data(evidence, compared), "anchors": [anchor_data(*item) for item in anchors.items()]}


def _anchors(evidence: Evidence, authority: Path | None) -> Mapping[int, Stamp]:
    """Return every kept time stamp, verified; none if no authority was named."""
    if authority is None:
        return {}
    from fedcredit.crypto.timestamps import read_roots, verify_stamp
    from fedcredit.errors import AnchorError
    from fedcredit.rounds.evidence_files import ANCHORS, kept_anchors

    roots, kept = read_roots(authority), kept_anchors(evidence.folder)
    if not kept:
        raise AnchorError(path=str(evidence.folder / ANCHORS), problem="there is none")
    found = {}
    for size, path in sorted(kept.items()):
        if size > evidence.entries:
            raise AnchorError(path=str(path), problem=f"the log has {evidence.entries} entries only")
        checkpoint = evidence.log.checkpoint(size, origin=evidence.opening.origin)
        found[size] = verify_stamp(path, checkpoint.to_text().encode(), roots=roots)
    return found


def _compare(evidence: Evidence, folder: Path) -> Compared:
    from fedcredit.config.node import NodeConfig
    from fedcredit.errors import UsageError
    from fedcredit.institution.memory import RunMemory
    from fedcredit.institution.node import STATE
    from fedcredit.rounds.evidence_log import open_database, read_log
    from fedcredit.rounds.evidence_member import MemberRecord, compare

    name = NodeConfig.read(folder).name
    if name not in evidence.opening.identities:
        raise UsageError(
            problem=f"{name} is not a member of this run", hint=f"Its members: {', '.join(evidence.opening.identities)}"
        )
    run = evidence.opening.run
    with open_database(folder / STATE) as database:
        witnessed = RunMemory(database, entropy=os.urandom).witnessed(run)
    record = MemberRecord(institution=name, witnessed=witnessed, log=read_log(folder / STATE))
    return compare(evidence.log, run, record)


def _tell_log(evidence: Evidence) -> None:
    head = evidence.head.hex()[:16]
    done(tr("audit log: {entries} entries, chain unbroken, head {head}", entries=evidence.entries, head=head))
    opening = evidence.opening
    done(
        tr(
            "opened for plan {plan} with the keys of {members} members and the coordinator",
            plan=opening.plan_digest.hex()[:16],
            members=len(opening.identities),
        )
    )
    if evidence.copies:
        done(tr("{lines} lines of the readable copies say what the log says", lines=evidence.copies))


def _tell_sums(evidence: Evidence) -> None:
    if evidence.opening.plan.secure is not None:
        done(tr("{epochs} set-ups of keys, each signed by every member in it", epochs=evidence.epochs))
        done(
            tr(
                "{sums} sums added up again from {uploads} uploads, {agreements} agreements and {reveals} reveals, "
                "each signed by its member",
                sums=evidence.sums,
                uploads=evidence.uploads,
                agreements=evidence.agreements,
                reveals=evidence.reveals,
            )
        )
    if evidence.unrecorded:
        note(
            tr(
                "{count} transcripts hold that no entry names: the coordinator stopped before it recorded them",
                count=evidence.unrecorded,
            )
        )
    _tell_attempts(evidence)
    done(tr("{released} released models match their log lines", released=evidence.released))
    if evidence.opening.plan.secure is None:
        note(tr("open aggregation keeps no answers: the sums, and what follows from them, are the coordinator's word"))
    else:
        done(tr("{models} models follow bit for bit from plan and sums", models=evidence.recomputed))
        say(tr("   not kept, so not checked: sealed secrets of pairs, the manifest of a closing, bytes sent"))
    _tell_figures(evidence)


def _tell_attempts(evidence: Evidence) -> None:
    if evidence.attempts:
        done(
            tr(
                "{attempts} attempts without a sum, or without somebody's answer: what was asked is signed and as the "
                "log says",
                attempts=evidence.attempts,
            )
        )
    if evidence.blames:
        done(tr("{blames} times a member is blamed, each time by what members signed", blames=evidence.blames))
    if evidence.unkept:
        note(
            tr(
                "{count} attempts without a sum, or without somebody's answer, were not kept by that version of the "
                "coordinator: what they asked, and whom they blame, is its word",
                count=evidence.unkept,
            )
        )
    if evidence.cut_off:
        note(
            tr(
                "{count} attempts have no end in the log: the coordinator was cut off, or is of an older version; what "
                "they asked is compared with the members' own logs only (--against)",
                count=evidence.cut_off,
            )
        )


def _tell_figures(evidence: Evidence) -> None:
    if evidence.figures:
        done(tr("{figures} figures of the evaluation follow from its counts", figures=evidence.figures))
    elif evidence.evaluated and evidence.opening.plan.secure is not None:
        note(tr("the run was evaluated, and its figures are not here: nothing was compared"))


def _tell_cosignatures(evidence: Evidence) -> None:
    done(
        tr(
            "{cosignatures} cosignatures hold; the first {size} entries are final: cosigned by {members}",
            cosignatures=evidence.cosignatures,
            size=evidence.final_size,
            members=", ".join(evidence.final_by) or "–",
        )
    )
    after = evidence.entries - evidence.final_size
    if evidence.verdict is not None:
        tell_verdict(evidence.verdict.record())
        say(tr("   {after} entries lie behind them: the closing of the run, which nobody cosigns", after=after))
    else:
        note(
            tr("{after} entries lie behind them; until the run is closed they are the coordinator's word", after=after)
        )


def _tell_privacy(evidence: Evidence) -> None:
    from fedcredit.messages import Purpose

    counts = [
        f"{evidence.accepted[purpose]}/{evidence.allowed[purpose]}"
        for purpose in (Purpose.PREPARE, Purpose.TRAIN, Purpose.EVALUATE, Purpose.CLOSE)
    ]
    done(
        tr(
            "releases accepted of a member / paid for by the plan: preparation {prepare}, training {train}, "
            "evaluation {evaluate}, vote {vote}",
            prepare=counts[0],
            train=counts[1],
            evaluate=counts[2],
            vote=counts[3],
        )
    )
    privacy = evidence.opening.plan.privacy
    shared = any(spent.train.shared for spent in evidence.spent.values())
    for partition, planned in (("train", privacy.epsilon), ("holdout", privacy.evaluation_epsilon)):
        spent = max((getattr(item, partition) for item in evidence.spent.values()), key=lambda item: item.epsilon)
        done(
            tr(
                "{partition}: epsilon {epsilon} of at most {planned:g} at delta {delta:g}",
                partition=word(partition),
                epsilon=spent_twice(spent, shared=shared),
                planned=planned,
                delta=privacy.delta,
            )
        )
    tell_pairs(shared=shared)


def _tell_compared(compared: Compared) -> None:
    if not compared.cosigned:
        note(tr("{institution} has cosigned nothing of this run", institution=compared.institution))
        return
    if compared.unstated:
        note(
            tr(
                "{count} requests in the log of {institution} were recorded by an older version, without their radii: "
                "these were not compared",
                count=compared.unstated,
                institution=compared.institution,
            )
        )
    done(
        tr(
            "{institution} cosigned the first {cosigned} entries of this log, and knows its {answered} requests and "
            "{accepted} accepted answers",
            institution=compared.institution,
            cosigned=compared.cosigned,
            answered=compared.answered,
            accepted=compared.accepted,
        )
    )
    if compared.unused:
        note(
            tr(
                "{count} times {institution} gave shares and the log has no sum of them: a failure, or a sum that was "
                "thrown away; ask the coordinator",
                count=compared.unused,
                institution=compared.institution,
            )
        )
    if compared.unheard:
        note(
            tr(
                "the log lacks the answer of {institution} to the closing, and with it any vote: lost on the way, or "
                "left out; ask the coordinator",
                institution=compared.institution,
            )
        )


def _tell_fingerprints(evidence: Evidence) -> None:
    identities = evidence.opening.identities
    lines = [[tr("coordinator"), evidence.opening.coordinator.fingerprint()]]
    lines += [[name, identity.fingerprint()] for name, identity in identities.items()]
    table(tr("Whose keys these are, a person compares by voice"), [tr("institution"), tr("fingerprint")], lines, left=2)


def _run_data(evidence: Evidence, compared: Compared | None) -> Mapping[str, Any]:
    opening = evidence.opening
    return {
        "run": opening.run,
        "folder": str(evidence.folder),
        "entries": evidence.entries,
        "head": evidence.head.hex(),
        "plan": opening.plan_digest.hex(),
        "aggregation": opening.plan.aggregation.kind,
        "released": evidence.released,
        "recomputed": evidence.recomputed,
        "epochs": evidence.epochs,
        "sums": evidence.sums,
        "uploads": evidence.uploads,
        "agreements": evidence.agreements,
        "reveals": evidence.reveals,
        "unrecorded_transcripts": evidence.unrecorded,
        "attempts": {"kept": evidence.attempts, "not_kept": evidence.unkept, "cut_off": evidence.cut_off},
        "blames": evidence.blames,
        "figures": evidence.figures,
        "copies": evidence.copies,
        "cosignatures": evidence.cosignatures,
        "final": {"size": evidence.final_size, "by": list(evidence.final_by), "closed": evidence.closed},
        "verdict": evidence.verdict.record() if evidence.verdict else None,
        "releases": {
            str(purpose): {"accepted": evidence.accepted[purpose], "allowed": allowed}
            for purpose, allowed in evidence.allowed.items()
        },
        "spent": {
            name: {"train": _spent_data(item.train), "holdout": _spent_data(item.holdout)}
            for name, item in evidence.spent.items()
        },
        "compared": None if compared is None else dict(vars(compared)),
        "fingerprints": {
            "coordinator": opening.coordinator.fingerprint(),
            "members": {name: identity.fingerprint() for name, identity in opening.identities.items()},
        },
    }


# --- a ledger --------------------------------------------------------------------------------------------------------


def _verify_ledger(folder: Path, against: Path | None) -> Mapping[str, Any]:
    from fedcredit.config.node import NodeConfig
    from fedcredit.errors import LedgerCorruptError, LedgerOwnerError, LedgerRolledBackError, StoreCorruptError
    from fedcredit.institution.budget import verify_ledger
    from fedcredit.rounds.evidence import recorded_ledger_heads

    heads = () if against is None else recorded_ledger_heads(against, NodeConfig.read(folder).name)
    try:
        evidence = verify_ledger(folder, heads=heads)
    except (LedgerCorruptError, LedgerOwnerError, LedgerRolledBackError, StoreCorruptError) as error:
        raise _unverified(folder, error) from error
    head = evidence.head.hex()
    done(
        tr(
            "privacy ledger of {institution}: {entries} entries, chain unbroken, head {head}",
            institution=evidence.institution,
            entries=evidence.entries,
            head=head[:16],
        )
    )
    shared = any(spent.shared for spent in evidence.spent.values())
    for name, spent in evidence.spent.items():
        done(
            tr(
                "{partition}: epsilon {epsilon} at delta {delta:g}, {releases} releases",
                partition=word(name),
                epsilon=spent_twice(spent, shared=shared),
                delta=spent.delta,
                releases=spent.releases,
            )
        )
    tell_pairs(shared=shared)
    if heads:
        done(tr("all {heads} heads that the coordinator's log holds are in this ledger", heads=len(heads)))
    elif against is not None:
        note(tr("the coordinator's log holds no head of this ledger: nothing was compared"))
    return {
        "institution": evidence.institution,
        "entries": evidence.entries,
        "head": head,
        "spent": {name: _spent_data(item) for name, item in evidence.spent.items()},
        "heads_compared": len(heads),
    }


def _spent_data(spent: Spending) -> Mapping[str, Any]:
    return {
        "epsilon": spent.epsilon,
        "epsilon_alone": spent.epsilon_alone,
        "delta": spent.delta,
        "releases": spent.releases,
    }


def _unverified(folder: Path, error: FedcreditError) -> AuditError:
    """Return what ends a verification that failed; the code inside is the one that keeps the node closed."""
    from fedcredit.errors import AuditError, LedgerCorruptError
    from fedcredit.institution.node import STATE

    path = str(folder / STATE)
    if isinstance(error, LedgerCorruptError):
        found = f"of the privacy ledger is broken ({error.code}: {error.fields['problem']})"
        return AuditError(path=path, index=error.fields["index"], problem=found)
    # The ledger as a whole is the wrong one, or no entry can be read at all.
    found = f"begins a privacy ledger that is refused ({error.code}: {error.describe('en').rstrip('.')})"
    return AuditError(path=path, index=0, problem=found)
