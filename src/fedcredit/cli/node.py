"""``fedcredit node``: what an institution's operator types."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli import budget, preview
from fedcredit.cli.options import Debug, Format, OutputFormat, guarded, passphrase
from fedcredit.cli.output import done, next_step, note, say, table
from fedcredit.cli.plan_view import tell_claim, tell_terms, tell_warnings
from fedcredit.cli.preview import read_offer, tell_departures, tell_refusal
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.config.node import NodeConfig
    from fedcredit.privacy.plan import PlanFacts

app = typer.Typer(help="Run one institution: its data, keys and privacy ledger never leave it.", no_args_is_help=True)
REQUEST_SUFFIX: Final = ".fcrequest"
NodeFolder = Annotated[Path, typer.Argument(help="The node's folder.", metavar="NODE")]
app.command("preview")(preview.preview)


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
    data: Annotated[Path, typer.Option(help="Its own table, Parquet or CSV, in the contract's columns.")],
    contract: Annotated[str, typer.Option(help="Data contract: a shipped name (taiwan, sba, german).")],
    modality: Annotated[list[str], typer.Option(help="A modality it holds; repeat for several.")],
    epsilon: Annotated[float, typer.Option(help="Most that a borrower ever loses on the training part.")],
    delta: Annotated[float, typer.Option(help="One delta for the life of the data set.")],
    holdout_epsilon: Annotated[float, typer.Option(help="Most that a held-out borrower ever loses.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Make a node folder with new keys and a private configuration."""
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


@app.command("check-data")
@guarded
def check_data(
    folder: NodeFolder, output_format: Format = OutputFormat.TEXT, debug: Debug = False
) -> Mapping[str, Any]:
    """Read the institution's table through the contract, as training would, and say what is wrong with it."""
    from fedcredit.config.node import NodeConfig
    from fedcredit.institution.node import holdings_of

    config = NodeConfig.read(folder)
    held = holdings_of(folder, config).table
    rows = len(held)
    bad = int(held.labels.sum())
    done(
        tr(
            "{borrowers:,} borrowers · {default:.1%} default · modalities {modalities}",
            borrowers=rows,
            default=bad / rows,
            modalities=", ".join(held.modalities),
        )
    )
    if held.dropped:
        note(
            tr(
                "{dropped:,} rows are left out: their borrower has another row, and the unit is the borrower",
                dropped=held.dropped,
            )
        )
    next_step(_join_command(folder), f"fedcredit node run {folder}")
    return {"rows": rows, "bad": bad, "dropped": held.dropped, "modalities": list(held.modalities)}


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
    wanted, facts = offer.checked.plan, offer.checked.review.facts
    Approvals(folder / "approvals").approve(wanted)
    done(tr("approved plan {digest} ({plan})", digest=wanted.digest().hex()[:16], plan=wanted.run.name))
    tell_terms(wanted)
    tell_claim(offer.checked)
    tell_departures(offer)
    tell_refusal(offer)
    tell_warnings(offer.checked, at=offer.config.name)
    if facts.protects:
        _warn_of_caps(facts, offer.config)
    next_step(f"fedcredit node run {folder}")
    return {"plan": wanted.digest().hex(), "epsilon": facts.epsilon, "delta": facts.delta, "steps": facts.steps}


def _warn_of_caps(facts: PlanFacts, config: NodeConfig) -> None:
    """Say before training what would be refused in the middle of it, as far as node.toml tells without the ledger."""
    budget = config.budget
    if facts.epsilon > budget.epsilon or facts.evaluation_epsilon > budget.holdout_epsilon:
        note(tr("the plan asks for more epsilon than the caps in node.toml; rounds beyond a cap will be refused"))


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
    from fedcredit.institution.node import STATE, NodeState
    from fedcredit.privacy.plan import HOLDOUT, TRAIN
    from fedcredit.store.database import Database

    config = NodeConfig.read(folder)
    with Database.open(folder / STATE) as database:
        state = NodeState.open(database, config)
        spent = {name: state.ledger.spent(name) for name in (TRAIN, HOLDOUT)}
        entries, head = len(state.audit), state.audit.head.hex()
    caps = {TRAIN: config.budget.epsilon, HOLDOUT: config.budget.holdout_epsilon}
    lines = [
        [word(name), f"{item.epsilon:.4f}", f"{caps[name]:.4f}", str(item.releases)] for name, item in spent.items()
    ]
    table(config.institution, [tr("borrowers"), tr("epsilon spent"), tr("cap"), tr("releases")], lines)
    done(tr("privacy ledger and audit log verified · {entries} entries, head {head}", entries=entries, head=head[:16]))
    return {
        "institution": config.institution,
        "spent": {name: {"epsilon": item.epsilon, "releases": item.releases} for name, item in spent.items()},
        "caps": caps,
        "audit": {"entries": entries, "head": head},
    }


keys = typer.Typer(help="The node's own keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(budget.app, name="budget")


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


def _join_command(folder: Path) -> str:
    return f"fedcredit node join {folder} INVITATION --fingerprint FINGERPRINT      {tr('(both from the coordinator)')}"
