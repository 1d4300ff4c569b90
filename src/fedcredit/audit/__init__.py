"""The record of what happened: typed events in a hash-chained journal."""
