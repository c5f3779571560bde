"""The example of random matrices: its samples against closed forms, its figure drawn."""

import math
import runpy
from pathlib import Path

import pytest

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "random_matrices.py"))


def test_shares_agree_with_closed_forms_and_fall_faster_than_two_to_the_minus_k():
    rows = EXAMPLE["experiment"](range(1, 5), 20_000)
    for k, minima, maxima, saddles, _ in rows:
        assert minima + maxima + saddles == pytest.approx(1)
        if k in EXAMPLE["EXACT"]:
            error = math.sqrt(EXAMPLE["EXACT"][k] / 20_000)
            assert abs(minima - EXAMPLE["EXACT"][k]) <= 4 * error
            assert abs(maxima - EXAMPLE["EXACT"][k]) <= 4 * error
    assert rows[3][1] < 0.1 * 2.0**-4


def test_the_figure(tmp_path, capsys):
    EXAMPLE["main"](["--largest", "3", "--samples", "2000", "--out", str(tmp_path)])
    assert (tmp_path / "random-matrices.png").stat().st_size > 10_000
    assert "closed form" in capsys.readouterr().out
