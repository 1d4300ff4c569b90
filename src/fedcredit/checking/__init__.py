"""``check-data``: own tables against the canonical data set, in bounded memory, without quoting a cell."""
