"""What the labels of one institution mean to the others: ``label_map.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fedcredit.config.reading import Section, read_toml, validate
from fedcredit.contract.canonical.months import month_end

LABEL_MAP_FILE: Final = "label_map.toml"
LabelKind: TypeAlias = Literal["def90", "comp", "cgi", "ew30", "fpd", "lgd", "claim", "fraud", "price"]
KnownAt: TypeAlias = Literal["event", "month_end"]


class LabelRule(Section):
    """One kind of label.

    A fund compensates 30 to 90 days after the missed due date, so its label is not the 90 days of a bank. Nobody
    relabels anything: the model has an intercept per institution, and this says what that intercept stands for.
    """

    dpd_equiv: Annotated[int, Field(ge=0, le=720)]
    """Days past due that the label corresponds to; 0 for a label that is no delay."""
    lag_days: Annotated[int, Field(ge=0, le=720)]
    """Days from the event until this institution knows it."""
    known_at: KnownAt
    """From which day the lag counts: the event itself, or the end of its month."""

    def first_known(self, events: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the first day on which a label of this kind may be known after each event; NaN where there is none.

        Days are whole numbers since 1970-01-01.
        """
        return (month_end(events) if self.known_at == "month_end" else events) + self.lag_days


class LabelMap(Section):
    """label_map.toml: the rule of every kind of label that the institution owns."""

    schema_version: Literal[1]
    labels: Mapping[LabelKind, LabelRule]

    @model_validator(mode="after")
    def _some(self) -> LabelMap:
        if not self.labels:
            raise ValueError("labels must name at least one kind")
        return self

    @classmethod
    def read(cls, path: Path) -> LabelMap:
        """Read a label map.

        Raises:
            ConfigFileMissingError, ConfigSyntaxError, UnknownKeyError, MissingKeyError, ConfigValueError: the file.
        """
        raw = read_toml(path, what="label map", command=f"write {LABEL_MAP_FILE} beside the mapping")
        return validate(cls, raw, source=str(path))
