"""Which column of an export is which column of the contract, and what is wrong with the header line."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fedcredit.checking.findings import FindingBook
from fedcredit.checking.spec import TableSpec
from fedcredit.contract.canonical import ColumnRule, canonical
from fedcredit.contract.canonical.deny import denied
from fedcredit.contract.canonical.manifest import FolderFacts
from fedcredit.contract.canonical.mapping import ColumnSource
from fedcredit.contract.canonical.units import units_for
from fedcredit.errors import (
    DeniedColumnError,
    DuplicateColumnError,
    ExtraColumnError,
    MissingColumnError,
    phrase,
)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """One canonical column and where its cells come from."""

    rule: ColumnRule
    source: ColumnSource
    date_format: str

    @property
    def name(self) -> str:
        """Return the canonical name."""
        return self.rule.name

    @property
    def spoken(self) -> str:
        """Return the name that the operator knows: that of the export, with the canonical one if it differs."""
        if not self.source.column or self.source.column == self.name:
            return self.name
        return f"{self.source.column} ({self.name})"

    @property
    def factor(self) -> float:
        """Return what one unit of the export is in the unit of the contract."""
        return units_for(self.rule.unit)[self.source.unit] if self.source.unit else 1.0


def bind(spec: TableSpec, names: tuple[str, ...], facts: FolderFacts, book: FindingBook) -> tuple[Binding, ...]:
    """Return the bindings of the columns that can be read; everything else about the header line is a finding."""
    for name, times in Counter(names).items():
        if times > 1:
            book.add(DuplicateColumnError, count=times, row=None, **_place(spec, name))
    wanted = _wanted(spec, names)
    bindings = []
    for rule, source in wanted:
        if source.column and source.column not in names:
            _missing(spec, rule, source.column, names, book)
        elif not source.column or names.count(source.column) == 1:
            binding = Binding(rule=rule, source=source, date_format=source.format or spec.source.date_format)
            book.spoken[spec.table.name, rule.name] = binding.spoken
            bindings.append(binding)
    _denied(spec, names, book, version=facts.schema_version)
    _extra(spec, names, [source.column for _, source in wanted], book)
    _minimum(spec, {rule.name for rule, _ in wanted}, names, facts, book)
    return tuple(bindings)


def _wanted(spec: TableSpec, names: tuple[str, ...]) -> list[tuple[ColumnRule, ColumnSource]]:
    if not spec.mapped:
        return [(rule, ColumnSource(column=rule.name)) for rule in spec.table.accepted if rule.name in names]
    listed = [
        (rule, spec.source.columns[rule.name]) for rule in spec.table.accepted if rule.name in spec.source.columns
    ]
    own = [(extra.rule(name, spec.table), extra.source) for name, extra in spec.source.extra.items()]
    return listed + own


def _missing(spec: TableSpec, rule: ColumnRule, column: str, names: Iterable[str], book: FindingBook) -> None:
    near = difflib.get_close_matches(column, list(names), n=1, cutoff=0.6)
    hint = phrase(en=f'The nearest column is "{near[0]}". ', zh=f'最接近的列是 "{near[0]}"。') if near else ""
    line, section = f'{rule.name} = "{column}"', f"[tables.{spec.table.name}.columns]"
    hint += phrase(en=f"Correct {line} under {section} of the mapping.", zh=f"请修正映射 {section} 中的 {line}。")
    where = {"table": spec.table.name, "column": rule.name, "path": f"{spec.place}"}
    book.add(MissingColumnError, count=1, row=None, **where, hint=hint)  # the column is named by its canonical name


def _denied(spec: TableSpec, names: Iterable[str], book: FindingBook, *, version: int) -> None:
    for name in dict.fromkeys(names):
        kind = denied(name, version=version)
        if name in spec.table and not spec.table.column(name).deny:
            continue
        if kind is not None:
            what = phrase(en=kind.en, zh=kind.zh)
            book.add(DeniedColumnError, count=1, row=None, what=what, **_place(spec, name))


def _extra(spec: TableSpec, names: Iterable[str], bound: list[str], book: FindingBook) -> None:
    for name in dict.fromkeys(names):
        ignored = spec.source.rest == "ignored" or name in spec.source.ignore
        if name in bound or ignored or book.has(DeniedColumnError, spec.table.name, name):
            continue
        free = [rule.name for rule in spec.table.accepted if rule.name not in spec.source.columns]
        near = difflib.get_close_matches(name, free, n=1, cutoff=0.75)
        hint = _extra_hint(spec, name, near)
        book.add(ExtraColumnError, count=1, row=None, hint=hint, **_place(spec, name))


def _extra_hint(spec: TableSpec, name: str, near: list[str]) -> str:
    if near:
        return phrase(
            en=f'Was "{near[0]}" meant? Then map it; else list it under ignore, or accept it: --accept FC-5033',
            zh=f'是指 "{near[0]}" 吗?若是请映射;否则列入 ignore,或接受:--accept FC-5033',
        )
    line, section = f'ignore = ["{name}"]', f"[tables.{spec.table.name}]"
    return phrase(
        en=f"Add {line} to {section}, or accept it: --accept FC-5033",
        zh=f"请在 {section} 中加入 {line},或接受:--accept FC-5033",
    )


def _minimum(spec: TableSpec, bound: set[str], names: tuple[str, ...], facts: FolderFacts, book: FindingBook) -> None:
    modalities = canonical(facts.schema_version)
    for rule in spec.table.accepted:
        held = modalities.modality(rule.modality).held_by[facts.type]
        asked = rule.missing == "required" or (rule.minimum and held == "full")
        if not asked or rule.name in bound or rule.name in spec.source.absent:
            continue
        near = difflib.get_close_matches(rule.name, [name for name in names if name not in bound], n=1, cutoff=0.6)
        hint = _minimum_hint(spec, rule, near)
        book.add(MissingColumnError, count=1, row=None, hint=hint, **_place(spec, rule.name))


def _minimum_hint(spec: TableSpec, rule: ColumnRule, near: list[str]) -> str:
    section = f"[tables.{spec.table.name}.columns]"
    where = section if spec.mapped else phrase(en="the export", zh="导出文件")
    hint = phrase(en=f'Is it "{near[0]}"? ', zh=f'是 "{near[0]}" 吗?') if near else ""
    hint += phrase(en=f"Add {rule.name} to {where}", zh=f"请在 {where} 中加入 {rule.name}")
    if rule.missing == "required":
        return hint + phrase(en=".", zh="。")
    lacking = f'absent = ["{rule.name}"]'
    return hint + phrase(en=f", or say that you lack it: {lacking}", zh=f",或声明没有该列:{lacking}")


def _place(spec: TableSpec, column: str) -> dict[str, str]:
    return {"table": spec.table.name, "column": column, "path": spec.place}
