"""From the sum of the institutions' answers to the next model."""
