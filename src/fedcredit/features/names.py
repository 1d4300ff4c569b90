"""What a feature's name says: table, column, and how its rows become one number.

    contract.amount                      the newest row that was known on the day of observation
    tel_daily.km.mean_90d                over the rows of the 90 days before it
    contract.bureau_score.reason         why the cell is empty, or "present"

The name stands in the data contract and so in its digest: two institutions with the same digest make the same
features. A name's meaning never changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from fedcredit.contract import Contract
from fedcredit.contract.canonical import CanonicalSet, CanonicalTable, ColumnRule, canonical
from fedcredit.contract.canonical.table import Head
from fedcredit.contract.columns import CategoryColumn
from fedcredit.errors import ConfigValueError

Summary = Literal["latest", "reason", "mean", "sd", "sum", "min", "max", "count"]
LABELS: Final = "outcome."
"""What the label of a contract on canonical tables begins with."""
ENTITY: Final = "entity_tok"
VEHICLE: Final = "vin_tok"
LINKS: Final = {
    "contract": "contract_id",
    "rep_monthly": "contract_id",
    "entity": "entity_tok",
    "ent_monthly": "entity_tok",
    "eqp": "entity_tok",
    "pol": "entity_tok",
    "clm": "policy_id",
    "veh": VEHICLE,
    "rv_weekly": VEHICLE,
    "tel_daily": VEHICLE,
    "con": VEHICLE,
}
"""The tables that features are made from, and the column that leads from a row to its contracts."""
THROUGH: Final[Mapping[str, str]] = {"clm": "pol"}
"""Tables whose rows find their contracts through another one: a claim through its policy."""
OBSERVED: Final[Mapping[str, str]] = {
    "pd12_app": "application",
    "fpd30": "application",
    "fraud": "application",
    "pd12_beh": "behaviour",
}
"""The targets that happen or not, and the kind of observation that each belongs to."""
_NAME: Final = re.compile(r"([a-z_0-9]+)\.([a-z_0-9]+)(?:\.([a-z]+)(?:_([1-9][0-9]{0,3})d)?)?")
_WORDS: Final = ("category", "text")


@dataclass(frozen=True, kw_only=True)
class FeatureName:
    """A feature of one column of one canonical table."""

    text: str
    table: str
    rule: ColumnRule
    summary: Summary
    days: int | None
    """Length of the window before the day of observation; ``None`` for ``latest`` and ``reason``."""

    @property
    def is_words(self) -> bool:
        """Return whether its cells are texts: categories, texts, and reasons."""
        return self.summary == "reason" or self.rule.type in _WORDS


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a contract asks of the canonical tables."""

    head: Head
    names: tuple[FeatureName, ...]

    def tables(self) -> dict[str, tuple[FeatureName, ...]]:
        """Return the features of each table, in the order of the contract."""
        grouped: dict[str, list[FeatureName]] = {}
        for name in self.names:
            grouped.setdefault(name.table, []).append(name)
        return {table: tuple(names) for table, names in grouped.items()}


def is_canonical(contract: Contract) -> bool:
    """Return whether a contract's features are made from canonical tables; otherwise its columns are a table's own."""
    return contract.tables is not None


def wanted(contract: Contract, modalities: Iterable[str]) -> Wanted:
    """Return what the ``modalities`` of a contract on canonical tables read.

    Raises:
        SchemaVersionError: this release does not speak the version of the tables.
        ConfigValueError: the entity, the label or a column is none that canonical tables give, or one that the
            label's head must not read (a leak); contract and column are named.
    """
    tables = canonical(contract.tables or 0)
    head = contract.label.column.removeprefix(LABELS)
    if not contract.label.column.startswith(LABELS) or head not in OBSERVED:
        raise _wrong(contract, "label.column", f"must be {LABELS} and one of {', '.join(OBSERVED)}")
    if contract.entity != ENTITY:
        raise _wrong(contract, "entity", f"must be {ENTITY}, as in the canonical tables")
    if (contract.label.good, contract.label.bad) != (0, 1):
        raise _wrong(contract, "label", "must have good: 0 and bad: 1, as in the canonical tables")
    names: dict[str, FeatureName] = {}
    for modality in map(contract.modality, modalities):
        if modality.kind != "static":
            raise _wrong(
                contract, f"modalities.{modality.name}.kind", "must be static: canonical features have no steps"
            )
        for column in modality.columns:
            key = f"modalities.{modality.name}.columns.{column.name}"
            name = names[column.name] = _name(contract, key, column.name, tables, head=cast("Head", head))
            if name.is_words and not isinstance(column, CategoryColumn):
                raise _wrong(contract, key, "gives texts: its type must be category")
    return Wanted(head=cast("Head", head), names=tuple(names.values()))


def _name(contract: Contract, key: str, text: str, tables: CanonicalSet, *, head: Head) -> FeatureName:
    match = _NAME.fullmatch(text)
    if match is None or match[1] not in LINKS:
        known = ", ".join(LINKS)
        raise _wrong(contract, key, f"must be TABLE.COLUMN or TABLE.COLUMN.SUMMARY_DAYSd with a table of {known}")
    table = tables.table(match[1])
    rule = _rule(contract, key, table, match[2], head=head)
    summary = cast("Summary", match[3] or "latest")
    days = int(match[4]) if match[4] else None
    if summary not in get_args(Summary) or (match[3] and summary == "latest"):
        raise _wrong(contract, key, f"has the summary {match[3]}; there are {', '.join(get_args(Summary)[1:])}")
    if (days is None) != (summary in ("latest", "reason")):
        raise _wrong(contract, key, "needs a window such as mean_90d; a reason and a newest value have none")
    if rule.type in _WORDS and days is not None:
        raise _wrong(contract, key, "is a text, so only its newest row and its reason can be read")
    return FeatureName(text=text, table=table.name, rule=rule, summary=summary, days=days)


def _rule(contract: Contract, key: str, table: CanonicalTable, column: str, *, head: Head) -> ColumnRule:
    if column not in table:
        raise _wrong(contract, key, f"names no column of {table.name}; see the page of that table")
    rule = table.column(column)
    if rule.deny or head not in rule.heads:
        raise _wrong(contract, key, f"must not be a feature of {head}: its heads are {', '.join(rule.heads) or 'none'}")
    return rule


def _wrong(contract: Contract, key: str, problem: str) -> ConfigValueError:
    return ConfigValueError(path=contract.name, key=key, problem=problem)
