"""Federated, differentially private training of credit-risk models across institutions.

Importing this package costs nothing: torch, opacus, flwr and matplotlib are imported by the modules that need
them, never here.
"""

__version__ = "0.1.0"
