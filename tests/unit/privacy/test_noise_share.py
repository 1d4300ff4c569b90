"""Noise needs a reservation, and a reservation gives it once."""

import ast
import copy
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from releases import release

import fedcredit.privacy
from fedcredit.crypto.streams import KeyStream
from fedcredit.encoding import encode
from fedcredit.errors import NotReservedError
from fedcredit.parties import InstitutionId
from fedcredit.privacy.ledger import PrivacyLedger, Reservation
from fedcredit.privacy.noise import DiscreteGaussian, NoiseLaw, RoundedGaussian, Skellam
from fedcredit.privacy.noise_share import draw_noise, streams_for
from fedcredit.privacy.release import Mechanism
from fedcredit.privacy.spending import BudgetCap
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

KEY = bytes(32)
PLAN = bytes(32)


@pytest.fixture
def ledger() -> PrivacyLedger:
    return PrivacyLedger(
        Journal(Database.in_memory(), "privacy"),
        place="ledger",
        owner=InstitutionId("bank-a"),
        caps={"train": BudgetCap(epsilon=3.0, delta=1e-5)},
        allow_no_privacy=True,
        allow_fixed_noise=True,
        clock=lambda: 1_700_000_000.0,
        entropy=os.urandom,
    )


@pytest.mark.parametrize(
    ("mechanism", "law"),
    [
        (Mechanism.ROUNDED_GAUSSIAN, RoundedGaussian),
        (Mechanism.SKELLAM, Skellam),
        (Mechanism.DISCRETE_GAUSSIAN, DiscreteGaussian),
    ],
)
def test_the_noise_of_a_reservation_is_the_reserved_law_and_size(
    ledger: PrivacyLedger, mechanism: Mechanism, law: type[NoiseLaw]
) -> None:
    drawn = draw_noise(ledger.reserve(release(mechanism=mechanism), plan_digest=PLAN), KeyStream(KEY))
    assert drawn.dtype == np.int64
    assert drawn.tolist() == law(100).sample(KeyStream(KEY), 50).tolist()


def test_every_mechanism_with_noise_has_a_law_to_draw_it_from(ledger: PrivacyLedger) -> None:
    # Gaussian last: after it a partition takes nothing that is priced otherwise.
    with_noise = [*(set(Mechanism) - {Mechanism.NONE, Mechanism.ROUNDED_GAUSSIAN}), Mechanism.ROUNDED_GAUSSIAN]
    for mechanism in with_noise:
        asked = release(release_id=f"run/1/1/{mechanism}", mechanism=mechanism)
        assert np.any(draw_noise(ledger.reserve(asked, plan_digest=PLAN), KeyStream(KEY)))


def test_a_share_of_the_noise_is_drawn_at_its_own_deviation(ledger: PrivacyLedger) -> None:
    drawn = draw_noise(ledger.reserve(release(honest_shares=4), plan_digest=PLAN), KeyStream(KEY))
    assert drawn.tolist() == RoundedGaussian(100).sample(KeyStream(KEY), 50).tolist()


def test_a_second_draw_is_refused_because_two_vectors_could_be_averaged(ledger: PrivacyLedger) -> None:
    reservation = ledger.reserve(release(), plan_digest=PLAN)
    draw_noise(reservation, KeyStream(KEY))
    with pytest.raises(NotReservedError, match="run/1/1/train"):
        draw_noise(reservation, KeyStream(bytes([1] * 32)))


def test_a_repeated_reservation_draws_nothing(ledger: PrivacyLedger) -> None:
    ledger.reserve(release(), plan_digest=PLAN)
    with pytest.raises(NotReservedError):
        draw_noise(ledger.reserve(release(), plan_digest=PLAN), KeyStream(KEY))


def test_nobody_but_a_ledger_makes_a_reservation() -> None:
    with pytest.raises(NotReservedError):
        Reservation(release(), repeated=False, issuer=object())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "dumps"])
def test_a_reservation_cannot_be_duplicated(ledger: PrivacyLedger, duplicate: object) -> None:
    with pytest.raises(TypeError, match="neither copied nor stored"):
        duplicate(ledger.reserve(release(), plan_digest=PLAN))  # type: ignore[operator]


def test_without_privacy_the_noise_is_zero(ledger: PrivacyLedger) -> None:
    drawn = draw_noise(ledger.reserve(release(mechanism=Mechanism.NONE, sigma=0), plan_digest=PLAN), KeyStream(KEY))
    assert drawn.dtype == np.int64
    assert drawn.tolist() == [0] * 50


def test_an_ordinary_release_takes_its_key_from_the_entropy() -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return bytes([7] * count)

    stream = streams_for(release(), test_place="bank/1/train", entropy=entropy)
    assert asked == [32]
    assert stream.words64(4).tolist() == KeyStream(bytes([7] * 32)).words64(4).tolist()


def test_test_noise_takes_its_key_from_a_public_label_and_its_place_in_a_run() -> None:
    label = "fedcredit fixed test noise 2: protects nobody"
    key = hashlib.sha256(encode([label, "bank/1/train"])).digest()
    stream = streams_for(release(test_noise=True), test_place="bank/1/train", entropy=_no_entropy)
    assert stream.words64(4).tolist() == KeyStream(key).words64(4).tolist()
    other = streams_for(release(test_noise=True), test_place="fund/1/train", entropy=_no_entropy)
    assert other.words64(4).tolist() != KeyStream(key).words64(4).tolist()


def test_test_noise_is_the_same_in_another_run_and_another_attempt() -> None:
    words = [
        streams_for(release(test_noise=True, release_id=name), test_place="bank/1/train", entropy=_no_entropy)
        .words64(4)
        .tolist()
        for name in ("run/1/1/train", "other-run/1/2/train")
    ]
    assert words[0] == words[1]


def _no_entropy(count: int) -> bytes:
    raise AssertionError("fixed noise needs no entropy")


def test_only_the_noise_share_knows_the_sampler() -> None:
    package = Path(fedcredit.privacy.__file__).parents[1]
    users = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if any("fedcredit.privacy.noise" in {name, module, f"{module}.{name}"} for name in names):
                users.add(path.relative_to(package).as_posix())
    assert users == {"privacy/noise_share.py"}
