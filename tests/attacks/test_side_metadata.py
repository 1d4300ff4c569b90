"""PROTOCOL.md 9.1, attack 11: what a relay can read or measure is the same whatever the members' data are.

Two runs of one plan, on other borrowers and other numbers of them. A relay has lengths, order and the few bytes around
each seal; times are out of scope (SECURITY.md, limits). In Flower's SecAgg+ the same question has two answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from attacks.secagg_plus.fedcredit import Fedcredit
from attacks.secagg_plus.flower import FlowerSecAggPlus, Update
from attacks.secagg_plus.target import Target
from attacks.test_secagg_plus import NAMES, VICTIM, updates
from consortium import SECURE, TREES, Consortium, Recorder, plan_of, table_of
from flwr.app import ArrayRecord

from fedcredit.crypto import channels
from fedcredit.crypto.channels import channel_tag
from fedcredit.flower.envelope import wrap
from fedcredit.institution.admission import Approvals

Fields = tuple[object, ...]


def fields_of(payload: bytes) -> Fields:
    """Return everything that Flower's record shows beside the bytes, their number, and the seal's own head."""
    shown: list[object] = []
    for name, record in wrap(payload).items():
        assert isinstance(record, ArrayRecord)
        shown += [(name, key, item.dtype, item.stype, tuple(item.shape)) for key, item in record.items()]
    return (*shown, payload[:2].hex(), channel_tag(payload) is not None)


@dataclass
class Seen:
    """A run as the relay sees it: fields in the order of the messages, by receiver or sender."""

    asked: list[Mapping[str, Fields]]
    answered: list[tuple[str, Fields]]
    payloads: list[bytes]
    totals: list[list[int]]
    """Not visible: what was summed, to know that the runs are different ones."""


def seen(folder: Path, *, rows: int, seed: str, **changes: object) -> Seen:
    """Drive training and evaluation on borrowers of this ``seed``, and return what crossed."""
    consortium = Consortium.make(folder, plan_of(**changes))
    for site in consortium.sites.values():
        made = table_of(site.name, rows)
        order = np.random.default_rng(list(seed.encode())).permutation(rows)
        labels = made.labels[order] if seed else made.labels
        site.table = type(made)(entities=made.entities, labels=labels, modalities=made.modalities, dropped=0)
        site.assemble()
    recorder = Recorder(consortium.loopback())
    run = consortium.run(recorder)
    totals = [report.result.total.tolist() for report in run.rounds()]
    run.evaluate()
    payloads = [request for requests in recorder.requests for request in requests.values()]
    payloads += [reply.payload for reply in recorder.replies if reply.payload is not None]
    return Seen(
        asked=[{str(to): fields_of(data) for to, data in requests.items()} for requests in recorder.requests],
        answered=[(str(reply.institution), fields_of(reply.payload or b"")) for reply in recorder.replies],
        payloads=payloads,
        totals=totals,
    )


@pytest.mark.parametrize("changes", [SECURE, {}, {**SECURE, **TREES}], ids=["masked", "open", "trees"])
def test_two_runs_on_other_data_show_the_same_lengths_and_the_same_fields(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    one = seen(tmp_path / "one", rows=30, seed="", **changes)
    other = seen(tmp_path / "other", rows=75, seed="other", **changes)
    assert one.totals != other.totals
    assert one.asked == other.asked
    assert one.answered == other.answered
    assert len(one.asked) >= 4
    assert not set(one.payloads) & set(other.payloads)


def test_what_a_relay_can_read_of_a_seal_is_the_same_for_all_members(tmp_path: Path) -> None:
    run = seen(tmp_path, rows=30, seed="", **SECURE)
    for exchange in run.asked:
        assert len(set(exchange.values())) == 1
    lengths = {fields for _, fields in run.answered}
    # One answer to each stage: keys, secrets, upload, agreement and shares; those of one length look alike.
    assert len(lengths) <= 5


def test_behind_its_head_a_seal_is_uniform(tmp_path: Path) -> None:
    """Bytes behind the visible head of all seals of a run; chi-square over 255 degrees, mean 255, deviation 22.6."""
    run = seen(tmp_path, rows=30, seed="", **SECURE)
    head = 2 + channels.TAG_LENGTH
    joined = b"".join(payload[head:] for payload in run.payloads if channel_tag(payload) is not None)
    counts = np.bincount(np.frombuffer(joined, np.uint8), minlength=256)
    expected = len(joined) / 256
    assert expected > 100
    # Six deviations: missed with a chance of 1e-7.
    assert 120 < float(((counts - expected) ** 2 / expected).sum()) < 391


# --- the same question to Flower -------------------------------------------------------------------------------------


def other_updates() -> dict[str, Update]:
    """Return updates of the same sizes from other numbers of examples."""
    return {
        name: Update(
            vector=-update.vector, examples=update.examples + 111, metrics={"loss": 2 * update.metrics["loss"]}
        )
        for name, update in updates(NAMES).items()
    }


def readable(target: Target) -> Mapping[str, float]:
    target.uploads()
    return target.numbers_in_clear(VICTIM)


def test_what_is_readable_beside_an_upload_depends_on_the_data_there_and_not_here(tmp_path: Path) -> None:
    theirs = [readable(FlowerSecAggPlus(trained, threshold=4)) for trained in (updates(NAMES), other_updates())]
    assert theirs[0] != theirs[1]
    ours = [
        readable(Fedcredit(trained, threshold=4, approvals=Approvals(tmp_path)))
        for trained in (updates(NAMES), other_updates())
    ]
    assert ours[0] == ours[1]
