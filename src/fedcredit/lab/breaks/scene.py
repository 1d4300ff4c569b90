"""A small real run for demonstrations: folders, keys, ledgers and logs of all parties, in one process.

The lab owns every folder, so it can play any party; and it looks into members to know what an attacker must not find
out. Nodes and the coordinator are the product's own, opened from their folders as their daemons open them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from fedcredit.audit.log import AuditLog, Event, EventKind
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.envelope import OpenedAnswer, OpenedRequest, open_answer, open_request
from fedcredit.errors import FedcreditError, QuorumError, SumNotOpenedError, UsageError
from fedcredit.institution.node import IDENTITY, Node
from fedcredit.lab.breaks.story import COORDINATOR, Account, LogLine, Story
from fedcredit.lab.breaks.truth import Drawn, Integers, summed_again
from fedcredit.lab.study import Study, StudyOptions, build_study
from fedcredit.messages import (
    Manifest,
    Purpose,
    Refusal,
    Stage,
)
from fedcredit.parties import InstitutionId
from fedcredit.privacy.ledger_entries import Charge
from fedcredit.privacy.plan import TRAIN
from fedcredit.rounds.coordinator import Coordinator, OpenRun
from fedcredit.rounds.run import RoundReport
from fedcredit.secagg.wire import ANSWERS
from fedcredit.transport import Deadline, Reply, Transport

Handler = Callable[[bytes], bytes]

SMALLEST: Final = 4
"""Fewer members cannot lose one and still open a sum."""
MOST_STOPS: Final = 2
_NO_RELAY: Final = 1
"""Port in the invitations; nothing listens or connects here."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a person decides about a demonstration."""

    dataset: str
    model: str
    epsilon: float
    seed: int
    aggregation: str
    """"secure" or "open"."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A request on its way, and what the coordinator wrote in it.

    The coordinator cannot open its own seal, so the lab opens it with the member's key; only the coordinator's play
    uses what is inside.
    """

    to: InstitutionId
    sealed: bytes
    opened: OpenedRequest

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the round."""
        return self.opened.manifest

    def at(self, stage: Stage, *, round_number: int, attempt: int = 1) -> bool:
        """Tell whether it is this stage of this attempt of training."""
        manifest = self.manifest
        place = (manifest.purpose, manifest.round, manifest.attempt)
        return self.opened.stage is stage and place == (Purpose.TRAIN, round_number, attempt)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a member answered."""

    payload: bytes
    """As it left, sealed."""
    read: OpenedAnswer
    """As the coordinator reads it."""
    error: FedcreditError | None
    """With which the member refused, from its own log; only the code of it leaves."""

    @property
    def code(self) -> str:
        """Return the code of a refusal, or nothing."""
        return self.read.answer.code if isinstance(self.read.answer, Refusal) else ""


class HandlerOf(Protocol):
    """Says what answers the requests to an institution; the default is its node's worker, and nothing else."""

    def __call__(self, scene: Scene, name: InstitutionId) -> Handler:
        """Return the handler."""
        ...


def honest(scene: Scene, name: InstitutionId) -> Handler:
    """Return the worker of the node, whichever is open now."""
    return lambda request: scene.nodes[name].worker.handle(request)


class _Overheard(logging.Handler):
    """Keeps the errors with which institutions refuse: their own logs have the sentence, the wire only the code."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[FedcreditError] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error of a refusal."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.errors += [item for item in arguments if isinstance(item, FedcreditError)]


class Scene:
    """An open consortium. ``handle`` is the only way to a member, for the run and for attackers."""

    def __init__(self, study: Study, stack: ExitStack, *, handler_of: HandlerOf) -> None:
        self.study: Final = study
        self.names: Final = tuple(sorted(study.holdings))
        self.account: Final = Account()
        self.coordinator = Coordinator(study.coordinator_folder)
        self.nodes: dict[InstitutionId, Node] = {}
        self.heard: list[tuple[Delivery, Heard]] = []
        """Everything that members answered, in order."""
        self._stack = stack
        self._drawn: dict[InstitutionId, Drawn] = {name: Drawn() for name in self.names}
        self._entropy: dict[bytes, list[bytes]] = {}
        self._truths: dict[bytes, Integers] = {}
        self._keys = {
            name: IdentityKeys.load(study.node_folder(name) / IDENTITY, passphrase=None) for name in self.names
        }
        for name in self.names:
            self._open_node(name)
        self._handlers = {name: handler_of(self, name) for name in self.names}
        self._overheard = _listening(stack)
        self._log: AuditLog | None = None
        self._events: list[Event] = []

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, folder: Path, setting: Setting, *, rounds: int, retries: int = 1, handler_of: HandlerOf = honest
    ) -> Iterator[Scene]:
        """Return a context with a consortium under ``folder``, which must not exist; one member may drop out.

        Raises:
            UsageError: the data set has fewer than four institutions.
            AlreadyExistsError, PrivacyPlanError and others: as ``build_study``.
        """
        options = StudyOptions(
            dataset=setting.dataset,
            model=setting.model,  # type: ignore[arg-type]
            epsilon=setting.epsilon,
            rounds=rounds,
            seed=setting.seed,
            test_noise=False,
            deadline_s=120.0,
            aggregation=setting.aggregation,  # type: ignore[arg-type]
            drop_outs=1,
            retries=retries,
        )
        study = build_study(folder, options, relay_port=_NO_RELAY)
        if len(study.holdings) < SMALLEST:
            raise UsageError(problem=f"{setting.dataset} has too few institutions", hint="Give --data german.")
        with ExitStack() as stack:
            yield cls(study, stack, handler_of=handler_of)

    # --- the run -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def run(self, transport: Transport, *, run_id: str | None = None) -> Iterator[OpenRun]:
        """Return a context with a new run over ``transport``, or with ``run_id`` resumed from its folder."""
        with self.coordinator.open_run(run_id, self.study.plan, transport) as opened:
            self._log = opened.run.audit
            try:
                yield opened
            finally:
                self._events = list(opened.run.audit.events())
                self._log = None

    def run_until(self, transport: Transport, last: int) -> dict[int, RoundReport]:
        """Run to round ``last``, resuming the run from its folder each time that it stops; return what was released.

        The plan must pay for every attempt: it has more rounds than ``last``, and no retries, so that each stop shows.

        Raises:
            QuorumError, SumNotOpenedError: it stopped more than ``MOST_STOPS`` times.
        """
        reports: dict[int, RoundReport] = {}
        run_id, stops = None, 0
        while last not in reports:
            with self.run(transport, run_id=run_id) as opened:
                run_id = opened.run.run_id
                try:
                    for report in opened.run.rounds():
                        reports[report.round] = report
                        self.tell_sum(report)
                        if report.round == last:
                            break
                except (QuorumError, SumNotOpenedError) as error:
                    self.account.answer(COORDINATOR, "stops", error=error)
                    stops += 1
                    if stops > MOST_STOPS:
                        raise
                    self.account.answer(COORDINATOR, "is-resumed", round=opened.run.state.round)
        return reports

    def tell_sum(self, report: RoundReport) -> None:
        """Note that a round has ended with a sum."""
        members = len(report.result.contributors)
        self.account.answer(COORDINATOR, "opens-sum", round=report.round, members=members)

    @property
    def log(self) -> AuditLog:
        """Return the coordinator's log, while a run is open."""
        if self._log is None:
            raise RuntimeError("no run is open")
        return self._log

    def restart_coordinator(self) -> None:
        """Open the coordinator from the files that ``keep_disk`` kept; nothing of the process before is left."""
        put_disk_back(self.study.coordinator_folder)
        self.coordinator = Coordinator(self.study.coordinator_folder)

    def restart_node(self, name: InstitutionId) -> None:
        """End a node where it stands and open it from what its disk holds: the state files of this very moment."""
        state = self.study.node_folder(name) / "state"
        keep_disk(state)
        self.nodes[name].close()
        put_disk_back(state)
        self._open_node(name)

    def _open_node(self, name: InstitutionId) -> None:
        node = Node.open(self.study.node_folder(name), entropy=self._drawn[name])
        self.nodes[name] = node
        self._stack.callback(node.close)

    # --- messages ----------------------------------------------------------------------------------------------------

    def keys_of(self, name: InstitutionId) -> IdentityKeys:
        """Return a member's keys: the lab plays members too."""
        return self._keys[name]

    def delivery(self, to: InstitutionId, sealed: bytes) -> Delivery:
        """Return a request with what is inside.

        Raises:
            CannotOpenError and others of ``open_request``.
        """
        opened = open_request(
            sealed,
            consortium=self.study.plan.run.consortium,
            institution=to,
            keys=self._keys[to],
            coordinator=self.coordinator.keys.public,
            channels=self.nodes[to].state.memory.channel,
        )
        return Delivery(to=to, sealed=sealed, opened=opened)

    def ask(self, delivery: Delivery) -> Heard:
        """Deliver a request to a member and return what it answered; the lab remembers it."""
        drawn, already = self._drawn[delivery.to].parts, len(self._overheard.errors)
        drawn.clear()
        payload = self._handlers[delivery.to](delivery.sealed)
        if drawn:
            # A later answer to the same manifest (accept, reveal) draws nothing that enters the sum.
            self._entropy.setdefault(_sum_key(delivery), list(drawn))
        errors = self._overheard.errors[already:]
        heard = Heard(payload=payload, read=self.read(delivery, payload), error=errors[0] if errors else None)
        self.heard.append((delivery, heard))
        return heard

    def read(self, delivery: Delivery, payload: bytes) -> OpenedAnswer:
        """Open an answer as the coordinator does.

        Raises:
            CannotOpenError, BadSignatureError, WrongContextError, MalformedMessageError: as ``open_answer``.
        """
        return open_answer(
            payload,
            *ANSWERS[delivery.opened.stage],
            manifest=delivery.manifest,
            manifest_digest=delivery.opened.manifest_digest,
            stage=delivery.opened.stage,
            institution=delivery.to,
            identity=self.identity_of(delivery.to),
            keys=self.coordinator.keys,
            request_digest=hashlib.sha256(delivery.sealed).digest(),
            channel=delivery.opened.channel,
        )

    def identity_of(self, name: InstitutionId) -> PublicIdentity:
        """Return a member's public keys."""
        return self._keys[name].public

    # --- what only the lab may know ----------------------------------------------------------------------------------

    def truth(self, delivery: Delivery) -> Integers:
        """Return the noised numbers that a member put under its mask for the round of ``delivery``, shape (lanes,).

        It comes from its borrowers and what it drew, not from a message (``truth.summed_again``).
        """
        key = _sum_key(delivery)
        if key not in self._truths:
            self._truths[key] = summed_again(self.nodes[delivery.to], delivery.opened, self._entropy[key])
        return self._truths[key]

    def charges(self, name: InstitutionId) -> list[Charge]:
        """Return every charge to a member's borrowers, oldest first."""
        return [entry for entry in self.nodes[name].state.ledger.history() if isinstance(entry, Charge)]

    def epsilon(self, name: InstitutionId) -> float:
        """Return what the training borrowers of a member have spent."""
        return self.nodes[name].state.ledger.spent(TRAIN).epsilon

    def events(self, *kinds: EventKind) -> list[Event]:
        """Return the coordinator's events of these kinds; of a run that is open, those that are written."""
        events = self._events if self._log is None else self._log.events()
        return [event for event in events if event.kind in kinds]

    # --- the story ---------------------------------------------------------------------------------------------------

    def story(self, idea: str, *kinds: EventKind) -> Story:
        """Return what happened, with the coordinator's events of ``kinds`` and all refusals of members."""
        lines = [LogLine.of(COORDINATOR, event) for event in self.events(*kinds)]
        for name in self.names:
            refused = [e for e in self.nodes[name].state.audit.events() if e.kind is EventKind.REQUEST_REFUSED]
            lines += [LogLine.of(name, event) for event in refused]
        return Story(
            idea=idea,
            dataset=self.study.dataset.name,
            model=self.study.options.model,
            institutions=self.names,
            steps=tuple(self.account.steps),
            lines=tuple(lines),
            checks=tuple(self.account.checks),
        )


class Carrier:
    """A transport that carries honestly; a dishonest or unlucky one replaces ``carry``."""

    def __init__(self, scene: Scene) -> None:
        self.scene: Final = scene

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        """Carry each request in order; nothing here waits, so no deadline passes."""
        for name, sealed in requests.items():
            yield from self.carry(self.scene.delivery(name, sealed))

    def carry(self, delivery: Delivery) -> Iterator[Reply]:
        """Yield the member's answer."""
        yield reply(delivery.to, self.scene.ask(delivery).payload)


def reply(name: InstitutionId, payload: bytes) -> Reply:
    """Return an answer as a carrier hands it over."""
    return Reply(institution=name, payload=payload)


def keep_disk(folder: Path) -> None:
    """Copy the files of ``folder`` as they are at this moment: what ``kill -9`` leaves on a disk."""
    shutil.copytree(folder, _kept(folder))


def put_disk_back(folder: Path) -> None:
    """Put them back; whatever an orderly end has written since is lost, as it would be."""
    shutil.rmtree(folder)
    _kept(folder).rename(folder)


def _kept(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-at-the-kill")


def _listening(stack: ExitStack) -> _Overheard:
    log, ear = logging.getLogger("fedcredit.institution"), _Overheard()
    told, log.propagate = log.propagate, False
    log.addHandler(ear)
    stack.callback(setattr, log, "propagate", told)
    stack.callback(log.removeHandler, ear)
    return ear


def _sum_key(delivery: Delivery) -> bytes:
    return hashlib.sha256(delivery.opened.manifest_digest + delivery.to.encode()).digest()
