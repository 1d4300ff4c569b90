"""An institution takes no weights but those that the coordinator's log released last, and follows one log only."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import CONSORTIUM, RUN, TREES, Consortium, HandLog, Question, Site, plan_of, question, released_leaf

from fedcredit.audit.checkpoint_note import LogCheckpoint, NoteSignature, verify_cosignature
from fedcredit.audit.log import log_origin
from fedcredit.audit.merkle import MerkleTree
from fedcredit.audit.witness import FIRST_SIGHT, WitnessState
from fedcredit.encoding import encode
from fedcredit.errors import (
    CheckpointNoteError,
    FedcreditError,
    LineageError,
    LogForkError,
    LogProofError,
    LogRolledBackError,
    MalformedMessageError,
)
from fedcredit.institution.lineage import checkpoint_of, follow, require_lineage
from fedcredit.messages import (
    NO_EPOCH,
    CloseAnswer,
    CountsAnswer,
    LogProof,
    Manifest,
    RoundBody,
    TrainAnswer,
    weights_to_bytes,
)
from fedcredit.secagg.wire import Upload
from fedcredit.store.records import Records

FORMS: dict[str, dict[str, Any]] = {
    "open": {},
    "secure": {"aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 32, "update_bound": "none"}},
}
OURS, OTHER = bytes([1]) * 32, bytes([2]) * 32


# --- the rules, by themselves ----------------------------------------------------------------------------------------


def leaf(kind: str, **fields: Any) -> bytes:
    return encode([kind, encode({"run": RUN, "weights": OURS, "released": OTHER, **fields})])


def tree_of(*leaves: bytes) -> MerkleTree:
    tree = MerkleTree()
    for item in leaves:
        tree.append(item)
    return tree


def shown(*leaves: bytes, index: int = 0, **changes: Any) -> tuple[Manifest, RoundBody]:
    """Return a manifest that names the log of ``leaves``, and a body that proves that ``index`` is in it."""
    tree = tree_of(*leaves)
    manifest = Manifest(
        **{
            "consortium": CONSORTIUM,
            "run": RUN,
            "round": 1,
            "attempt": 1,
            "purpose": "train",
            "plan_digest": bytes(32),
            "roster_digest": bytes(32),
            "weights_digest": OURS,
            "cohort": ("bank-a",),
            "ledger_heads": (bytes(32),),
            "quorum": 1,
            "deadline": 0,
            "epoch": NO_EPOCH,
            "step": 0,
            "log_size": tree.size,
            "log_root": tree.root(),
            "release": index,
            "radii": (),
            **changes,
        }
    )
    path = tree.inclusion(index, size=tree.size)
    return manifest, RoundBody(weights=b"", release=leaves[index], release_path=path, log_proofs=(), roots=())


RELEASED = [
    ("run-opened", {}, {"purpose": "train", "round": 1}, False),
    ("run-opened", {}, {"purpose": "prepare", "round": 1}, True),
    ("prepared", {}, {"purpose": "train", "round": 1}, True),
    ("round-released", {"round": 1}, {"purpose": "train", "round": 2}, False),
    ("round-released", {"round": 1}, {"purpose": "train", "round": 2}, True),
    ("round-released", {"round": 3}, {"purpose": "evaluate", "round": 3, "weights_digest": OTHER}, True),
    ("round-released", {"round": 3}, {"purpose": "close", "round": 3, "weights_digest": OTHER}, False),
]


@pytest.mark.parametrize(("kind", "fields", "place", "prepared"), RELEASED)
def test_the_entry_of_the_last_release_is_taken(
    kind: str, fields: dict[str, Any], place: dict[str, Any], prepared: bool
) -> None:
    manifest, body = shown(leaf("round-opened"), leaf(kind, **fields), leaf("round-aborted"), index=1, **place)
    require_lineage(manifest, body, prepared=prepared, initial=OURS)


@pytest.mark.parametrize(
    ("kind", "fields", "place", "prepared"),
    [
        ("run-opened", {"run": "run-2"}, {}, False),
        ("run-opened", {"round": 1}, {}, False),
        ("run-opened", {}, {}, True),
        ("prepared", {}, {}, False),
        ("prepared", {}, {"purpose": "prepare"}, True),
        ("run-opened", {}, {"round": 2}, False),
        ("round-released", {"round": 0}, {}, False),
        ("round-released", {"round": 1}, {}, False),
        ("round-released", {"round": 1}, {"round": 3}, False),
        ("round-released", {"round": 2}, {"round": 2}, False),
        ("round-released", {"round": 2}, {"round": 3, "purpose": "evaluate", "weights_digest": OTHER}, False),
        ("round-released", {}, {"round": 2}, False),
        ("round-opened", {"round": 1}, {"round": 2}, False),
        ("evaluated", {"round": 1}, {"round": 2}, False),
        ("sum-opened", {"round": 1}, {"round": 2}, False),
        ("round-released", {"round": 1}, {"round": 2, "weights_digest": OTHER}, False),
        ("round-released", {"round": 1, "weights": "text"}, {"round": 2}, False),
        ("round-released", {"round": 3}, {"round": 3, "purpose": "evaluate"}, False),
        ("round-released", {"round": 3}, {"round": 3, "purpose": "close"}, False),
        ("run-opened", {"weights": OTHER}, {"weights_digest": OTHER}, False),
    ],
    ids=str,
)
def test_an_entry_that_released_something_else_is_refused(
    kind: str, fields: dict[str, Any], place: dict[str, Any], prepared: bool
) -> None:
    manifest, body = shown(leaf("round-opened"), leaf(kind, **fields), index=1, **place)
    with pytest.raises(LineageError):
        require_lineage(manifest, body, prepared=prepared, initial=OURS)


def test_an_entry_that_is_not_where_the_manifest_says_is_refused() -> None:
    right = leaf("run-opened")
    manifest, body = shown(leaf("round-opened"), right, leaf("round-aborted"), index=1)
    require_lineage(manifest, body, prepared=False, initial=OURS)
    elsewhere = [
        (replace(manifest, release=0), body),
        (replace(manifest, release=3), body),
        (replace(manifest, log_size=2), body),
        (replace(manifest, log_size=0), body),
        (replace(manifest, log_root=bytes(32)), body),
        (manifest, replace(body, release=leaf("run-opened", plan=bytes(32)))),
        (manifest, replace(body, release_path=())),
        (manifest, replace(body, release_path=body.release_path[::-1])),
        (manifest, replace(body, release_path=(*body.release_path, bytes(32)))),
    ]
    for named, given in elsewhere:
        with pytest.raises(LogProofError):
            require_lineage(named, given, prepared=False, initial=OURS)


def test_an_entry_that_is_no_event_is_refused_although_it_is_in_the_log() -> None:
    manifest, body = shown(b"anything")
    with pytest.raises(MalformedMessageError):
        require_lineage(manifest, body, prepared=False, initial=OURS)


def grown(*leaves: bytes, seen: int) -> tuple[WitnessState, Manifest, RoundBody]:
    """Return what is known of the first ``seen`` entries, and a request that shows all of them."""
    tree = tree_of(*leaves)
    manifest, body = shown(*leaves)
    proof = LogProof(size=seen, path=tree.consistency(seen, tree.size)).to_bytes()
    return WitnessState(seen, tree.root(seen)), manifest, replace(body, log_proofs=(proof,))


LEAVES = [leaf("round-opened", round=number) for number in range(9)]


@pytest.mark.parametrize("seen", range(10))
def test_a_log_that_only_grew_is_followed_from_any_size(seen: int) -> None:
    state, manifest, body = grown(*LEAVES, seen=seen)
    assert follow(state, manifest, body) == WitnessState(9, tree_of(*LEAVES).root())


def test_the_proof_from_where_one_stands_is_found_among_the_others() -> None:
    tree = tree_of(*LEAVES)
    _, manifest, body = grown(*LEAVES, seen=4)
    proofs = tuple(LogProof(size=old, path=tree.consistency(old, 9)).to_bytes() for old in (7, 2, 4, 1))
    for old in (7, 4, 1):
        seen = follow(WitnessState(old, tree.root(old)), manifest, replace(body, log_proofs=proofs))
        assert (seen.size, seen.root) == (9, tree.root())
    with pytest.raises(LogProofError, match="begins at 5"):
        follow(WitnessState(5, tree.root(5)), manifest, replace(body, log_proofs=proofs))


def test_the_first_log_that_is_seen_binds() -> None:
    manifest, body = shown(*LEAVES)
    state = follow(FIRST_SIGHT, manifest, body)
    assert state == WitnessState(9, manifest.log_root)
    with pytest.raises(LogForkError):
        follow(state, replace(manifest, log_root=bytes(32)), body)


def test_a_shorter_or_another_log_is_refused_and_named() -> None:
    state, manifest, body = grown(*LEAVES, seen=6)
    with pytest.raises(LogRolledBackError):
        follow(state, *shown(*LEAVES[:5]))
    with pytest.raises(LogForkError):
        follow(state, *shown(*LEAVES[:5], leaf("round-aborted")))
    forked = [*LEAVES[:2], leaf("round-aborted"), *LEAVES[3:]]
    _, other, proven = grown(*forked, seen=6)
    with pytest.raises(LogForkError):
        follow(state, other, proven)
    with pytest.raises(LogProofError):
        follow(state, manifest, replace(body, log_proofs=()))
    with pytest.raises(MalformedMessageError):
        follow(state, manifest, replace(body, log_proofs=(b"junk",)))


def test_a_log_of_no_size_is_none() -> None:
    manifest, body = shown(*LEAVES)
    assert checkpoint_of(manifest) == LogCheckpoint(
        origin=log_origin(consortium=CONSORTIUM, run=RUN), size=9, root=manifest.log_root
    )
    with pytest.raises((CheckpointNoteError, LogProofError)):
        follow(FIRST_SIGHT, replace(manifest, log_size=0), body)
    with pytest.raises(CheckpointNoteError):
        checkpoint_of(replace(manifest, log_size=2**53, run="a\nb"))


# --- the same, through the worker ------------------------------------------------------------------------------------


@pytest.fixture(params=FORMS)
def consortium(request: pytest.FixtureRequest, tmp_path: Path) -> Consortium:
    return Consortium.make(tmp_path, plan_of(**FORMS[request.param]), on_disk=True)


@pytest.fixture
def bank(consortium: Consortium) -> Site:
    return consortium.sites["bank-a"]


def kept(site: Site) -> dict[str, bytes]:
    memory = Records(site.state.database, "run-memory")
    return {key: value for key in memory.keys("") if (value := memory.get(key)) is not None}


def weights_of(consortium: Consortium, value: float) -> np.ndarray:
    return np.full(consortium.family.layout.size, value)


def from_entry(consortium: Consortium, entry: bytes, **changes: Any) -> Question:
    """Return a request whose weights come from ``entry``, which is put into the log."""
    question(consortium, "bank-a", **changes)  # the entry that the request would have comes first
    log = consortium.log(RUN)
    index = log.add(entry)
    sent = {"release": entry, "release_path": log.tree.inclusion(index, size=log.tree.size)}
    return question(consortium, "bank-a", release=index, sent=sent, **changes)


def nothing_came_of(asked: Question, code: str) -> None:
    """Ask, and check that the refusal cost and changed nothing, in memory and on disk."""
    site = asked.site
    # The run is taken up by a request that its operator approved, also if it is refused for its weights.
    assert asked.code() == code
    before, head = kept(site), site.state.ledger.head
    assert asked.code() == code
    site.reopen()
    assert asked.code() == code
    assert (kept(site), site.state.ledger.head) == (before, head)
    assert site.charges() == []
    assert not [key for key in before if key.startswith(("last/", "log/", "round/"))]


def test_weights_that_the_log_names_are_answered_in_every_round(consortium: Consortium) -> None:
    assert question(consortium, "bank-a").code() == ""
    for number in (2, 3):
        weights = weights_of(consortium, float(number))
        assert question(consortium, "bank-a", round=number, weights=weights).code() == ""
    for purpose in ("evaluate", "close"):
        assert question(consortium, "bank-a", purpose=purpose, weights=weights_of(consortium, 9.0)).code() == ""
    assert len(consortium.log(RUN).leaves) == 4


def test_first_weights_other_than_the_plans_are_refused(consortium: Consortium) -> None:
    nothing_came_of(question(consortium, "bank-a", weights=weights_of(consortium, 0.5)), "FC-3116")
    assert question(consortium, "bank-a").code() == ""


ENTRIES: list[tuple[str, dict[str, Any], str]] = [
    ("round-released", {"round": 1, "weights": OTHER}, "FC-3116"),
    ("round-released", {"round": 2}, "FC-3116"),
    ("round-released", {"round": 0}, "FC-3116"),
    ("round-released", {"round": 1, "run": "run-2"}, "FC-3116"),
    ("run-opened", {}, "FC-3116"),
    ("prepared", {"round": 1}, "FC-3116"),
    ("round-opened", {"round": 1}, "FC-3116"),
    ("gossip", {"round": 1}, "FC-3101"),
]


@pytest.mark.parametrize(("kind", "fields", "code"), ENTRIES, ids=str)
def test_weights_from_another_entry_of_the_log_are_refused_before_anything_is_charged(
    consortium: Consortium, kind: str, fields: dict[str, Any], code: str
) -> None:
    weights = weights_of(consortium, 0.5)
    digest = hashlib.sha256(weights_to_bytes(weights)).digest()
    entry = encode([kind, encode({"run": RUN, "weights": digest, "released": digest, **fields})])
    nothing_came_of(from_entry(consortium, entry, round=2, weights=weights), code)
    assert question(consortium, "bank-a", round=2, weights=weights).code() == ""


@pytest.mark.parametrize("purpose", ["train", "evaluate", "close"])
def test_training_goes_on_from_the_weights_and_the_released_average_is_evaluated(
    consortium: Consortium, purpose: str
) -> None:
    weights = weights_of(consortium, 0.5)
    digest = hashlib.sha256(weights_to_bytes(weights)).digest()
    number = 2 if purpose == "train" else 3
    digests = {"weights": OTHER, "released": digest} if purpose == "train" else {"weights": digest, "released": OTHER}
    before = 1 if purpose == "train" else 3
    entry = encode(["round-released", encode({"run": RUN, "round": before, **digests})])
    asked = from_entry(consortium, entry, purpose=purpose, round=number, weights=weights)
    assert asked.code() == "FC-3116"
    assert asked.site.charges() == []


def test_an_entry_that_is_not_in_the_log_is_refused(consortium: Consortium) -> None:
    weights = weights_of(consortium, 0.5)
    vector = weights_to_bytes(weights)
    right = released_leaf(RUN, vector, plan=consortium.plan, round=2)
    for sent in (
        {"release": released_leaf(RUN, vector, plan=consortium.plan, round=3)},
        {"release": right + b"\0"},
        {"release_path": (bytes(32),)},
    ):
        assert question(consortium, "bank-a", round=2, weights=weights, sent=sent).code() == "FC-3304"
    for index in (1, 2, 2**53):
        assert question(consortium, "bank-a", round=2, weights=weights, release=index).code() == "FC-3304"
    nothing_came_of(question(consortium, "bank-a", round=2, weights=weights, release=1), "FC-3304")


def test_a_plan_with_a_preparation_trains_first_from_what_the_preparation_gave(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES), on_disk=True)
    weights = consortium.family.initial_weights()
    digest = hashlib.sha256(weights_to_bytes(weights)).digest()
    opened = encode(["run-opened", encode({"run": RUN, "weights": digest, "released": digest})])
    nothing_came_of(from_entry(consortium, opened), "FC-3116")
    prepared = encode(["prepared", encode({"run": RUN, "weights": digest, "released": digest})])
    nothing_came_of(from_entry(consortium, prepared, purpose="prepare"), "FC-3116")
    assert question(consortium, "bank-a", purpose="prepare").code() == ""
    assert question(consortium, "bank-a").code() == ""


# --- one log ---------------------------------------------------------------------------------------------------------


def after_two_rounds(consortium: Consortium) -> Site:
    for number in (1, 2):
        assert question(consortium, "bank-a", round=number).code() == ""
    return consortium.sites["bank-a"]


def forked(consortium: Consortium, *, at: int) -> HandLog:
    """Return the run's log with another entry at ``at``, and one more at its end."""
    leaves = consortium.log(RUN).leaves
    fork = HandLog()
    for index, entry in enumerate([*leaves, b"later"]):
        fork.add(b"another past" if index == at else entry)
    return fork


@pytest.mark.parametrize("place", [{"round": 3}, {"purpose": "evaluate"}, {"purpose": "close"}], ids=str)
@pytest.mark.parametrize("at", [0, 1])
def test_a_fork_of_the_log_is_refused_and_changes_nothing(
    consortium: Consortium, place: dict[str, Any], at: int
) -> None:
    site = after_two_rounds(consortium)
    true_log = consortium.log(RUN)
    before, charged, head = kept(site), site.charged(), site.state.ledger.head
    consortium.logs[RUN] = forked(consortium, at=at)
    for _ in range(2):
        assert question(consortium, "bank-a", **place).code() == "FC-3302"
        site.reopen()
    consortium.logs[RUN] = true_log
    assert (kept(site), site.charged(), site.state.ledger.head) == (before, charged, head)
    assert question(consortium, "bank-a", **place).code() == ""


def test_another_log_of_the_same_size_is_refused(consortium: Consortium) -> None:
    site = after_two_rounds(consortium)
    before = kept(site)
    asked = question(consortium, "bank-a", round=2, attempt=2, log_root=bytes(32))
    assert asked.manifest.log_size == 2
    assert asked.code() == "FC-3302"
    assert kept(site) == before


def test_a_log_that_was_cut_is_refused_and_changes_nothing(consortium: Consortium) -> None:
    site = after_two_rounds(consortium)
    before, charged = kept(site), site.charged()
    root = consortium.log(RUN).tree.root(1)
    for number in (2, 3):
        cut = question(consortium, "bank-a", round=number, attempt=2, log_size=1, log_root=root, release=0)
        assert cut.code() == "FC-3303"
        site.reopen()
    assert (kept(site), site.charged()) == (before, charged)


def test_a_log_without_a_proof_from_where_the_institution_stands_is_refused(consortium: Consortium) -> None:
    site = after_two_rounds(consortium)
    before = kept(site)
    assert question(consortium, "bank-a", round=3, sent={"log_proofs": ()}).code() == "FC-3304"
    assert question(consortium, "bank-a", round=3, sent={"log_proofs": (b"junk",)}).code() == "FC-3101"
    assert kept(site) == before
    assert question(consortium, "bank-a", round=3).code() == ""


def test_an_institution_that_was_away_follows_the_log_from_where_it_stands(consortium: Consortium) -> None:
    assert question(consortium, "bank-a").code() == ""
    for number in (2, 3):
        assert question(consortium, "bank-b", round=number).code() == ""
    assert question(consortium, "bank-a", round=3).code() == ""


def test_every_run_has_a_log_of_its_own(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    assert question(consortium, "bank-a").code() == ""
    other = plan_of(**{"run/name": "second"})
    consortium.sites["bank-a"].approvals.approve(other)
    assert question(consortium, "bank-a", plan=other, run="run-2").code() == ""


@pytest.mark.parametrize("place", [{}, {"round": 2}, {"purpose": "evaluate"}, {"purpose": "close"}], ids=str)
def test_an_answer_carries_the_cosignature_of_the_log_that_was_shown(
    consortium: Consortium, bank: Site, place: dict[str, Any]
) -> None:
    asked = question(consortium, "bank-a", **place)
    answer = asked.answer()
    assert isinstance(answer, TrainAnswer | CountsAnswer | CloseAnswer | Upload)
    line = NoteSignature.from_line(answer.cosignature)
    verify_cosignature(checkpoint_of(asked.manifest), line, name=bank.name, identity=bank.keys.public)
    for other in (replace(asked.manifest, log_root=bytes(32)), replace(asked.manifest, log_size=5)):
        with pytest.raises(FedcreditError):
            verify_cosignature(checkpoint_of(other), line, name=bank.name, identity=bank.keys.public)
