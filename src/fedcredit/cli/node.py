"""``fedcredit node``: what an institution's operator types."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded, passphrase
from fedcredit.cli.output import done, next_step, note, say, table

app = typer.Typer(help="Run one institution: its data, keys and privacy ledger never leave it.", no_args_is_help=True)
REQUEST_SUFFIX: Final = ".fcrequest"
NodeFolder = Annotated[Path, typer.Argument(help="The node's folder.", metavar="NODE")]


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
    contract: Annotated[str, typer.Option(help="Data contract: a shipped name or a YAML file.")],
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
    done(f"wrote {folder}/node.toml and keys (they never leave)")
    say(f"   fingerprint of {name}: {fingerprint}   ← read it to the coordinator when asked")
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
    done(f"{rows:,} borrowers · {bad / rows:.1%} default · modalities {', '.join(held.modalities)}")
    if held.dropped:
        note(f"{held.dropped:,} rows are left out: their borrower has another row, and the unit is the borrower")
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
    done(f"pinned the coordinator of {invited.consortium}, relay {invited.relay}")
    done(f"wrote {path}: send it to the coordinator")
    own = PublicIdentity.from_bytes(request.identity).fingerprint()
    next_step(
        f"fedcredit coord member approve COORDINATOR {path} --fingerprint {own}      (by the coordinator)",
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
    from fedcredit.config.node import NodeConfig
    from fedcredit.config.plan import RunPlan
    from fedcredit.errors import NotAMemberError, PolicyError
    from fedcredit.institution.admission import Approvals
    from fedcredit.privacy.run_plan import privacy_plan

    config, wanted = NodeConfig.read(folder), RunPlan.read(plan)
    if config.institution not in wanted.institutions:
        raise NotAMemberError(institution=config.institution)
    absent = sorted(set(wanted.modalities(config.name)) - set(config.data.modalities))
    if absent:
        raise PolicyError(reason=f"the plan counts on modalities that are not held: {', '.join(absent)}")
    facts = privacy_plan(wanted).describe()
    Approvals(folder / "approvals").approve(wanted)
    done(f"approved plan {wanted.digest().hex()[:16]} ({wanted.run.name})")
    say(f"   trains      {wanted.model.kind}, {wanted.run.rounds} rounds, quorum {wanted.rounds.quorum}")
    say(f"   releases    {facts.steps} noised sums and one noised histogram; never rows or per-borrower scores")
    say(f"   privacy     epsilon {facts.epsilon:g} at delta {facts.delta:g} per {facts.unit}, {facts.mechanism}")
    if not facts.protects:
        note("this plan protects NOBODY")
    next_step(f"fedcredit node run {folder}")
    return {"plan": wanted.digest().hex(), "epsilon": facts.epsilon, "delta": facts.delta, "steps": facts.steps}


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
        done(f"{node.config.institution} answers at {place} · {len(node.holdings.table):,} borrowers")
        next_step("fedcredit coord run start COORDINATOR plan.toml      (by the coordinator)")
        if ready_file is not None:
            ready_file.touch()

    serve_node(folder, socket=place, with_supernode=supernode, passphrase=passphrase(), stop=stop_event(), ready=ready)
    say("Stopped.")
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
    lines = [[name, f"{item.epsilon:.4f}", f"{caps[name]:.4f}", str(item.releases)] for name, item in spent.items()]
    table(config.institution, ["borrowers", "epsilon spent", "cap", "releases"], lines)
    done(f"privacy ledger and audit log verified · {entries} entries, head {head[:16]}")
    return {
        "institution": config.institution,
        "spent": {name: {"epsilon": item.epsilon, "releases": item.releases} for name, item in spent.items()},
        "caps": caps,
        "audit": {"entries": entries, "head": head},
    }


keys = typer.Typer(help="The node's own keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")


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
    say(f"   coordinator: {pinned}" if pinned else "   no coordinator is pinned yet")
    next_step(f"fedcredit node run {folder}" if pinned else _join_command(folder))
    return {"institution": config.institution, "fingerprint": own, "coordinator": pinned}


def _join_command(folder: Path) -> str:
    return f"fedcredit node join {folder} INVITATION --fingerprint FINGERPRINT      (both from the coordinator)"
