"""The size below which an answer is worked out with the whole matrix."""

EXACT_BELOW = 2_000
"""Dimension up to which queries without a closed form take n products, and what O(n³) operations give, exactly."""
