"""Parameter space, errors, randomness: what everything else stands on. Imports torch only."""
