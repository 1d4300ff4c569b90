"""From an institution's canonical tables to the inputs of a model: what was known on each day of observation."""
