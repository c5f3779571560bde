"""Every problem: the same start and batches per seed, nothing global touched, a target that says where it is from."""

import pytest
import torch

from quadric import problems

CPU = torch.device("cpu")
FILES = ("mnist", "shakespeare", "cifar10", "imagenet")
WITHOUT_FILES = [name for name in problems.names() if not any(part in name for part in FILES)]


def test_names_are_those_of_the_problems_and_unique():
    assert len(set(problems.names())) == len(problems.names())
    assert all(problems.get(name).name == name for name in problems.names())


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(
        ValueError, match=r"Unknown problem 'digit-mlp'\. Did you mean 'digits-mlp'.*\? Known: .*digits-cnn"
    ):
        problems.get("digit-mlp")


@pytest.mark.parametrize("name", problems.names())
def test_every_problem_says_what_a_reader_has_to_know(name):
    problem = problems.get(name)
    assert problem.summary
    assert problem.target.origin
    assert problem.facts
    assert all(row.startswith("S") for row in problem.rows)
    assert "\n" not in problem.summary


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_a_seed_fixes_weights_and_batches_and_another_seed_gives_others(name):
    draw = problems.get(name).open(None, CPU)
    first, again, other = draw(0), draw(0), draw(1)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True))
    for index in (0, 3):
        pairs = zip(first.epoch(index), again.epoch(index), strict=True)
        assert all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_drawing_leaves_the_global_generator_alone(name):
    before = torch.get_rng_state()
    next(problems.get(name).open(None, CPU)(0).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_an_epoch_has_the_steps_it_promises_and_the_loss_fits_the_model(name):
    instance = problems.get(name).open(None, CPU)(0)
    batches = list(instance.epoch(0))
    assert len(batches) == instance.steps_per_epoch
    loss = instance.loss_fn(instance.model(batches[0][0]), batches[0][1])
    assert loss.shape == ()
    assert torch.isfinite(loss)


def test_digits_epochs_shuffle_all_training_examples_each_time():
    instance = problems.get("digits-mlp").open(None, CPU)(0)
    first, second = (torch.cat([y for _, y in instance.epoch(index)]) for index in (0, 1))
    assert len(first) == 1437
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


def test_the_error_of_a_classifier_counts_wrong_examples():
    instance = problems.get("digits-mlp").open(None, CPU)(0)
    outputs = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    assert instance.error(outputs, torch.tensor([0, 0])).tolist() == [0.0, 1.0]
