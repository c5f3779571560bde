"""What is held out of the training examples."""

import pytest
import torch

from bench.small import digits
from quadric.bench.search.folds import Judging, held_out, size, without_test


def rows(batches):
    """The examples as a set of the bits of each."""
    return {row.numpy().tobytes() for x, _ in batches for row in x.flatten(1)}


def test_folds_share_out_the_training_examples():
    problem, draw = digits()
    judging = Judging(folds=5)
    instances = [held_out(draw, problem, judging, fold)(7) for fold in range(5)]
    held = [sum(len(x) for x, _ in each.test) for each in instances]
    assert sum(held) == size(draw(7)) == 1437
    assert max(held) - min(held) <= 1
    everything = rows(draw(7).train)
    assert set().union(*(rows(each.test) for each in instances)) == everything
    for each in instances:
        assert rows(each.epoch(0)) | rows(each.test) == everything
        assert sum(len(x) for x, _ in each.epoch(0)) + sum(len(x) for x, _ in each.test) == 1437
        assert len(list(each.epoch(3))) == each.steps_per_epoch


def test_the_test_examples_are_never_there():
    problem, draw = digits()
    secret = rows(draw(0).test) - rows(draw(0).train)
    for judging in (Judging(folds=3), Judging(holdout=0.2), Judging()):
        instance = held_out(draw, problem, judging, 0)(0)
        assert not secret & (rows(instance.epoch(0)) | rows(instance.test) | rows(instance.train))


def test_a_share_is_held_out_once():
    problem, draw = digits()
    instance = held_out(draw, problem, Judging(holdout=0.2), 0)(0)
    assert sum(len(x) for x, _ in instance.test) == round(0.2 * 1437)
    assert instance.train == ()


def test_same_seed_same_batches_and_weights():
    problem, draw = digits()
    one, two = (held_out(draw, problem, Judging(folds=3), 1)(5) for _ in range(2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one.epoch(2), two.epoch(2), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))


def test_runs_have_seeds_of_their_own():
    assert Judging(folds=2, seeds=2).runs == [(1001, 0), (1001, 1), (1002, 0), (1002, 1)]
    assert Judging(holdout=0.1).runs == Judging().runs == [(1001, 0)]


def test_in_words():
    assert str(Judging(folds=5, seeds=2)) == "5-fold cross-validation, 2 seeds"
    assert str(Judging(holdout=0.2)) == "20% of the training examples, held out"
    assert str(Judging()) == "train loss"


@pytest.mark.parametrize(
    ("judging", "examples", "reason"),
    [
        (Judging(folds=9), 8, r"There are 9 folds and 8 training example\(s\): use at most 8 folds, or none\."),
        (Judging(folds=2), 1, "use none, and the train loss judges"),
        (Judging(holdout=0.01), 10, "leaves one side empty"),
        (Judging(holdout=0.99), 10, "leaves one side empty"),
    ],
)
def test_too_few_examples(judging, examples, reason):
    with pytest.raises(ValueError, match=reason):
        judging.check(examples)


def test_enough_examples():
    Judging(folds=8).check(8)
    Judging(holdout=0.5).check(2)
    Judging().check(1)


def test_without_test():
    _, draw = digits()
    assert without_test(draw)(0).test == ()
