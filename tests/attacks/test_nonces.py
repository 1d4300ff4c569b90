"""PROTOCOL.md 9.1, attack 4: no key meets a nonce twice, and no key that stands for one mask or one box is used twice.

What is counted is what an observer would look for: seals on the wire by channel, direction and nonce; and, with the
keys of both sides, boxes, masks and seeds of many rounds of one epoch.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from attacks.hostile.world import PLAN, POLICY
from consortium import Consortium, Recorder, Site, plan_of
from members import Members, Round

from fedcredit.crypto import boxes, channels
from fedcredit.crypto.channels import channel_tag
from fedcredit.institution.memory import RunMemory
from fedcredit.secagg.member import MemberRound

Entropy = Callable[[int], bytes]
SEALS = 4 * 3 + 4 + 4 + 3
"""Of a round: three questions to each of four members; four uploads, four agreements, and the three that open it."""


def repeated(uses: Counter[tuple[bytes, ...]]) -> int:
    return sum(count - 1 for count in uses.values())


# --- on the wire -----------------------------------------------------------------------------------------------------


def seals_of(recorder: Recorder) -> Counter[tuple[bytes, ...]]:
    """Return how often a nonce was used by channel and direction; the same bytes sent again are the same seal."""
    down = {request for requests in recorder.requests for request in requests.values()}
    up = {reply.payload for reply in recorder.replies if reply.payload is not None}
    start = 2 + channels.TAG_LENGTH
    uses: Counter[tuple[bytes, ...]] = Counter()
    for direction, seals in ((b"down", down), (b"up", up)):
        for seal in seals:
            tag = channel_tag(seal)
            if tag is not None:
                uses[direction, tag, seal[start : start + channels.NONCE_LENGTH]] += 1
    return uses


def of_a_run(
    folder: Path, rounds: int, *, entropy_of: Callable[[str], Entropy] = lambda _: os.urandom
) -> Counter[tuple[bytes, ...]]:
    """Return the seals of a run of four members, all of them restarted every tenth round."""
    consortium = Consortium.make(folder, plan_of(**{**PLAN, "run/rounds": rounds}), policy=POLICY, rows=12)
    recorder = Recorder(consortium.loopback())
    for site in consortium.sites.values():
        memory = RunMemory(site.state.database, entropy=entropy_of(site.name))
        site.state = replace(site.state, memory=memory)
        site.assemble()
    for report in consortium.run(recorder).rounds():
        if report.round % 10 == 0:
            for site in consortium.sites.values():
                _restart(site)
    return seals_of(recorder)


def _restart(site: Site) -> None:
    """Build the member again over what it has stored."""
    site.state.memory.forget()
    site.assemble()


def test_no_seal_of_a_run_has_the_channel_and_nonce_of_another(tmp_path: Path) -> None:
    rounds = 80
    uses = of_a_run(tmp_path, rounds)
    assert sum(uses.values()) >= rounds * SEALS
    assert repeated(uses) == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_seal_of_ten_thousand_rounds_has_the_channel_and_nonce_of_another(tmp_path: Path) -> None:
    uses: Counter[tuple[bytes, ...]] = Counter()
    for number in range(10):
        uses += of_a_run(tmp_path / str(number), 1_000)
    assert sum(uses.values()) >= 10_000 * SEALS
    assert repeated(uses) == 0


def test_a_source_of_randomness_that_repeats_itself_would_be_seen(tmp_path: Path) -> None:
    def stuck(name: str) -> Entropy:
        return lambda count: hashlib.shake_256(name.encode()).digest(count)

    # All of a member's seals under its channel have one nonce then: eleven answers of four members.
    assert repeated(of_a_run(tmp_path, 1, entropy_of=stuck)) == 11 - 4


# --- in an epoch -----------------------------------------------------------------------------------------------------


@dataclass
class Uses:
    """How often what was used by whom."""

    boxes: Counter[tuple[bytes, ...]] = field(default_factory=Counter)
    """Key and nonce."""
    box_keys: Counter[tuple[bytes, ...]] = field(default_factory=Counter)
    masks: Counter[tuple[bytes, ...]] = field(default_factory=Counter)
    """Member and key: both ends of a pair use the pair's mask, once each."""
    seeds: Counter[tuple[bytes, ...]] = field(default_factory=Counter)
    """Commitments to own seeds, without the manifest that each of them names."""

    def of_all(self) -> Iterator[tuple[str, Counter[tuple[bytes, ...]]]]:
        yield from vars(self).items()


def of_an_epoch(rounds: int, *, manifest: Callable[[int], bytes], step: Callable[[int], int]) -> Uses:
    """Play rounds of five members, each of which is restored from its stored bytes after its upload."""
    members, uses = Members.make(5, 4), Uses()
    for number in range(rounds):
        attempt = Round(members, step=step(number), manifest_digest=manifest(number))
        members.roots = {name: roots.at(attempt.step) for name, roots in members.roots.items()}
        attempt.uploads_of(members.names)
        attempt.states = {name: MemberRound.from_bytes(state.to_bytes()) for name, state in attempt.states.items()}
        attempt.agree(members.names)
        attempt.reveal(members.names)
        opened = attempt.aggregator.open()
        uses.seeds.update((seed,) for (_, other), seed in opened.seeds.items() if other is None)
        for name in members.names:
            _look(uses, members, attempt, name)
    return uses


def _look(uses: Uses, members: Members, attempt: Round, name: str) -> None:
    keys = members.roots[name].at(attempt.step).keys(attempt.manifest_digest)
    place = attempt.cohort.places[name]
    uses.masks.update((name.encode(), key) for key in keys.masks)
    for key, box in zip(keys.boxes_out, attempt.aggregator.contributions[place].boxes, strict=True):
        uses.box_keys[key,] += 1
        uses.boxes[key, box[: boxes.NONCE_LENGTH]] += 1


def numbered(number: int) -> bytes:
    return hashlib.sha256(b"manifest %d" % number).digest()


def assert_nothing_repeats(uses: Uses, rounds: int) -> None:
    assert sum(uses.boxes.values()) == sum(uses.masks.values()) == rounds * 5 * 4
    assert sum(uses.seeds.values()) == rounds * 5
    assert {name: repeated(counted) for name, counted in uses.of_all()} == {
        "boxes": 0,
        "box_keys": 0,
        "masks": 0,
        "seeds": 0,
    }


def test_no_box_key_no_mask_and_no_seed_comes_twice_in_hundreds_of_rounds() -> None:
    assert_nothing_repeats(of_an_epoch(200, manifest=numbered, step=lambda number: number), 200)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_box_key_no_mask_and_no_seed_comes_twice_in_ten_thousand_rounds() -> None:
    """As many as one epoch may have."""
    assert_nothing_repeats(of_an_epoch(10_000, manifest=numbered, step=lambda number: number), 10_000)


def test_the_manifest_and_the_step_each_suffice_for_other_keys() -> None:
    assert_nothing_repeats(of_an_epoch(6, manifest=numbered, step=lambda _: 0), 6)
    assert_nothing_repeats(of_an_epoch(6, manifest=lambda _: bytes(32), step=lambda number: number), 6)


def test_one_manifest_at_one_step_would_use_every_key_twice() -> None:
    """What the order of rounds, the ratchet and the log stop: the count can see it, and the nonces still differ."""
    uses = of_an_epoch(2, manifest=lambda _: bytes(32), step=lambda _: 0)
    assert {name: repeated(counted) for name, counted in uses.of_all()} == {
        "boxes": 0,
        "box_keys": 20,
        "masks": 20,
        "seeds": 0,
    }
