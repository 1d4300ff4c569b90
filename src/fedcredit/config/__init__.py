"""TOML files as frozen, validated values: the shared plan, the private node, the coordinator."""
