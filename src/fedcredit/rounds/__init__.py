"""The coordinator's side: one round (``engine``) and a whole run with quorum, deadlines and resume (``run``)."""
