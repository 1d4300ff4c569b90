"""Every number of the world has one home and says where it comes from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fedcredit.simulator
from fedcredit.errors import ConfigValueError, UnknownKeyError, UnknownScenarioError
from fedcredit.simulator.parameters import SOURCES, build_world, load_world, scenarios

FOLDER = Path(fedcredit.simulator.__file__).parent
RAW = tomllib.loads((FOLDER / "world.toml").read_text("utf-8"))
PACKS = (
    *("double_pledge", "iid", "label_skew", "missing_modality", "negative_control", "nev_price_war", "poisoner"),
    *("recession_oot", "ring", "segment_skew", "thin_file"),
)
SMALL = {"a": {"x": {"value": 1.5, "from": "expert"}, "y": {"value": [1, 2], "from": "public", "note": "a source"}}}


def _built(pack):
    return build_world(SMALL, pack, scenario="s", title="t")


def test_the_eleven_packs_are_there_and_each_can_be_loaded() -> None:
    assert scenarios() == PACKS
    for name in PACKS:
        world = load_world(name)
        assert world.scenario == name
        assert world.title.endswith(".")


def test_every_number_says_where_it_comes_from() -> None:
    provenance = load_world("missing_modality").provenance
    assert len(provenance) > 300
    assert {one.source for one in provenance} == set(SOURCES) - {"scenario"}
    assert [one.path for one in provenance if one.source == "public" and not one.note] == []


def test_every_number_is_read_somewhere_in_the_simulator() -> None:
    source = "\n".join(path.read_text("utf-8") for path in FOLDER.glob("*.py"))
    source += (FOLDER.parent / "lab" / "world_facts.py").read_text("utf-8")
    by_key = {"ci", "paper", "stress"}  # numbers.scale[scale]
    names = {one.path.rpartition(".")[2] for one in load_world("missing_modality").provenance} - by_key
    assert sorted(name for name in names if not re.search(rf"\.{name}\b", source)) == []


def test_a_number_is_reached_by_its_name_and_never_changes() -> None:
    world = _built({})
    assert world.numbers.a.x == 1.5
    assert world.a.y.tolist() == [1, 2]
    with pytest.raises(AttributeError, match="no number z"):
        _ = world.numbers.a.z
    with pytest.raises(AttributeError):
        world.numbers.a.x = 2.0
    with pytest.raises(ValueError, match="read-only"):
        world.numbers.a.y[0] = 5


def test_a_pack_replaces_numbers_and_leaves_the_base_as_it_was() -> None:
    world = _built({"a": {"x": {"value": 2, "from": "scenario"}}})
    assert (world.numbers.a.x, world.base.a.x) == (2, 1.5)
    assert np.array_equal(world.numbers.a.y, world.base.a.y)
    assert {one.path: one.source for one in world.provenance} == {"a.x": "scenario", "a.y": "public"}


def test_a_pack_can_neither_add_a_number_nor_change_its_shape() -> None:
    with pytest.raises(UnknownKeyError) as unknown:
        _built({"a": {"xx": {"value": 2, "from": "scenario"}}})
    assert unknown.value.fields["key"] == "a.xx"
    for value in ([1, 2, 3], "two"):
        with pytest.raises(ConfigValueError):
            _built({"a": {"y": {"value": value, "from": "scenario"}}})


@pytest.mark.parametrize("leaf", [1.5, {"value": 1.5}, {"value": 1.5, "from": "hearsay"}])
def test_a_number_without_a_source_is_refused(leaf: object) -> None:
    with pytest.raises(ConfigValueError):
        build_world({"a": {"x": leaf}}, {}, scenario="s", title="t")


def test_an_unknown_scenario_is_refused_with_the_list_of_all() -> None:
    with pytest.raises(UnknownScenarioError) as refused:
        load_world("boom")
    assert str(refused.value.fields["known"]).split(", ") == list(PACKS)
