"""The consortium of a study in this process: real nodes, real sealing, a loopback instead of a network."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from fedcredit.institution.node import Node
from fedcredit.lab.study import OnRound, Study
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import Coordinator
from fedcredit.rounds.drive import drive
from fedcredit.rounds.run import RoundReport
from fedcredit.transport import LoopbackTransport


def run_in_process(study: Study, *, on_round: OnRound) -> Path:
    """Run a study to its end and return the coordinator's run folder."""
    with ExitStack() as stack:
        nodes = {name: Node.open(study.node_folder(name)) for name in study.holdings}
        for node in nodes.values():
            stack.callback(node.close)
        transport = LoopbackTransport({name: node.worker.handle for name, node in nodes.items()})
        coordinator = Coordinator(study.coordinator_folder)
        with coordinator.open_run(None, study.plan, transport) as opened:
            drive(opened, privacy_plan(study.plan), on_round=lambda report: _tell(report, on_round))
            return opened.folder


def _tell(report: RoundReport, on_round: OnRound) -> None:
    on_round(report.round, report.state.released(), len(report.result.contributors))
