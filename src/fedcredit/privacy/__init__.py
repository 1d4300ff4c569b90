"""Privacy: what a release is, what it costs, the noise that pays for it, and the ledger that remembers."""
