"""A small contract and a table that fits it."""

from __future__ import annotations

from typing import Any, Final

CONTRACT_YAML: Final = """schema_version: 1
name: small
title: Small
licence: none
attribution: nobody
unit: borrower
entity: who
label: {column: outcome, good: paid, bad: lost}
protected: [age]
modalities:
  application:
    kind: static
    columns:
      amount: {type: number, unit: EUR, min: 0, max: 100, missing: required, source: form, available_at: application,
               grid: [10, 50], dense: {scale: linear, low: 0, high: 100}}
      income: {type: number, unit: EUR, min: 0, max: 999, missing: nullable, source: form, available_at: application,
               grid: [5], dense: {scale: log, low: 0, high: 99}}
      use: {type: category, values: {1: car, 2: house}, missing: nullable, source: form, available_at: application,
            dense: one-hot}
      place: {type: category, values: [north, south], missing: unknown, source: form, available_at: application}
    derived:
      burden: {function: ratio, inputs: [amount, income], unit: amount / income, missing: nullable, grid: [1, 2]}
    crosses: {amount_by_use: [amount, use]}
    scorecard: [amount, income, use, place, burden, amount_by_use]
  repayment:
    kind: sequence
    steps: 2
    channels:
      late: {columns: [late_1, late_2], unit: days, min: 0, max: 99, missing: nullable, source: ledger,
             available_at: monthly, dense: {scale: linear, low: 0, high: 10}}
      amount: {columns: [amount, amount], unit: EUR, min: 0, max: 100, missing: required, source: ledger,
               available_at: monthly}
    derived:
      worst: {function: highest, inputs: [late], unit: days, missing: nullable, grid: [1, 30]}
      share: {function: ratio, inputs: [late, amount], unit: days / EUR, missing: nullable,
              dense: {scale: linear, low: 0, high: 1}}
    scorecard: [worst]
"""
MODALITIES: Final = ("application", "repayment")


def columns() -> dict[str, list[Any]]:
    """Return three borrowers."""
    return {
        "who": ["a", "b", "c"],
        "outcome": ["paid", "lost", "paid"],
        "amount": [5, 10, 99],
        "income": [10.0, None, 9.0],
        "use": [1, 2, None],
        "place": ["north", "moon", None],
        "late_1": [0, 40, None],
        "late_2": [0, 20, 3],
        "age": [20, 30, 40],
    }
