"""From a contract to the input shapes of a model; every party derives the same ones."""

from __future__ import annotations

from fedcredit.contract import Contract
from fedcredit.data.features import feature_spec
from fedcredit.model.layout import ModalityShape, ModelInputs


def model_inputs(contract: Contract) -> ModelInputs:
    """Return the public input shape of every modality, in the contract's order."""
    return {
        part.name: ModalityShape(kind=part.kind, bins=part.bins, nominal=part.nominal, dense=part.dense_shape)
        for part in feature_spec(contract).modalities
    }
