"""Settings as they are typed."""

import pytest

from quadric.core.literal import literal


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 0.001), ("true", True), ("False", False), ("none", None), ("ggn", "ggn"), ("-2", -2)],
)
def test_literals(text, value):
    found = literal(text)
    assert found == value
    assert type(found) is type(value)
