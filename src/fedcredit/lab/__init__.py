"""Experiments: data sets dealt out to institutions in this process, baselines, comparison figures."""
