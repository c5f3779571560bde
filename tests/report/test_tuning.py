"""The report of a search."""

from dataclasses import replace

from quadric.bench.search.records import Found, Trial
from quadric.report.tuning import code, draw, table

SEARCH = {
    "problem": "digits-mlp",
    "optimiser": "newton",
    "space": "damping=log:0.0001:1.0, structure=full|diagonal, curvature=ggn",
    "judged by": "3-fold cross-validation",
    "metric": "loss",
}


def trial(number, damping, structure, *scores, status="finished"):
    hyper = {"damping": damping, "structure": structure, "curvature": "ggn"}
    return Trial(number, hyper, status, "", 1.5, list(scores))


FOUND = Found(
    {"search": SEARCH},
    [
        trial(0, 0.1, "full", 0.3, 0.31, 0.29),
        trial(1, 0.01, "full", 0.2, 0.1, 0.12),
        trial(2, 0.02, "diagonal", 0.16, 0.12, 0.16),
        trial(3, 1.0, "full", status="diverged"),
        trial(4, 0.5, "full", status="pruned"),
    ],
    {"damping": 0.8, "structure": 0.2},
)


def test_best_first_with_its_uncertainty():
    result = table(FOUND)
    assert result.title == "newton on digits-mlp: 5 trials"
    assert result.columns == ["trial", "damping", "structure", "curvature", "loss", "seconds"]
    assert [row[0].main for row in result.rows] == ["1", "2", "0"]
    assert result.rows[0][4].main == "0.140"
    assert result.rows[0][4].below == "± 0.0306"


def test_what_the_notes_say():
    text = " ".join(table(FOUND).notes)
    assert "Best: loss 0.140, ± 0.0306 (standard error over 3 runs). Judged by 3-fold cross-validation" in text
    assert "has not seen the test examples" in text
    assert "Of the 2 other finished trials 1 can't be told from it" in text
    assert "damping from 0.01 to 0.02" in text
    assert "functional ANOVA over the finished trials): damping 80%, structure 20%." in text
    assert "Pruned: 1 of 5 trials. Diverged: 1 of 5 trials." in text
    assert "lies at an end" not in text


def test_the_line_that_uses_it():
    line = code(FOUND)
    assert line == 'quadric.optim.create("newton", objective, damping=0.01, structure="full", curvature="ggn")'
    assert table(FOUND).verdict == f"Use it: {line}"


def test_one_run_has_no_spread():
    found = replace(FOUND, trials=[trial(0, 0.1, "full", 0.3), trial(1, 0.2, "full", 0.2)], importance={})
    text = " ".join(table(found).notes)
    assert "its spread is not known: --folds or --seeds tell" in text
    assert "can't be told" not in text
    assert "Importance: not known" in text


def test_a_best_at_an_end_is_told():
    found = replace(FOUND, trials=[trial(0, 1e-4, "full", 0.1), trial(1, 0.2, "full", 0.2)])
    assert "The best damping lies at an end of its range: search further there." in table(found).notes


def test_figure():
    assert draw(FOUND).startswith(b"\x89PNG")
    assert draw(FOUND) == draw(FOUND)
    assert draw(replace(FOUND, importance={})).startswith(b"\x89PNG")
    assert draw(replace(FOUND, trials=FOUND.trials[:1])).startswith(b"\x89PNG")


def test_nothing_finished():
    found = replace(FOUND, trials=FOUND.trials[3:])
    assert draw(found) is None
    assert table(found).rows == []
