from __future__ import annotations

import copy
import datetime
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.config.plan import RunPlan, usual_threshold
from fedcredit.errors import (
    ConfigFileMissingError,
    ConfigSyntaxError,
    ConfigValueError,
    FedcreditError,
    MissingKeyError,
    UnknownKeyError,
)
from fedcredit.parties import InstitutionId

TOML = """
schema_version = 3

[run]
name = "first"
consortium = "credit"
contract = "german"
contract_digest = "HASH"
rounds = 10
holdout_fraction = 0.2
holdout_salt = "salt"

[model]
kind = "scorecard"
base_rate = 0.2

[training]
kind = "dp-gradient"
learning_rate = 2.0
momentum = 0.9
clip = 1.0
grid = 64
average_from = 0.5

[privacy]
mechanism = "rounded-gaussian"
accountant = "gdp"
noise = "local"
colluders = 0
sampling = "full-batch"
sampling_rate = 1.0
preparation_share = 0.0
epsilon = 4.0
delta = 1e-5
unit = "borrower"
neighbours = "add-or-remove-one"
evaluation_epsilon = 0.5

[rounds]
quorum = 2
retries = 1
deadline_s = 60

[aggregation]
kind = "open"
update_bound = "share"

[evaluation]
vote_floor = "none"
vote_share = 0.0

[institutions.bank-a]
kind = "bank"
identity = "HASH"
expected_borrowers = 1000
modalities = ["application"]

[institutions.fund-b]
kind = "guarantee_fund"
identity = "OTHER"
expected_borrowers = 500
modalities = ["application", "repayment"]
""".replace("HASH", "0" * 64).replace("OTHER", "1" * 64)
RAW: dict[str, Any] = tomllib.loads(TOML)
DELETE = object()


def read(text: str) -> RunPlan:
    return RunPlan.from_toml(text, source="plan.toml")


def changed(place: str, value: object) -> str:
    raw = copy.deepcopy(RAW)
    *path, last = place.split("/")
    section = raw
    for part in path:
        section = section[part]
    if value is DELETE:
        del section[last]
    else:
        section[last] = value
    return tomlkit.dumps(raw)


PLAN = read(TOML)


def test_a_plan_reads_as_it_is_written() -> None:
    assert (PLAN.run.rounds, PLAN.training.kind, PLAN.rounds.deadline_s) == (10, "dp-gradient", 60.0)
    assert PLAN.expected_borrowers() == {"bank-a": 1000, "fund-b": 500}
    assert PLAN.modalities(InstitutionId("fund-b")) == ("application", "repayment")


def test_a_plan_survives_being_written_and_read() -> None:
    again = read(PLAN.to_toml())
    assert again == PLAN
    assert again.digest() == PLAN.digest()


def test_the_digest_does_not_depend_on_how_the_file_is_laid_out() -> None:
    sections = TOML.split("\n\n")
    shuffled = "\n\n".join([sections[0], *reversed(sections[1:])])
    spelt = TOML.replace("1e-5", "0.00001").replace("60", "60.0 # a minute").replace("= 4.0", "=   4")
    inline = TOML.replace('["application", "repayment"]', '[\n  "application",\n  "repayment",\n]')
    for text in (shuffled, spelt, inline, TOML.replace("\n", "\r\n")):
        assert read(text).digest() == PLAN.digest()


VALID_CHANGES = [
    ("run/name", "second"),
    ("run/consortium", "other"),
    ("run/contract", "taiwan"),
    ("run/contract_digest", "1" * 64),
    ("run/rounds", 11),
    ("run/holdout_fraction", 0.25),
    ("run/holdout_salt", "pepper"),
    ("run/out_of_time", datetime.date(2024, 7, 1)),
    ("model/kind", "logistic"),
    ("model/base_rate", 0.3),
    ("training/learning_rate", 2.0000000000000004),
    ("training/momentum", 0.0),
    ("training/clip", 0.5),
    ("training/grid", 65),
    ("training/average_from", 1.0),
    ("privacy/mechanism", "skellam"),
    ("privacy/mechanism", "discrete-gaussian"),
    ("privacy/accountant", "rdp"),
    ("privacy/epsilon", 4.5),
    ("privacy/delta", 2e-5),
    ("privacy/evaluation_epsilon", 0.25),
    ("privacy/test_noise", True),
    ("rounds/quorum", 1),
    ("rounds/retries", 0),
    ("rounds/deadline_s", 61),
    ("aggregation", {"kind": "secure", "threshold": 2, "lane_bits": 32, "update_bound": "share"}),
    ("aggregation", {"kind": "secure", "threshold": 2, "lane_bits": 16, "update_bound": "share"}),
    ("institutions/bank-a/kind", "lessor"),
    ("institutions/bank-a/expected_borrowers", 1001),
    ("institutions/bank-a/modalities", ["repayment"]),
    ("institutions/fund-b/modalities", ["repayment", "application"]),
]


def test_every_decision_changes_the_digest() -> None:
    digests = [PLAN.digest(), *(read(changed(place, value)).digest() for place, value in VALID_CHANGES)]
    assert len(set(digests)) == len(digests)


def places(raw: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in raw.items():
        found += places(value, f"{prefix}{key}/") if isinstance(value, dict) else [prefix + key]
    return found


@pytest.mark.parametrize("place", places(RAW))
def test_no_decision_has_a_default(place: str) -> None:
    if place in ("model/kind", "training/kind", "aggregation/kind"):
        with pytest.raises(FedcreditError):
            read(changed(place, DELETE))
        return
    with pytest.raises(MissingKeyError) as caught:
        read(changed(place, DELETE))
    assert caught.value.fields["key"] == place.replace("/", ".")


@pytest.mark.parametrize(
    ("place", "key", "hint"),
    [
        ("roundz", "roundz", 'Did you mean "rounds"?'),
        ("run/round", "run.round", 'Did you mean "rounds"?'),
        ("privacy/epsilom", "privacy.epsilom", 'Did you mean "epsilon"?'),
        ("training/learning_rat", "training.learning_rat", 'Did you mean "learning_rate"?'),
        (
            "institutions/bank-a/expected_borrower",
            "institutions.bank-a.expected_borrower",
            'Did you mean "expected_borrowers"?',
        ),
        ("rounds/zzz", "rounds.zzz", "Known here: deadline_s, quorum, retries"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(place: str, key: str, hint: str) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        read(changed(place, 1))
    assert caught.value.fields == {"path": "plan.toml", "key": key, "hint": hint}


def test_a_misspelt_key_is_reported_before_the_one_that_is_missing_for_it() -> None:
    with pytest.raises(UnknownKeyError, match="epsilo"):
        read(TOML.replace("\nepsilon = 4.0", "\nepsilo = 4.0"))


WRONG: list[tuple[str, object]] = [
    ("schema_version", 1),
    ("schema_version", 2),
    ("schema_version", 4),
    ("schema_version", "3"),
    ("run/name", "First"),
    ("run/name", ""),
    ("run/name", "x" * 42),
    ("run/name", 1),
    ("run/consortium", "a b"),
    ("run/contract_digest", "0" * 63),
    ("run/contract", "../secrets.yaml"),
    ("run/contract", "/etc/contract.yaml"),
    ("run/contract_digest", "G" * 64),
    ("run/rounds", 0),
    ("run/rounds", 10_001),
    ("run/rounds", 3.0),
    ("run/rounds", "3"),
    ("run/rounds", True),
    ("run/holdout_fraction", 0.0),
    ("run/holdout_fraction", 1),
    ("run/holdout_fraction", float("nan")),
    ("run/holdout_salt", ""),
    ("run/out_of_time", "2024-07-01"),
    ("run/out_of_time", True),
    ("run/holdout_salt", "e\u0301"),
    ("run/contract", "e\u0301"),
    ("model/kind", "forest"),
    ("model/base_rate", 0.0),
    ("model/base_rate", 1.0),
    ("training/kind", "sgd"),
    ("training/learning_rate", 0),
    ("training/learning_rate", -1.0),
    ("training/learning_rate", float("inf")),
    ("training/learning_rate", float("nan")),
    ("training/learning_rate", True),
    ("training/learning_rate", "1"),
    ("training/learning_rate", 10**400),
    ("training/momentum", 1.0),
    ("training/momentum", -0.1),
    ("training/clip", 0.0),
    ("training/grid", 1),
    ("training/grid", 64.0),
    ("training/average_from", 1.1),
    ("privacy/mechanism", "laplace"),
    ("privacy/accountant", "pld"),
    ("privacy/noise", "central"),
    ("privacy/colluders", -1),
    ("privacy/colluders", 1),
    ("privacy/colluders", 0.0),
    ("privacy/colluders", True),
    ("privacy/sampling", "shuffled"),
    ("privacy/sampling_rate", 0.0),
    ("privacy/sampling_rate", 0.5),
    ("privacy/sampling_rate", 1.5),
    ("privacy/sampling_rate", True),
    ("privacy/preparation_share", -0.1),
    ("privacy/preparation_share", 0.1),
    ("privacy/preparation_share", 0.6),
    ("privacy/preparation_share", float("nan")),
    ("privacy/epsilon", 0),
    ("privacy/epsilon", -1.0),
    ("privacy/epsilon", float("nan")),
    ("privacy/epsilon", 10**400),
    ("privacy/delta", 0.0),
    ("privacy/delta", 0.001),
    ("privacy/delta", float("inf")),
    ("privacy/unit", "loan"),
    ("privacy/neighbours", "replace-one"),
    ("privacy/test_noise", 1),
    ("rounds/quorum", 0),
    ("rounds/quorum", 3),
    ("rounds/retries", -1),
    ("rounds/retries", 1001),
    ("rounds/retries", 1.0),
    ("rounds/retries", True),
    ("rounds/deadline_s", 0),
    ("rounds/deadline_s", float("inf")),
    ("aggregation", []),
    ("aggregation", {"kind": "closed"}),
    ("aggregation", {"kind": "secure", "threshold": 1, "lane_bits": 32, "update_bound": "share"}),
    ("aggregation", {"kind": "secure", "threshold": 3, "lane_bits": 32, "update_bound": "share"}),
    ("aggregation", {"kind": "secure", "threshold": 2.0, "lane_bits": 32, "update_bound": "share"}),
    ("aggregation", {"kind": "secure", "threshold": True, "lane_bits": 32, "update_bound": "share"}),
    ("aggregation", {"kind": "secure", "threshold": 2, "lane_bits": 8, "update_bound": "share"}),
    ("aggregation", {"kind": "secure", "threshold": 2, "lane_bits": 64, "update_bound": "share"}),
    ("aggregation", {"kind": "secure", "threshold": 2, "lane_bits": "32", "update_bound": "share"}),
    ("institutions", {}),
    ("institutions", []),
    ("institutions/bank-a", 1),
    ("institutions/bank-a/kind", "pawnshop"),
    ("institutions/bank-a/identity", "0" * 63),
    ("institutions/bank-a/identity", "0" * 63 + "G"),
    ("institutions/bank-a/identity", "1" * 64),  # fund-b's
    ("institutions/bank-a/expected_borrowers", 0),
    ("institutions/bank-a/modalities", []),
    ("institutions/bank-a/modalities", "application"),
    ("institutions/bank-a/modalities", ["e\u0301"]),
    ("run", 1),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda part: repr(part)[:40])
def test_a_value_of_the_wrong_type_or_range_is_refused(place: str, value: object) -> None:
    with pytest.raises(ConfigValueError):
        read(changed(place, value))


def test_a_refused_value_names_its_place() -> None:
    with pytest.raises(ConfigValueError, match=r"plan\.toml: training\.momentum should be less than 1"):
        read(changed("training/momentum", 1.5))
    with pytest.raises(ConfigValueError, match=r"institutions\.bank-a\.expected_borrowers"):
        read(changed("institutions/bank-a/expected_borrowers", 0))


def test_an_institution_must_have_an_allowed_name() -> None:
    with pytest.raises(ConfigValueError, match="institution name"):
        read(TOML.replace("bank-a", "coordinator"))


@pytest.mark.parametrize(
    ("mechanism", "epsilon", "evaluation_epsilon", "accepted"),
    [
        ("none", "inf", "inf", True),
        ("rounded-gaussian", "4.0", "0.5", True),
        ("none", "4.0", "inf", False),
        ("none", "inf", "0.5", False),
        ("none", "4.0", "0.5", False),
        ("rounded-gaussian", "inf", "inf", False),
        ("rounded-gaussian", "inf", "0.5", False),
        ("rounded-gaussian", "4.0", "inf", False),
        ("none", "-inf", "-inf", False),
        ("none", "nan", "inf", False),
        ("none", "inf", "nan", False),
    ],
)
def test_training_without_privacy_is_said_aloud_or_not_at_all(
    mechanism: str, epsilon: str, evaluation_epsilon: str, accepted: bool
) -> None:
    accountant = "none" if mechanism == "none" else "gdp"
    text = (
        TOML.replace("rounded-gaussian", mechanism)
        .replace('"gdp"', f'"{accountant}"')
        .replace("\nepsilon = 4.0", f"\nepsilon = {epsilon}")
        .replace("evaluation_epsilon = 0.5", f"evaluation_epsilon = {evaluation_epsilon}")
    )
    if accepted:
        plan = read(text)
        assert read(plan.to_toml()).digest() == plan.digest()
    else:
        with pytest.raises(ConfigValueError):
            read(text)


FEDAVG = {"kind": "fedavg", "learning_rate": 0.1, "local_epochs": 2, "batch_size": 32, "seed": 1}


def test_federated_averaging_is_refused_with_differential_privacy() -> None:
    with pytest.raises(ConfigValueError, match="cannot be trained with differential privacy"):
        read(changed("training", FEDAVG))
    off = changed("training", FEDAVG).replace("rounded-gaussian", "none").replace('"gdp"', '"none"')
    off = off.replace('update_bound = "share"', 'update_bound = "none"')
    off = off.replace("\nepsilon = 4.0", "\nepsilon = inf").replace(
        "evaluation_epsilon = 0.5", "evaluation_epsilon = inf"
    )
    assert read(off).training.kind == "fedavg"


def test_an_unknown_key_is_compared_with_those_of_the_chosen_training() -> None:
    with pytest.raises(UnknownKeyError, match="local_epoch") as caught:
        read(changed("training", {**FEDAVG, "local_epoch": 1}))
    assert caught.value.fields["hint"] == 'Did you mean "local_epochs"?'
    with pytest.raises(UnknownKeyError) as caught:
        read(changed("training/local_epoch", 1))
    assert "local_epochs" not in str(caught.value.fields["hint"])


@pytest.mark.parametrize(
    ("model", "accepted"),
    [
        ({"kind": "network", "width": 8}, True),
        ({"kind": "network"}, False),
        ({"kind": "scorecard", "width": 8}, False),
        ({"kind": "logistic"}, True),
        ({"kind": "network", "width": 0}, False),
    ],
    ids=str,
)
def test_the_width_belongs_to_the_network(model: dict[str, object], accepted: bool) -> None:
    if accepted:
        assert read(changed("model", {**model, "base_rate": 0.2})).model.kind == model["kind"]
    else:
        with pytest.raises(ConfigValueError):
            read(changed("model", {**model, "base_rate": 0.2}))


TREES = {"kind": "trees", "depth": 4, "trees_per_round": 10, "structure_seed": 7, "base_rate": 0.2}
BOOSTING = {
    "kind": "dp-boosting",
    "learning_rate": 0.1,
    "clip": 0.8,
    "grid": 64,
    "ridge": 100.0,
    "leaf_limit": 2.0,
}


def with_changes(**places: object) -> RunPlan:
    raw = copy.deepcopy(RAW)
    for place, value in places.items():
        section, _, key = place.partition("/")
        if key:
            raw[section][key] = value
        else:
            raw[section] = value
    return read(tomlkit.dumps(raw))


def trees(**changes: object) -> RunPlan:
    model = {**TREES, **{key: value for key, value in changes.items() if key in TREES}}
    training = {**BOOSTING, **{key: value for key, value in changes.items() if key not in TREES}}
    return with_changes(model=model, training=training)


def test_boosted_trees_read_as_they_are_written() -> None:
    plan = trees()
    assert (plan.model.kind, plan.model.depth, plan.training.kind) == ("trees", 4, "dp-boosting")
    assert plan.trees == 10 * 10
    assert PLAN.trees == 0
    again = read(plan.to_toml())
    assert again == plan
    assert again.digest() == plan.digest()


@pytest.mark.parametrize("key", ["depth", "trees_per_round", "structure_seed"])
def test_the_keys_of_trees_belong_to_trees_and_have_no_default(key: str) -> None:
    model = {name: value for name, value in TREES.items() if name != key}
    with pytest.raises(ConfigValueError, match=key):
        with_changes(model=model, training=BOOSTING)
    with pytest.raises(ConfigValueError, match=key):
        with_changes(model={"kind": "scorecard", "base_rate": 0.2, key: TREES[key]})


@pytest.mark.parametrize("key", [key for key in BOOSTING if key != "kind"])
def test_no_decision_of_boosting_has_a_default(key: str) -> None:
    training = {name: value for name, value in BOOSTING.items() if name != key}
    with pytest.raises(MissingKeyError) as caught:
        with_changes(model=TREES, training=training)
    assert caught.value.fields["key"] == f"training.{key}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depth", 0),
        ("depth", 9),
        ("depth", 4.0),
        ("trees_per_round", 0),
        ("trees_per_round", 1001),
        ("structure_seed", -1),
        ("structure_seed", 2**53 + 1),
        ("clip", 0.0),
        ("clip", 1.1),
        ("clip", float("nan")),
        ("grid", 1),
        ("grid", 10_001),
        ("grid", 64.0),
        ("ridge", 0.0),
        ("ridge", float("inf")),
        ("leaf_limit", 0.0),
        ("learning_rate", -0.1),
    ],
)
def test_a_setting_of_trees_outside_its_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigValueError):
        trees(**{key: value})


def test_trees_are_boosted_and_nothing_else_is() -> None:
    with pytest.raises(ConfigValueError, match="belong together"):
        with_changes(model=TREES)
    with pytest.raises(ConfigValueError, match="belong together"):
        with_changes(training=BOOSTING)


def test_only_trees_have_a_use_for_a_preparation() -> None:
    plan = with_changes(model=TREES, training=BOOSTING, **{"privacy/preparation_share": 0.05})
    assert plan.privacy.preparation_share == 0.05
    with pytest.raises(ConfigValueError, match="preparation_share"):
        with_changes(**{"privacy/preparation_share": 0.05})


def test_a_sampling_rate_is_a_whole_number_of_millionths() -> None:
    plan = with_changes(**{"privacy/sampling": "poisson", "privacy/sampling_rate": 0.000003})
    assert plan.privacy.sampled_per_million == 3
    assert PLAN.privacy.sampled_per_million == 1_000_000
    # 0.29 * 10^6 is 290000.00000000006 or less in floats; it is meant as 290,000.
    assert with_changes(
        **{"privacy/sampling": "poisson", "privacy/sampling_rate": 0.29}
    ).privacy.sampled_per_million == (290_000)
    with pytest.raises(ConfigValueError, match="millionths"):
        with_changes(**{"privacy/sampling": "poisson", "privacy/sampling_rate": 0.0000015})
    with pytest.raises(ConfigValueError, match="millionths"):
        with_changes(**{"privacy/sampling": "poisson", "privacy/sampling_rate": 0.0000004})


@pytest.mark.parametrize(
    "changes",
    [
        {"privacy/sampling": "poisson"},
        {"privacy/sampling_rate": 0.1},
        {"privacy/sampling": "poisson", "privacy/sampling_rate": 0.1, "privacy/noise": "shared"},
        {"privacy/noise": "local", "privacy/colluders": 1},  # aggregation is open
        {"privacy/noise": "shared"},  # quorum 2
        {
            "aggregation": {"kind": "secure", "threshold": 2, "lane_bits": 32, "update_bound": "share"},
            "privacy/noise": "shared",
        },
        {
            "aggregation": {"kind": "secure", "threshold": 2, "lane_bits": 32, "update_bound": "share"},
            "privacy/colluders": 1,
        },
    ],
    ids=str,
)
def test_parts_of_the_privacy_section_that_do_not_fit_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigValueError):
        with_changes(**changes)


INSTITUTIONS = {
    f"bank-{letter}": {
        "kind": "bank",
        "identity": letter * 64,
        "expected_borrowers": 1000,
        "modalities": ["application"],
    }
    for letter in "abcde"
}


def secure(threshold: int, lane_bits: int = 32) -> dict[str, object]:
    return {"kind": "secure", "threshold": threshold, "lane_bits": lane_bits, "update_bound": "share"}


@pytest.mark.parametrize(
    ("quorum", "colluders", "shares"), [(5, 0, 5), (5, 2, 3), (4, 1, 3), (3, 0, 3), (5, 3, 0), (4, 2, 0), (2, 0, 0)]
)
def test_shared_noise_rests_on_the_quorum_without_the_colluders_and_on_three_at_least(
    quorum: int, colluders: int, shares: int
) -> None:
    changes = {
        "institutions": INSTITUTIONS,
        "rounds/quorum": quorum,
        "privacy/noise": "shared",
        "privacy/colluders": colluders,
        "aggregation": secure(max(quorum, 3)),
    }
    if shares:
        assert with_changes(**changes).honest_shares == shares
    else:
        with pytest.raises(ConfigValueError, match="at least 3"):
            with_changes(**changes)


def test_noise_is_shared_under_a_secure_sum_only() -> None:
    for changes in (
        {"privacy/noise": "shared"},
        {"privacy/noise": "shared", "privacy/colluders": 1},
        {"privacy/colluders": 1},
    ):
        with pytest.raises(ConfigValueError, match=r'need aggregation\.kind = "secure"'):
            with_changes(institutions=INSTITUTIONS, **{"rounds/quorum": 5}, **changes)
    plan = with_changes(
        institutions=INSTITUTIONS, aggregation=secure(4), **{"rounds/quorum": 5, "privacy/noise": "shared"}
    )
    assert plan.honest_shares == 5


def test_a_secure_sum_reads_as_it_is_written() -> None:
    plan = with_changes(institutions=INSTITUTIONS, aggregation=secure(4, 16), **{"rounds/quorum": 4})
    assert plan.secure is not None
    assert (plan.secure.threshold, plan.secure.lane_bits) == (4, 16)
    again = read(plan.to_toml())
    assert again == plan
    assert again.digest() == plan.digest()
    assert PLAN.secure is None


@pytest.mark.parametrize("key", ["threshold", "lane_bits"])
def test_no_decision_of_a_secure_sum_has_a_default_or_a_place_in_an_open_one(key: str) -> None:
    section = secure(2)
    with pytest.raises(MissingKeyError) as missing:
        with_changes(aggregation={name: value for name, value in section.items() if name != key})
    assert missing.value.fields["key"] == f"aggregation.{key}"
    with pytest.raises(UnknownKeyError) as unknown:
        with_changes(aggregation={"kind": "open", key: section[key]})
    assert unknown.value.fields["key"] == f"aggregation.{key}"


@pytest.mark.parametrize(
    ("quorum", "threshold", "colluders", "problem"),
    [
        (5, 5, 0, None),
        (5, 5, 3, None),
        (5, 4, 2, None),
        (4, 4, 2, None),
        (4, 3, 0, None),
        (3, 3, 0, None),
        (4, 5, 0, "above rounds.quorum"),
        (5, 2, 0, "conflicting cohorts"),  # 2 * 2 - 5 < 1: two pairs without a common member
        (5, 3, 1, "conflicting cohorts"),
        (5, 4, 3, "conflicting cohorts"),
        (4, 4, 3, "conflicting cohorts"),
        (5, 5, 4, "at least 2"),
    ],
)
def test_a_secure_sum_holds_against_its_colluders_or_the_plan_is_refused(
    quorum: int, threshold: int, colluders: int, problem: str | None
) -> None:
    changes = {"rounds/quorum": quorum, "privacy/colluders": colluders}
    if problem is None:
        assert with_changes(institutions=INSTITUTIONS, aggregation=secure(threshold), **changes).secure is not None
    else:
        with pytest.raises(ConfigValueError, match=problem):
            with_changes(institutions=INSTITUTIONS, aggregation=secure(threshold), **changes)


def test_the_usual_threshold_is_that_of_the_protocols_table() -> None:
    # PROTOCOL.md 4.4.
    table = {3: 3, 4: 3, 5: 4, 6: 5, 7: 5, 10: 7, 20: 14, 50: 34}
    assert {members: usual_threshold(members) for members in table} == table


@given(members=st.integers(2, 12), data=st.data())
def test_two_cohorts_that_could_both_be_opened_always_share_an_honest_member(members: int, data: st.DataObject) -> None:
    threshold, quorum = data.draw(st.integers(2, members)), data.draw(st.integers(2, members))
    colluders = data.draw(st.integers(0, members))
    institutions = {
        f"bank-{number}": {
            "kind": "bank",
            "identity": f"{number:064x}",
            "expected_borrowers": 1000,
            "modalities": ["application"],
        }
        for number in range(members)
    }
    try:
        with_changes(
            institutions=institutions,
            aggregation=secure(threshold),
            **{"rounds/quorum": quorum, "privacy/colluders": colluders},
        )
    except ConfigValueError:
        return
    # Two groups of ``threshold`` signers overlap in at least 2t - n members; one of them must be honest.
    assert 2 * threshold - members > colluders
    assert quorum >= threshold
    assert quorum - colluders >= 2


def test_with_local_noise_every_message_is_private_alone() -> None:
    assert PLAN.honest_shares == 1
    plan = with_changes(
        institutions=INSTITUTIONS, aggregation=secure(5), **{"rounds/quorum": 5, "privacy/colluders": 2}
    )
    assert plan.honest_shares == 1


def test_what_is_off_is_not_accounted_for_and_not_shared() -> None:
    off = {
        "institutions": INSTITUTIONS,
        "rounds/quorum": 5,
        "privacy/mechanism": "none",
        "privacy/accountant": "none",
        "privacy/epsilon": float("inf"),
        "privacy/evaluation_epsilon": float("inf"),
    }
    assert with_changes(**off).privacy.mechanism == "none"
    for changes in ({"privacy/accountant": "gdp"}, {"privacy/noise": "shared", "aggregation": secure(4)}):
        with pytest.raises(ConfigValueError, match="mechanism"):
            with_changes(**{**off, **changes})


def test_a_plan_cannot_be_changed_once_it_is_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PLAN.run.rounds = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    ["[run", "a = ", "a = 1\na = 2", "x = " + "[" * 5000, "x = 1" + "0" * 5000, "\x00"],
    ids=["open", "no value", "twice", "nested", "digits", "control"],
)
def test_what_is_not_toml_is_refused_with_our_error(text: str) -> None:
    with pytest.raises(ConfigSyntaxError, match=r"plan\.toml"):
        read(text)


def test_a_plan_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(TOML, encoding="utf-8")
    assert RunPlan.read(path) == PLAN
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigSyntaxError, match="UTF-8"):
        RunPlan.read(path)
    for missing in (tmp_path / "none.toml", tmp_path, path / "below"):
        with pytest.raises(ConfigFileMissingError):
            RunPlan.read(missing)


SALTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
REALS = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)


@given(
    salt=SALTS, rate=REALS, epsilon=REALS, seconds=REALS, fraction=st.floats(0, 1, exclude_min=True, exclude_max=True)
)
def test_every_plan_that_is_accepted_survives_being_written_and_read(
    salt: str, rate: float, epsilon: float, seconds: float, fraction: float
) -> None:
    raw = copy.deepcopy(RAW)
    raw["run"] |= {"holdout_salt": salt, "holdout_fraction": fraction}
    raw["training"]["learning_rate"] = rate
    raw["privacy"]["epsilon"] = epsilon
    raw["rounds"]["deadline_s"] = seconds
    try:
        plan = RunPlan.model_validate(raw)
    except ValueError:
        return  # text outside normal form C
    again = read(plan.to_toml())
    assert again == plan
    assert again.digest() == plan.digest()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*RAW, *RAW["run"], "kind", "x"]), inner, max_size=4)
        ),
        max_leaves=10,
    )
)
def test_only_our_own_errors_escape_from_any_content(content: Any) -> None:
    from fedcredit.config.reading import validate

    if isinstance(content, dict):
        for raw in (content, {**RAW, **content}):
            try:
                validate(RunPlan, raw, source="plan.toml").digest()
            except FedcreditError:
                continue


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (0.55, True),
        ("none", True),
        (0.5, False),
        (1, False),
        (0.0, False),
        ("None", False),
        (True, False),
        ("0.6", False),
    ],
)
def test_the_floor_of_votes_is_an_auc_between_chance_and_certainty_or_none(value: object, accepted: bool) -> None:
    text = changed("evaluation/vote_floor", value)
    if accepted:
        assert read(text).evaluation.vote_floor == value
        return
    with pytest.raises(ConfigValueError, match=r"strictly between 0\.5 and 1") as caught:
        read(text)
    assert "evaluation.vote_floor" in str(caught.value)


@pytest.mark.parametrize("bound", ["shares", "", None, 1, True])
def test_whether_updates_are_bounded_is_said_and_one_of_two(bound: object) -> None:
    with pytest.raises(MissingKeyError if bound is None else ConfigValueError, match="update_bound"):
        read(changed("aggregation/update_bound", DELETE if bound is None else bound))


def test_votes_of_their_own_are_paid_where_noise_is_shared_and_only_there() -> None:
    with pytest.raises(ConfigValueError, match="vote_share"):
        read(changed("evaluation", {"vote_floor": 0.6, "vote_share": 0.5}))
    with pytest.raises(ConfigValueError, match="vote_share"):
        read(changed("evaluation", {"vote_floor": "none", "vote_share": 0.5}))


def test_averaging_without_a_bound_per_borrower_has_none_per_institution() -> None:
    text = changed("training", FEDAVG).replace("rounded-gaussian", "none").replace('"gdp"', '"none"')
    text = text.replace("\nepsilon = 4.0", "\nepsilon = inf")
    with pytest.raises(ConfigValueError, match=r'needs aggregation\.update_bound = "none"'):
        read(text.replace("evaluation_epsilon = 0.5", "evaluation_epsilon = inf"))
