"""PROTOCOL.md 9.1, attack 14: no key is in a log, in what the coordinator keeps of a run, or in what goes to a courier.

A run of masked rounds, one of them with a member missing, on disk. All that its members drew as secret is known here:
what their entropy gave, and the roots, masks, box keys and channels that followed. Then every file and every log line
is searched for any 16 bytes of it. A member's own database holds what it needs next and nothing that is over.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from consortium import NAMES, RUN, SECURE, Consortium, Flaky, Recorder, Site, plan_of
from kept_runs import driven
from wiretap import WINDOW, windows

from fedcredit.flower.envelope import wrap
from fedcredit.institution.memory import RunMemory
from fedcredit.secagg.epoch import EpochRoots, EpochState

LATE = "insurer-d"


@dataclass
class Drawn:
    """What the members have drawn and derived."""

    entropy: list[bytes] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    channels: list[bytes] = field(default_factory=list)

    @property
    def secrets(self) -> list[bytes]:
        return [*self.entropy, *self.roots, *self.channels]

    def draw(self, count: int) -> bytes:
        drawn = os.urandom(count)
        if count >= 32:
            self.entropy.append(drawn)
        return drawn


class OpenMemory(RunMemory):
    """The product's memory, which tells the test what it is given to keep."""

    drawn: Drawn

    def keep_epoch(self, run: str, state: EpochState) -> None:
        super().keep_epoch(run, state)
        if isinstance(state, EpochRoots):
            self.drawn.roots += state.roots

    def keep_channel(self, run: str, secret: bytes) -> None:
        super().keep_channel(run, secret)
        self.drawn.channels.append(secret)


@dataclass
class Kept:
    """A run that is over, and what was secret in it."""

    consortium: Consortium
    recorder: Recorder
    drawn: Drawn
    lines: str
    """Everything that was logged, of any level."""

    @property
    def sites(self) -> Iterable[Site]:
        return self.consortium.sites.values()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Return a run of three masked rounds in which one member is missing in the second."""
    drawn, heard = Drawn(), list[str]()
    consortium = Consortium.make(tmp_path_factory.mktemp("run"), plan_of(**SECURE), on_disk=True)
    for site in consortium.sites.values():
        memory = OpenMemory(site.state.database, entropy=drawn.draw)
        memory.drawn = drawn
        site.entropy, site.state = drawn.draw, replace(site.state, memory=memory)
        site.assemble()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(f"{record.getMessage()} {record.args!r} {record.exc_info!r}")

    handler, root = Heard(level=1), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    recorder = Recorder(Flaky(consortium.loopback(), lambda name, number: (name, number) == (LATE, 6)))
    try:
        driven(consortium, recorder)
        next(iter(consortium.sites.values())).worker.handle(b"what nobody can open")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return Kept(consortium=consortium, recorder=recorder, drawn=drawn, lines="\n".join(heard))


def shared(secrets: Iterable[bytes], data: bytes) -> bool:
    """Tell whether any 16 bytes in a row of a secret are in ``data``."""
    wanted: set[bytes] = set().union(*(windows(secret) for secret in secrets))
    return any(data[start : start + WINDOW] in wanted for start in range(len(data) - WINDOW + 1))


def spelt(secret: bytes) -> list[bytes]:
    """Return a secret as text has it: hexadecimal, and as Python prints bytes."""
    return [secret.hex().encode(), repr(secret)[2:-1].encode()]


IDENTITY_SEEDS = [bytes([number]) * WINDOW for number in (1, *range(10, 10 + len(NAMES)))]
"""All seeds of the made-up identities of coordinator and members repeat one byte; see ``consortium.keys_of``."""


def test_the_search_can_find_what_it_looks_for(kept: Kept) -> None:
    secrets = kept.drawn.secrets
    assert len(kept.drawn.channels) == 4
    assert len(kept.drawn.roots) == 3 * (4 * 4 - 1)  # three pairs, four rounds with four members, one missing once
    assert len(kept.drawn.entropy) > 40
    assert all(windows(secret) for secret in secrets)
    assert shared(secrets, b"in front " + secrets[-1][8:24] + b" behind")
    # What a member needs for the next round is in its own database, which nobody else reads.
    databases = b"".join(path.read_bytes() for site in kept.sites for path in site.folder.glob("node.db*"))
    assert shared(kept.drawn.roots, databases)
    assert kept.lines


def test_no_secret_of_a_member_is_in_what_the_coordinator_keeps(kept: Kept) -> None:
    files = [path for path in (kept.consortium.folder / "run").rglob("*") if path.is_file()]
    assert {"audit.jsonl", "plan.toml", "run.db"} <= {path.name for path in files}
    secrets = kept.drawn.secrets
    texts = [text for secret in secrets for text in spelt(secret)]
    for path in files:
        data = path.read_bytes()
        assert not shared(secrets, data), path.name
        assert not shared(texts, data), path.name
        assert not any(seed in data for seed in IDENTITY_SEEDS), path.name


def test_no_secret_is_in_a_line_that_was_logged_or_in_a_members_own_audit_log(kept: Kept) -> None:
    secrets = kept.drawn.secrets
    texts = [text for secret in secrets for text in spelt(secret)]
    events = "\n".join(repr(event) for site in kept.sites for event in site.events())
    leaves = b"".join(site.state.audit.leaf(index) for site in kept.sites for index in range(len(site.state.audit)))
    for told in (kept.lines.encode(), events.encode(), leaves):
        assert not shared([*secrets, *texts], told)


def test_no_secret_is_in_what_a_courier_or_flower_carries(kept: Kept) -> None:
    payloads = [data for requests in kept.recorder.requests for data in requests.values()]
    payloads += [reply.payload for reply in kept.recorder.replies if reply.payload is not None]
    secrets = kept.drawn.secrets
    for payload in payloads:
        (record,) = wrap(payload).array_records.values()
        (array,) = record.values()
        assert not shared(secrets, array.data)
        assert not any(seed in array.data for seed in IDENTITY_SEEDS)


def test_what_a_member_remembers_holds_no_root_but_the_next_ones(kept: Kept) -> None:
    for site in kept.sites:
        held = site.state.memory.epoch(RUN)
        assert isinstance(held, EpochRoots)
        old = [root for root in kept.drawn.roots if root not in held.roots]
        assert len(old) >= 3
        rows = [value for (value,) in site.state.database.execute("SELECT value FROM records")]
        assert rows
        assert not any(root in bytes(value) for root in old for value in rows)
        assert not any(seed in bytes(value) for seed in IDENTITY_SEEDS for value in rows)
