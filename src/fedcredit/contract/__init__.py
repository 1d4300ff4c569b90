"""The data contract: what columns a modality has, in which unit and range, and how they become features.

Everything in a contract is public. Grids and category lists are constants from domain knowledge, never computed from
rows, so binning releases nothing about a borrower.
"""

from fedcredit.contract.loading import VEHICLE_LOANS, load_contract, shipped_contract, shipped_contracts
from fedcredit.contract.schema import Contract, Modality

__all__ = ["VEHICLE_LOANS", "Contract", "Modality", "load_contract", "shipped_contract", "shipped_contracts"]
