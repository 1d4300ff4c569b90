"""The parts of a modality: number and category columns, channels of a sequence, derived features."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field, field_validator, model_validator

from fedcredit.config.reading import Section

ItemT = TypeVar("ItemT")
Items: TypeAlias = Annotated[tuple[ItemT, ...], Field(strict=False)]
"""A YAML list as a tuple; its items stay strict."""

Availability: TypeAlias = Literal["application", "monthly"]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Real: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Missing: TypeAlias = Literal["required", "nullable", "unknown"]
"""``required``: no empty cell. ``nullable``: an empty cell has its own bin. ``unknown``: so has an unlisted code."""


class Scale(Section):
    """A public map of numbers onto [-1, 1] for dense models; values outside [low, high] are clipped first."""

    scale: Literal["linear", "log"]
    """``linear``, or ``log``: of sign(x)·log(1 + |x|), which keeps small amounts apart."""
    low: Real
    high: Real

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self


def _increasing(grid: tuple[float, ...]) -> tuple[float, ...]:
    if any(right <= left for left, right in itertools.pairwise(grid)):
        raise ValueError("edges must increase strictly")
    return grid


class Ranged(Section):
    """A number with a unit and an inclusive range."""

    unit: Text
    min: Real
    max: Real
    missing: Literal["required", "nullable"]
    source: Text
    available_at: Availability
    dense: Scale | None = None
    """How a dense model sees it; without it, it does not."""

    @model_validator(mode="after")
    def _range(self) -> Ranged:
        if not self.min < self.max:
            raise ValueError("min must be below max")
        return self


class NumberColumn(Ranged):
    """A number per row. ``grid`` holds the inner edges e1 < e2 < ...; bin i is [e_i, e_i+1), open at both ends."""

    name: Text
    type: Literal["number"]
    grid: Items[Real] = ()

    _grid = field_validator("grid")(_increasing)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the table that it reads: itself."""
        return (self.name,)


class CategoryColumn(Section):
    """A code per row out of a public list; ``values`` pairs each code with its text for people."""

    name: Text
    type: Literal["category"]
    values: Items[tuple[int | str, str]]
    missing: Missing
    source: Text
    available_at: Availability
    dense: Literal["one-hot"] | None = None

    @field_validator("values", mode="before")
    @classmethod
    def _pairs(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return tuple(values.items())
        if isinstance(values, list):
            return tuple((value, str(value)) for value in values)
        raise ValueError("must be a list of codes, or a map from code to text")

    @field_validator("values")
    @classmethod
    def _one_kind(cls, values: tuple[tuple[int | str, str], ...]) -> tuple[tuple[int | str, str], ...]:
        if len({type(code) for code, _ in values}) != 1:
            raise ValueError("codes must be all integers or all texts, and at least one")
        if len({code for code, _ in values}) != len(values):
            raise ValueError("lists a code twice")
        return values

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the table that it reads: itself."""
        return (self.name,)


class Channel(Ranged):
    """A number per row and step; ``columns`` names one table column per step, oldest first.

    A column may stand for every step, as a limit does that holds for the whole window.
    """

    name: Text
    columns: Items[Text]


class Derived(Section):
    """A feature that a named function of ``fedcredit.data.derived`` makes from one row's columns or channels."""

    name: Text
    function: Text
    inputs: Items[Text]
    unit: Text
    missing: Literal["required", "nullable"]
    grid: Items[Real] = ()
    dense: Scale | None = None

    _grid = field_validator("grid")(_increasing)

    @model_validator(mode="after")
    def _used(self) -> Derived:
        if not self.grid and self.dense is None:
            raise ValueError("needs a grid, a dense scale or both")
        return self


Column: TypeAlias = NumberColumn | CategoryColumn | Channel
