"""The ServerApp of the bundle: passes envelopes between the coordinator daemon and Flower, and decides nothing."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedcredit.flower.coordinator_courier import run

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry envelopes until the coordinator daemon is done."""
    run(grid, context)
