from __future__ import annotations

import tomllib

import pytest

from fedcredit.config.plan import RunPlan
from fedcredit.config.reading import MOST_CHARACTERS, MOST_DOTS, parse_toml
from fedcredit.errors import ConfigSyntaxError


def nested(parts: int) -> dict[str, object]:
    value: dict[str, object] = {"a": 1}
    for _ in range(parts - 1):
        value = {"a": value}
    return value


def refusal(text: str) -> str:
    with pytest.raises(ConfigSyntaxError) as caught:
        parse_toml(text, source="plan.toml")
    return str(caught.value)


def test_a_key_has_no_more_dots_than_the_limit() -> None:
    assert parse_toml("a." * MOST_DOTS + "a = 1", source="plan.toml") == nested(MOST_DOTS + 1)
    assert f"more than {MOST_DOTS} dots (at line 1)" in refusal("a." * (MOST_DOTS + 1) + "a = 1")


@pytest.mark.parametrize(
    "line",
    ["{}a = 1", "[{}a]", "[[{}a]]", "x = {{{}a = 1}}", "x = [{{{}a = 1}}]"],
    ids=["key", "table", "list of tables", "inline", "inline in a list"],
)
@pytest.mark.parametrize("part", ["a.", '"a" . ', "'\u2028'.", '"\\n".'], ids=["bare", "quoted", "literal", "escaped"])
def test_no_way_to_write_a_key_of_many_parts_passes(line: str, part: str) -> None:
    modest, long = (f"b = 1\n{line.format(part * dots)}\n" for dots in (MOST_DOTS, 16_000))
    assert parse_toml(modest, source="plan.toml") == tomllib.loads(modest)
    assert "dots (at line 2)" in refusal(long)


def test_a_file_is_no_longer_than_the_limit() -> None:
    text = "a = 1\n"
    assert parse_toml(text + "#" * (MOST_CHARACTERS - len(text)), source="plan.toml") == {"a": 1}
    assert "more than 1,048,576 characters" in refusal(text + "#" * (MOST_CHARACTERS + 1 - len(text)))


def test_a_plan_of_a_thousand_institutions_with_the_longest_names_has_room_to_grow() -> None:
    entry = (
        '[institutions.{}]\nkind = "guarantee_fund"\nidentity = "{}"\n'
        'expected_borrowers = 1000000\nmodalities = ["application", "x"]\n'
    )
    text = "".join(entry.format(f"i{number:062d}", f"{number:064x}") for number in range(1000))
    assert 4 * len(text) < MOST_CHARACTERS
    assert len(parse_toml(text, source="plan.toml")["institutions"]) == 1000


def test_a_plan_from_elsewhere_is_under_the_limits() -> None:
    with pytest.raises(ConfigSyntaxError, match="dots"):
        RunPlan.from_toml("a." * 16_000 + "a = 1", source="the plan received")
