"""An institution's side of a round: what it holds, what it agrees to, and the worker that answers requests."""
