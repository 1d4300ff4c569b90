"""Drives an opened run to its end and leaves its public record beside the audit log.

preparation.json what the round before the first one was, if the plan has one
rounds.jsonl     one line per released round: who contributed, sealed bytes each way
evaluation.json  figures from the noised score counts of all institutions
closing.json     who has cosigned the whole log at the end, and who voted what on the model
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fedcredit.evaluation import Figures, ScoreCounts, noisy_auc_interval
from fedcredit.messages import COUNT_GRID
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.rounds.coordinator import OpenRun
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.run import RoundReport
from fedcredit.rounds.voting import Verdict
from fedcredit.store.files import write_atomic

PREPARATION_FILE: Final = "preparation.json"
ROUNDS_FILE: Final = "rounds.jsonl"
EVALUATION_FILE: Final = "evaluation.json"
CLOSING_FILE: Final = "closing.json"


def drive(
    opened: OpenRun,
    privacy: PrivacyPlan,
    *,
    on_round: Callable[[RoundReport], None] = lambda _: None,
    on_reply: Callable[[RoundResult], None] = lambda _: None,
) -> Verdict:
    """Run what is left of a run, evaluate the last model once, show everybody the log, have them vote, and finish.

    Returns what the members say to the model. A model that they keep back stays a candidate: whoever uses a run's model
    calls ``Verdict.require_released`` first. ``on_reply`` hears of every stage as it begins, and of every answer in it.

    Raises:
        QuorumError, SumNotOpenedError, UpdateOutOfRangeError, RoundRefusedError: a round failed; call again later to
            resume.
    """
    run = opened.run
    preparation = run.prepare(on_reply=on_reply)
    if preparation is not None:
        record = json.dumps(_round_line(0, preparation), indent=1)
        write_atomic(opened.folder / PREPARATION_FILE, record.encode())
    lines = read_lines(opened.folder / ROUNDS_FILE)[: run.state.round]
    for report in run.rounds(on_reply=on_reply):
        lines.append({**_round_line(report.round, report.result), "checkpoint": report.checkpoint.hex()})
        _write_lines(opened.folder / ROUNDS_FILE, lines)
        on_round(report)
    # A crash after the evaluation must not ask, and charge, again.
    if not (opened.folder / EVALUATION_FILE).exists():
        counts, result = run.evaluate(on_reply=on_reply)
        figures = {**evaluation_record(counts, result, privacy), "traffic": _round_line(run.state.round, result)}
        write_atomic(opened.folder / EVALUATION_FILE, json.dumps(figures, indent=1).encode())
    closing = run.close(on_reply=on_reply)
    if closing is not None:
        said = run.verdict.record() if run.verdict else {}
        record = json.dumps({**_round_line(run.state.round, closing), **said}, indent=1)
        write_atomic(opened.folder / CLOSING_FILE, record.encode())
    return run.finish()


def evaluation_record(counts: ScoreCounts, result: RoundResult, privacy: PrivacyPlan) -> dict[str, Any]:
    """Return figures from noised counts, with an interval that includes the noise."""
    release = privacy.evaluation_release(release_id="figures", sensitivity_squared=COUNT_GRID**2, dimension=1)
    deviation = release.sigma / COUNT_GRID * len(result.contributors) ** 0.5
    interval = noisy_auc_interval(counts, noise_deviation=deviation)
    return {
        **asdict(Figures.from_counts(counts)),
        "auc_low": interval.low,
        "auc_high": interval.high,
        "contributors": list(result.contributors),
        "note": "from noised score counts of all institutions on held-out borrowers",
    }


def read_record(path: Path) -> dict[str, Any]:
    """Return the one record of a JSON file that ``drive`` wrote."""
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON-lines file; none if it does not exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def _round_line(number: int, result: RoundResult) -> dict[str, Any]:
    return {
        "round": number,
        "contributors": list(result.contributors),
        "refusals": dict(result.refusals),
        "messages": dict(result.messages),
        "bytes_down": dict(result.bytes_sent),
        "bytes_up": dict(result.bytes_received),
    }


def _write_lines(path: Path, lines: list[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
