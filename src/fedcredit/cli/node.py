"""``fedcredit node``: what an institution's operator types."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli import budget, node_data, preview
from fedcredit.cli.options import Debug, Format, OutputFormat, guarded, passphrase
from fedcredit.cli.output import done, next_step, note, say, table
from fedcredit.cli.plan_view import spent_twice, tell_claim, tell_members, tell_pairs, tell_terms, tell_warnings
from fedcredit.cli.preview import read_offer, read_outlook, tell_departures, tell_refusal, tell_shortfalls
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.cli.preview import Offer, Outlook

app = typer.Typer(help="Run one institution: its data, keys and privacy ledger never leave it.", no_args_is_help=True)
REQUEST_SUFFIX: Final = ".fcrequest"
NodeFolder = Annotated[Path, typer.Argument(help="The node's folder.", metavar="NODE")]
app.command("preview")(preview.preview)
app.command("check-data")(node_data.check_data)
app.command("tokenise")(node_data.tokenise)


class Kind(StrEnum):
    """Types of institution."""

    BANK = "bank"
    AUTO_FINANCE = "auto_finance"
    GUARANTEE_FUND = "guarantee_fund"
    INSURER = "insurer"
    LESSOR = "lessor"


@app.command("init")
@guarded
def init(
    folder: NodeFolder,
    name: Annotated[str, typer.Option(help="The institution's name: lower-case letters, digits, hyphens.")],
    kind: Annotated[Kind, typer.Option("--type", help="What kind of company it is.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Its own table, Parquet or CSV; for vehicle-loans a mapping, or a folder with a manifest. "
            "Without it, example files are written."
        ),
    ] = None,
    contract: Annotated[
        str | None, typer.Option(help="Data contract: a shipped name (taiwan, sba, german, vehicle-loans), or a file.")
    ] = None,
    modality: Annotated[list[str] | None, typer.Option(help="A modality it holds; repeat for several.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Most that a borrower ever loses on the training part.")] = None,
    delta: Annotated[float | None, typer.Option(help="One delta for the life of the data set.")] = None,
    holdout_epsilon: Annotated[float | None, typer.Option(help="Most that a held-out borrower ever loses.")] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Make a node folder: example files for its own tables, or, with --data, keys and a private configuration."""
    from fedcredit.errors import UsageError

    decisions = {
        "--data": data,
        "--contract": contract,
        "--modality": modality,
        "--epsilon": epsilon,
        "--delta": delta,
        "--holdout-epsilon": holdout_epsilon,
    }
    if all(value is None for value in decisions.values()):
        return _write_examples(folder, name, kind)
    absent = [option for option, value in decisions.items() if value is None]
    if data is None or contract is None or not modality or epsilon is None or delta is None or holdout_epsilon is None:
        problem = f"Missing option {', '.join(absent)}"
        raise UsageError(problem=problem, hint="Give all of them; none of them, for example files")
    return _make_node(
        folder,
        name,
        kind,
        data=data,
        contract=contract,
        modality=modality,
        epsilon=epsilon,
        delta=delta,
        holdout_epsilon=holdout_epsilon,
    )


def _write_examples(folder: Path, name: str, kind: Kind) -> Mapping[str, Any]:
    from fedcredit.contract.canonical.examples import example_label_map, example_mapping, example_node
    from fedcredit.contract.canonical.versions import SPOKEN
    from fedcredit.errors import AlreadyExistsError
    from fedcredit.parties import InstitutionType, institution_id
    from fedcredit.store.files import make_directory, write_new

    own, place = InstitutionType(kind.value), str(folder)
    institution_id(name)
    files = {
        "mapping.toml": example_mapping(own, name=name, folder=place, version=SPOKEN[-1]),
        "label_map.toml": example_label_map(own),
        "node.example.toml": example_node(own, name=name, folder=place),
    }
    for file in files:
        if (folder / file).exists():
            raise AlreadyExistsError(path=str(folder / file))
    make_directory(folder, mode=0o700)
    for file, text in files.items():
        write_new(folder / file, text.encode(), mode=0o600)
        done(tr("wrote {path}", path=folder / file))
    say(tr("   edit mapping.toml until it says where your tables lie and what their columns mean"))
    next_step(f"fedcredit node check-data {folder}")
    return {"folder": place, "institution": name, "files": list(files)}


def _make_node(
    folder: Path,
    name: str,
    kind: Kind,
    *,
    data: Path,
    contract: str,
    modality: list[str],
    epsilon: float,
    delta: float,
    holdout_epsilon: float,
) -> Mapping[str, Any]:
    from fedcredit.contract import load_contract
    from fedcredit.errors import UsageError
    from fedcredit.institution.node import init_node, node_config
    from fedcredit.parties import InstitutionType, institution_id

    known = [item.name for item in load_contract(contract).modalities]
    for wanted in modality:
        if wanted not in known:
            raise UsageError(
                problem=f'The contract {contract} has no modality "{wanted}"', hint=f"It has: {', '.join(known)}"
            )
    config = node_config(
        institution=institution_id(name),
        kind=InstitutionType(kind.value),
        data_path=str(data.absolute()),
        contract=contract,
        modalities=tuple(modality),
        epsilon=epsilon,
        delta=delta,
        holdout_epsilon=holdout_epsilon,
    )
    keys = init_node(folder, config, passphrase=passphrase())
    fingerprint = keys.public.fingerprint()
    done(tr("wrote {folder}/node.toml and keys (they never leave)", folder=folder))
    say(
        tr(
            "   fingerprint of {institution}: {fingerprint}   ← read it to the coordinator when asked",
            institution=name,
            fingerprint=fingerprint,
        )
    )
    next_step(f"fedcredit node check-data {folder}", _join_command(folder))
    return {"folder": str(folder), "institution": name, "fingerprint": fingerprint}


@app.command("join")
@guarded
def join(
    folder: NodeFolder,
    invitation: Annotated[Path, typer.Argument(help="The coordinator's invitation file.")],
    fingerprint: Annotated[str, typer.Option(help="The coordinator's fingerprint, as heard by voice.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Pin a coordinator and write the join request for it."""
    from fedcredit.crypto.keys import PublicIdentity, check_fingerprint
    from fedcredit.enrolment import Invitation, armoured, read_armoured
    from fedcredit.institution import node
    from fedcredit.store.files import write_atomic

    invited = read_armoured(Invitation, invitation, command="fedcredit coord invite")
    check_fingerprint(fingerprint, invited.identity, "the coordinator")
    request = node.join(folder, invited, passphrase=passphrase())
    path = folder / f"{request.institution}{REQUEST_SUFFIX}"
    write_atomic(path, armoured(request))
    done(
        tr(
            "pinned the coordinator of {consortium}, relay {relay}",
            consortium=invited.consortium,
            relay=invited.relay,
        )
    )
    done(tr("wrote {path}: send it to the coordinator", path=path))
    say(
        tr(
            "   the coordinator needs for a plan: --borrowers {entry}   (COUNT: training borrowers, rounded; public)",
            entry=_plan_entry(folder),
        )
    )
    own = PublicIdentity.from_bytes(request.identity).fingerprint()
    next_step(
        f"fedcredit coord member approve COORDINATOR {path} --fingerprint {own}      {tr('(by the coordinator)')}",
        f"fedcredit node preview {folder} --plan plan.toml",
        f"fedcredit node approve {folder} plan.toml",
    )
    return {"consortium": invited.consortium, "request": str(path), "relay": invited.relay, "fingerprint": own}


@app.command("approve")
@guarded
def approve(
    folder: NodeFolder,
    plan: Annotated[Path, typer.Argument(help="The run plan that the coordinator sent round.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Show what a plan would release here, and approve exactly this plan."""
    from fedcredit.institution.admission import Approvals

    offer = read_offer(folder, plan)
    name = offer.config.name
    wanted, facts = offer.checked.plan, offer.checked.review.facts
    digest = wanted.digest().hex()
    say(tr("Plan {digest} ({plan}) at {institution}:", digest=digest[:16], plan=wanted.run.name, institution=name))
    tell_terms(wanted)
    tell_claim(offer.checked)
    tell_members(wanted)
    tell_departures(offer)
    refusal = tell_refusal(offer)
    outlook = _tell_outlook(folder, offer)
    tell_warnings(offer.checked, at=name)
    # Last: whoever stops the command while it tells has not approved.
    Approvals(folder / "approvals").approve(wanted)
    done(tr("approved plan {digest} ({plan})", digest=digest[:16], plan=wanted.run.name))
    if refusal is not None or not (outlook is None or outlook.fits):
        next_step(f"fedcredit node budget show {folder}")
    elif outlook is None:
        next_step(f"fedcredit coord run start COORDINATOR {plan}      {tr('(by the coordinator)')}")
    else:
        next_step(f"fedcredit node run {folder}      {tr('(once the coordinator serves)')}")
    return {
        "plan": digest,
        "epsilon": facts.epsilon,
        "delta": facts.delta,
        "steps": facts.steps,
        "refused_by_policy": refusal.code if refusal else None,
        "within_caps": outlook.fits if outlook else None,
    }


def _tell_outlook(folder: Path, offer: Offer) -> Outlook | None:
    """Say where the ledger would stop the plan; ``None`` if the node is running, for a plan is approved then too."""
    from fedcredit.errors import StateDirInUseError

    try:
        outlook = read_outlook(folder, offer)
    except StateDirInUseError:
        note(tr("the node is running, so its ledger was not read: a round beyond a cap would be refused"))
        return None
    tell_shortfalls(outlook)
    return outlook


@app.command("run")
@guarded
def run(
    folder: NodeFolder,
    socket: Annotated[
        Path | None, typer.Option(help="Where the courier connects. Default: NODE/state/node.sock")
    ] = None,
    supernode: Annotated[
        bool, typer.Option(help="Start a stock SuperNode too; without it, another user runs one.")
    ] = True,
    group_socket: Annotated[
        bool, typer.Option("--group-socket", help="Let the group of the socket's new folder connect (two-user layout).")
    ] = False,
    ready_file: Annotated[Path | None, typer.Option(help="Touched when the node can be reached.")] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Answer approved rounds until stopped (Ctrl-C or SIGTERM)."""
    from fedcredit.cli.logs import log_to_stderr
    from fedcredit.cli.signals import stop_event
    from fedcredit.flower.node_daemon import serve_node
    from fedcredit.institution.node import Node

    log_to_stderr()
    place = socket or folder / "state" / "node.sock"

    def ready(node: Node) -> None:
        done(
            tr(
                "{institution} answers at {place} · {borrowers:,} borrowers",
                institution=node.config.institution,
                place=place,
                borrowers=len(node.holdings.table),
            )
        )
        next_step(f"fedcredit coord run start COORDINATOR plan.toml      {tr('(by the coordinator)')}")
        if ready_file is not None:
            ready_file.touch()

    serve_node(
        folder,
        socket=place,
        with_supernode=supernode,
        group_socket=group_socket,
        passphrase=passphrase(),
        stop=stop_event(),
        ready=ready,
    )
    say(tr("Stopped."))
    return {"stopped": True}


@app.command("status")
@guarded
def status(folder: NodeFolder, output_format: Format = OutputFormat.TEXT, debug: Debug = False) -> Mapping[str, Any]:
    """Show what this node has spent and answered. The node must not be running."""
    from fedcredit.config.node import NodeConfig
    from fedcredit.institution.node import NodeRecord

    config = NodeConfig.read(folder)
    with NodeRecord.read(folder, config) as record:
        ledger, ledger_head = len(record.ledger), record.ledger.head.hex()
        log, log_head = len(record.audit), record.audit.head.hex()
    caps = {name: cap.epsilon for name, cap in record.caps.items()}
    spent = {name: record.spent(name) for name in caps}
    shared = any(item.shared for item in spent.values())
    lines = [
        [word(name), spent_twice(item, shared=shared), f"{caps[name]:.4f}", str(item.releases)]
        for name, item in spent.items()
    ]
    table(config.institution, [tr("borrowers"), tr("epsilon spent"), tr("cap"), tr("releases")], lines)
    tell_pairs(shared=shared)
    done(tr("privacy ledger verified · {entries} entries, head {head}", entries=ledger, head=ledger_head[:16]))
    done(tr("audit log verified · {entries} entries, head {head}", entries=log, head=log_head[:16]))
    return {
        "institution": config.institution,
        "spent": {
            name: {"epsilon": item.epsilon, "epsilon_alone": item.epsilon_alone, "releases": item.releases}
            for name, item in spent.items()
        },
        "caps": caps,
        "ledger": {"entries": ledger, "head": ledger_head},
        "audit": {"entries": log, "head": log_head},
    }


keys = typer.Typer(help="The node's own keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(budget.app, name="budget")
app.add_typer(node_data.tokens, name="tokens")


@keys.command("check")
@guarded
def keys_check(
    folder: NodeFolder, output_format: Format = OutputFormat.TEXT, debug: Debug = False
) -> Mapping[str, Any]:
    """Check the key files and show both fingerprints to compare by voice."""
    from fedcredit.config.node import NodeConfig
    from fedcredit.crypto.keys import IdentityKeys
    from fedcredit.institution.node import IDENTITY, INVITATION, read_invitation

    config = NodeConfig.read(folder)
    own = IdentityKeys.load(folder / IDENTITY, passphrase=passphrase()).public.fingerprint()
    done(f"{config.institution}: {own}")
    pinned = read_invitation(folder).identity.fingerprint() if (folder / INVITATION).exists() else None
    say(tr("   coordinator: {fingerprint}", fingerprint=pinned) if pinned else tr("   no coordinator is pinned yet"))
    next_step(f"fedcredit node run {folder}" if pinned else _join_command(folder))
    return {"institution": config.institution, "fingerprint": own, "coordinator": pinned}


def _plan_entry(folder: Path) -> str:
    """Return what ``coord plan new --borrowers`` takes for this node, with COUNT for people to agree on."""
    from fedcredit.config.node import NodeConfig
    from fedcredit.contract import load_contract

    config = NodeConfig.read(folder)
    held = config.data.modalities
    every = {modality.name for modality in load_contract(config.data.contract).modalities}
    return f"{config.institution}=COUNT" if set(held) == every else f"{config.institution}=COUNT:{','.join(held)}"


def _join_command(folder: Path) -> str:
    return f"fedcredit node join {folder} INVITATION --fingerprint FINGERPRINT      {tr('(both from the coordinator)')}"
