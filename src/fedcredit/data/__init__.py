"""Tables of an institution as scorecard bins and dense arrays, checked against the contract; the vendored real sets."""
