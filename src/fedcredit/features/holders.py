"""Whose data a vehicle's rows are, where several borrowers have had it: the unit of privacy is the borrower."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.checking.spec import DataSpec
from fedcredit.features.reading import Values, read_whole


class Holders:
    """Who held each vehicle when, for the vehicles that several borrowers have contracts on.

    From the day of its decision a contract holds the vehicle until the next one's; before the first one, the first
    does. So every row of a vehicle is one borrower's data, and without that borrower it would not be there.
    """

    def __init__(self, contracts: pd.DataFrame) -> None:
        several = contracts.groupby("vin_tok")["entity_tok"].transform("nunique") > 1
        order = ["decision_date", "entity_tok"]
        self._contracts = contracts[several & contracts["decision_date"].notna()].sort_values(order)
        self._first = self._contracts.drop_duplicates("vin_tok").set_index("vin_tok")["entity_tok"]

    @classmethod
    def of(cls, spec: DataSpec) -> Self:
        """Return the holders by the contract table."""
        rows = pd.DataFrame(read_whole(spec, "contract", ("vin_tok", "entity_tok", "decision_date")))
        return cls(rows[rows["vin_tok"].notna() & rows["entity_tok"].notna()])

    def on(self, vehicles: Values, days: NDArray[np.float64]) -> Values | None:
        """Return the borrower who held each vehicle on a day, ``None`` in its place if one borrower alone ever did.

        ``None`` instead of the whole if no contract with a day of decision tells the borrowers of a vehicle apart.
        """
        if self._first.empty:
            return None
        found = np.full(len(vehicles), None, dtype=object)
        some = np.flatnonzero(pd.Index(vehicles, dtype=object).isin(self._first.index) & np.isfinite(days))
        if not len(some):
            return found
        asked = pd.DataFrame({"vin_tok": vehicles[some], "day": days[some], "place": some}).sort_values("day")
        told = pd.merge_asof(asked, self._contracts, left_on="day", right_on="decision_date", by="vin_tok")
        holder = told["entity_tok"].where(told["entity_tok"].notna(), told["vin_tok"].map(self._first))
        found[told["place"].to_numpy()] = holder.to_numpy(dtype=object)
        return found
