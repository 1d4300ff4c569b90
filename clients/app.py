"""The ClientApp of the bundle: passes one envelope to the institution's daemon and its reply back."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedcredit.flower.node_courier import carry

app = ClientApp()


@app.query("envelope")
def envelope(message: Message, context: Context) -> Message:
    """Carry one envelope."""
    return carry(message, context)
