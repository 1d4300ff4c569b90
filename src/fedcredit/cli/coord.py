"""``fedcredit coord``: what a coordinator types."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli import plan
from fedcredit.cli.options import Debug, Format, OutputFormat, guarded, passphrase
from fedcredit.cli.output import console, done, next_step, note, say, table
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.daemon.control import Status

app = typer.Typer(help="Coordinate a consortium: members, plans, runs.", no_args_is_help=True)
member = typer.Typer(help="Members of the consortium.", no_args_is_help=True)
run_app = typer.Typer(help="Runs.", no_args_is_help=True)
app.add_typer(member, name="member")
app.add_typer(plan.app, name="plan")
app.add_typer(run_app, name="run")

Folder = Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="COORDINATOR")]
Sockets = Annotated[Path | None, typer.Option(help="Folder of the daemon's sockets. Default: COORDINATOR/sockets")]
INVITATION_SUFFIX: Final = ".fcinvite"
DEFAULT_PORT: Final = 9443
HOLDOUT_FRACTION: Final = 0.2


def _sockets(folder: Path, given: Path | None) -> Path:
    return given or folder / "sockets"


@app.command("init")
@guarded
def init(
    folder: Folder,
    consortium: Annotated[str, typer.Option(help="Name of the consortium: lower-case letters, digits, hyphens.")],
    host: Annotated[
        str, typer.Option(help="Address that institutions reach: loopback, or a gateway in front of the relay.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the relay.")] = DEFAULT_PORT,
    out_of_time: Annotated[
        datetime.datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day that nobody trains on; for plans on canonical tables."),
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Make a coordinator folder with new keys and the relay's certificate."""
    from fedcredit.config.federation import FederationConfig
    from fedcredit.config.reading import validate
    from fedcredit.rounds.coordinator import init_coordinator

    config = validate(
        FederationConfig,
        {
            "schema_version": 1,
            "consortium": consortium,
            "relay": {"host": host, "port": port},
            # A public key of the split; random, so that nobody can choose who is held out.
            "holdout": {
                "salt": secrets.token_hex(16),
                "fraction": HOLDOUT_FRACTION,
                "out_of_time": out_of_time.date() if out_of_time else None,
            },
        },
        source="coord init",
    )
    hosts = list(dict.fromkeys([host, "127.0.0.1", "localhost"]))
    keys = init_coordinator(folder, config, hosts=hosts, passphrase=passphrase())
    fingerprint = keys.public.fingerprint()
    done(tr("wrote {folder}/federation.toml, keys and the relay's certificate", folder=folder))
    say(tr("   federation key: {fingerprint}   ← read it aloud to every institution", fingerprint=fingerprint))
    next_step(f"fedcredit coord invite {folder}")
    return {"folder": str(folder), "consortium": consortium, "fingerprint": fingerprint}


@app.command("invite")
@guarded
def invite(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="Where to write the invitation.")] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Write the invitation that institutions join with; it holds public keys and addresses only."""
    from fedcredit.enrolment import armoured
    from fedcredit.rounds.coordinator import Coordinator
    from fedcredit.store.files import write_atomic

    coordinator = Coordinator(folder, passphrase=passphrase())
    path = out or folder / f"{coordinator.config.consortium}{INVITATION_SUFFIX}"
    write_atomic(path, armoured(coordinator.invitation()))
    fingerprint = coordinator.keys.public.fingerprint()
    done(tr("wrote {path}", path=path))
    next_step(f"fedcredit node join NODE {path} --fingerprint {fingerprint}      {tr('(by the institution)')}")
    return {"invitation": str(path), "fingerprint": fingerprint}


@member.command("approve")
@guarded
def member_approve(
    folder: Folder,
    request: Annotated[Path, typer.Argument(help="The institution's join request.")],
    fingerprint: Annotated[str, typer.Option(help="The institution's fingerprint, as heard by voice.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Take an institution into the roster after comparing its fingerprint by voice."""
    from fedcredit.cli.plan_draft import SMALL_CONSORTIUM
    from fedcredit.rounds.coordinator import Coordinator

    coordinator = Coordinator(folder, passphrase=passphrase())
    approved = coordinator.approve_member(request, fingerprint=fingerprint)
    members = len(coordinator.members())
    done(
        tr(
            "{institution} ({kind}) is member {members} of {consortium}",
            institution=approved.institution,
            kind=word(approved.kind),
            members=members,
            consortium=coordinator.config.consortium,
        )
    )
    plan = (
        f"fedcredit coord plan new {folder} plan.toml --contract CONTRACT --epsilon EPSILON --delta DELTA "
        "--evaluation-epsilon EPSILON --borrowers INSTITUTION=COUNT"
    )
    small = (
        f"fedcredit coord plan new {folder} plan.toml --contract CONTRACT --epsilon EPSILON --delta DELTA "
        "--evaluation-epsilon EPSILON --threshold THRESHOLD --borrowers INSTITUTION=COUNT"
    )
    shown = small if members <= SMALL_CONSORTIUM else plan
    next_step(f"{shown}      {tr('(once all members are approved)')}")
    return {"institution": approved.institution, "members": members}


@member.command("show")
@guarded
def member_show(folder: Folder, output_format: Format = OutputFormat.TEXT, debug: Debug = False) -> Mapping[str, Any]:
    """Show the roster with its fingerprints."""
    from fedcredit.contract.canonical.versions import newest_common
    from fedcredit.crypto.keys import PublicIdentity
    from fedcredit.rounds.coordinator import Coordinator

    requests = Coordinator(folder, passphrase=passphrase()).members()
    version = newest_common(item.schemas for item in requests)
    lines = [[item.institution, item.kind, PublicIdentity.from_bytes(item.identity).fingerprint()] for item in requests]
    shown = [[institution, word(kind), fingerprint] for institution, kind, fingerprint in lines]
    table(tr("Members"), [tr("institution"), tr("kind"), tr("fingerprint")], shown, left=3)
    if version is not None:
        say(tr("   newest version of the canonical data set that all speak: {version}", version=version))
    elif requests:
        note(tr("no version of the canonical data set is spoken by all: no plan on canonical tables can be made"))
    members = [{"institution": a, "kind": b, "fingerprint": c} for a, b, c in lines]
    return {"members": members, "schema_version": version}


@app.command("serve")
@guarded
def serve(
    folder: Folder, sockets: Sockets = None, output_format: Format = OutputFormat.TEXT, debug: Debug = False
) -> Mapping[str, Any]:
    """Run the relay, the server courier's host and the coordinator daemon until stopped."""
    from fedcredit.cli.logs import log_to_stderr
    from fedcredit.cli.signals import stop_event
    from fedcredit.flower.coordinator_daemon import CoordinatorDaemon, serve_until

    log_to_stderr()
    daemon = CoordinatorDaemon(folder, sockets=_sockets(folder, sockets), passphrase=passphrase())

    def ready() -> None:
        done(tr("coordinator serves at {sockets}", sockets=_sockets(folder, sockets)))
        next_step(
            f"fedcredit node run NODE      {tr('(by every institution)')}",
            f"fedcredit coord run start {folder} plan.toml",
        )

    serve_until(stop_event(), daemon, ready=ready)
    say(tr("Stopped."))
    return {"stopped": True}


@run_app.command("start")
@guarded
def run_start(
    folder: Folder,
    plan: Annotated[Path, typer.Argument(help="The approved run plan.")],
    sockets: Sockets = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Start a run; the daemon carries it out."""
    from fedcredit.config.plan import RunPlan
    from fedcredit.daemon.control import ControlClient

    wanted = RunPlan.read(plan)
    run_id = ControlClient(_sockets(folder, sockets) / "control.sock").start(wanted)
    done(tr("run {run} started · plan {digest}", run=run_id, digest=wanted.digest().hex()[:16]))
    next_step(f"fedcredit coord run watch {folder}")
    return {"run": run_id, "plan": wanted.digest().hex()}


@run_app.command("resume")
@guarded
def run_resume(
    folder: Folder,
    run_id: Annotated[str, typer.Argument(help="The run to go on with.", metavar="RUN")],
    sockets: Sockets = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Go on with a run after its last released round."""
    from fedcredit.daemon.control import ControlClient

    resumed = ControlClient(_sockets(folder, sockets) / "control.sock").resume(run_id)
    done(tr("run {run} goes on", run=resumed))
    next_step(f"fedcredit coord run watch {folder}")
    return {"run": resumed}


@run_app.command("watch")
@guarded
def run_watch(
    folder: Folder, sockets: Sockets = None, output_format: Format = OutputFormat.TEXT, debug: Debug = False
) -> Mapping[str, Any]:
    """Follow the current run to its end; Ctrl-C leaves it, the run goes on."""
    from fedcredit.daemon.control import ControlClient, error_from

    client = ControlClient(_sockets(folder, sockets) / "control.sock")
    with console.status(tr("waiting for the coordinator …")) as line:
        while True:
            status = client.status()
            line.update(progress(status, now=time.time()))
            if status.state != "running":
                break
            time.sleep(0.5)
    if status.state == "failed":
        note(
            tr(
                "run {run} stopped after round {round} of {rounds}; once the cause is gone:",
                run=status.run,
                round=status.round,
                rounds=status.rounds,
            )
        )
        next_step(f"fedcredit coord run resume {folder} {status.run}")
        raise error_from(status.error or {})
    if status.state == "rejected":
        _tell_votes(folder / "runs" / status.run)
        next_step(f"fedcredit audit verify {folder}/runs/{status.run}")
        raise error_from(status.error or {})
    if status.state == "idle":
        note(tr("no run since the daemon started"))
        next_step(f"fedcredit coord run start {folder} plan.toml")
    else:
        done(tr("run {run} finished after {rounds} rounds", run=status.run, rounds=status.round))
        _tell_votes(folder / "runs" / status.run)
        say(
            tr(
                "   figures from the noised counts of all members: {path}",
                path=folder / "runs" / status.run / "evaluation.json",
            )
        )
        next_step(f"fedcredit audit verify {folder}/runs/{status.run}")
    return {"run": status.run, "state": status.state, "round": status.round, "rounds": status.rounds}


def _tell_votes(place: Path) -> None:
    """Print what the members have said to a finished run's model."""
    from fedcredit.cli.result_view import tell_verdict
    from fedcredit.rounds.drive import CLOSING_FILE, read_record

    if (place / CLOSING_FILE).exists():
        tell_verdict(read_record(place / CLOSING_FILE))


def progress(status: Status, *, now: float) -> str:
    """Return how far a run is and, while members are asked, for what, who has not answered and until when."""
    line = tr(
        "run {run} · {state} · round {round} of {rounds} released · {institutions} institutions",
        run=status.run or "–",
        state=word(status.state),
        round=status.round,
        rounds=status.rounds,
        institutions=status.institutions,
    )
    if status.waiting:
        line += "\n" + tr(
            "  {stage} · waiting for {waiting} · for {since:.0f} s, gives up in {left:.0f} s",
            stage=word(status.stage),
            waiting=", ".join(status.waiting),
            since=max(0.0, now - status.since),
            left=max(0.0, status.until - now),
        )
    return line


@run_app.command("status")
@guarded
def run_status(folder: Folder, output_format: Format = OutputFormat.TEXT, debug: Debug = False) -> Mapping[str, Any]:
    """List this coordinator's runs and the rounds each has released."""
    from fedcredit.config.plan import RunPlan
    from fedcredit.rounds.coordinator import Coordinator
    from fedcredit.rounds.drive import CLOSING_FILE, ROUNDS_FILE, read_lines, read_record

    coordinator = Coordinator(folder, passphrase=passphrase())
    runs: list[dict[str, Any]] = []
    for run_id in coordinator.run_ids():
        place = coordinator.run_folder(run_id)
        released = len(read_lines(place / ROUNDS_FILE))
        total = RunPlan.read(place / "plan.toml").run.rounds
        verdict = read_record(place / CLOSING_FILE)["verdict"] if (place / CLOSING_FILE).exists() else None
        runs.append({"run": run_id, "released": released, "rounds": total, "verdict": verdict})
    lines = [
        [
            r["run"],
            tr("{released} of {rounds}", released=r["released"], rounds=r["rounds"]),
            word(r["verdict"]) if r["verdict"] else tr("open"),
        ]
        for r in runs
    ]
    table(tr("Runs"), [tr("run"), tr("rounds released"), tr("state")], lines)
    unfinished = [r["run"] for r in runs if not r["verdict"]]
    if unfinished:
        next_step(
            f"fedcredit coord run watch {folder}",
            f"fedcredit coord run resume {folder} {unfinished[-1]}      {tr('(if it was cut off)')}",
        )
    return {"runs": runs}
