"""The command line. Heavy things are imported inside commands, so that help opens at once."""
