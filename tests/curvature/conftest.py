"""The networks of these tests are small; Hessians still go by the tape, as those of larger ones do."""

import pytest

from quadric.objective import gradient


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch):
    monkeypatch.setattr(gradient, "SMALL", 0)
