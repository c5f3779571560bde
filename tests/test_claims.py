"""docs/claims.md: each statement holds by the figures of examples/claims.py, and these are the page's."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        return runpy.run_path(str(ROOT / "examples" / "claims.py"))


@pytest.fixture(scope="module")
def figures(example):
    return {claim.__name__: claim() for claim in example["CLAIMS"]}


def numbers(text):
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


def test_the_page_has_the_figures_that_the_example_prints(example, figures):
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    printed = [example["printed"](name, found) for name, found in figures.items()]
    assert [NUMBER.sub("#", block) for block in blocks] == [NUMBER.sub("#", text) for text in printed]
    for block, text in zip(blocks, printed, strict=True):
        assert numbers(block) == pytest.approx(numbers(text), rel=0.02)


def test_a_hessian_is_symmetric_and_full_and_only_jumps_break_it(figures):
    asymmetry, zeros, yx, xy = figures["the_hessian_is_symmetric"].values()
    assert asymmetry < 1e-12
    assert zeros == 0
    assert (yx, xy) == pytest.approx((-1, 1))


def test_the_outer_product_of_the_gradient_is_worse_than_the_best_of_rank_one(figures):
    shape, full, outer, *ranks = figures["a_number_is_no_low_rank_hessian"].values()
    assert (shape, full) == ([], [75, 75])
    assert outer > ranks[0] > ranks[1] > ranks[2]


def test_an_outer_product_is_full_and_blocks_are_the_hessians_own(figures):
    outer, blocks, difference = figures["one_outer_product_is_not_block_diagonal"].values()
    assert outer > 0.1
    assert blocks == 0
    assert difference < 1e-12


def test_the_gradient_is_zero_where_the_loss_is_not_and_lower_where_the_loss_is_higher(figures):
    _, loss, gradient, other_loss, other_gradient = figures["a_loss_is_not_its_gradient"].values()
    assert abs(gradient) < 1e-12
    assert loss > 0.1
    assert other_loss > loss
    assert other_gradient < gradient


def test_only_the_true_inverse_knows_the_inputs_and_arrives(figures):
    near, flat, far, same, code, right, best = figures["the_corrected_inverse_has_a_hessian_in_it"].values()
    assert flat == same
    assert near - 0.1 == pytest.approx(100 * (far - 0.1))
    assert abs(code - best) > 1e3
    assert right == pytest.approx(best, abs=1e-12)


def test_curvature_evens_out_the_layers_and_gets_newton_cg_off_the_plateau(figures):
    first, last, first_step, last_step, constant, descent, newton_cg, _ = figures[
        "curvature_rescales_vanishing_gradients"
    ].values()
    assert last / first > 500
    assert 1 / 3 < last_step / first_step < 3
    assert descent == pytest.approx(constant, abs=0.01)
    assert newton_cg < 0.2


def test_nothing_moves_where_the_gradient_is_exactly_zero(figures):
    last, *hidden = figures["no_inverse_brings_back_a_gradient_of_zero"].values()
    assert last > 0.1
    assert hidden == [0, 0, 0]


def test_himmelblau_has_four_minima_with_positive_definite_hessians(figures):
    found = figures["positive_definite_is_local"]
    assert len(found) == 4
    assert all(kind.startswith("minimum") for kind in found.values())


def test_points_with_a_zero_eigenvalue_are_all_degenerate_and_not_all_flat(figures):
    found = figures["a_zero_eigenvalue_is_not_flatness"]
    assert all(kind.startswith("degenerate") for kind in found.values())
    assert len({tuple(numbers(kind.split(";")[1])) for kind in found.values()}) == 4


def test_definite_matrices_are_rarer_than_independent_signs_would_make_them(figures):
    for k, text in list(enumerate(figures["signs_of_eigenvalues_are_not_independent"].values(), 1))[1:]:
        assert numbers(text)[0] < 0.65 * 2.0**-k


def test_forming_the_hessian_takes_a_product_for_each_parameter(figures):
    for name, text in figures["what_the_hessian_costs"].items():
        (n,) = numbers(name)
        assert numbers(text)[:2] == [n, n * n]
