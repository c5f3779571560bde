"""A classification problem made from a few images: the subset it is evaluated on, shapes, ragged last batch."""

from dataclasses import replace

import torch

from quadric import problems
from quadric.problems.classification import classification
from quadric.problems.data.split import Split
from quadric.problems.networks import cnn, mlp

EXAMPLES = 23


def small(**changes):
    numbers = torch.arange(EXAMPLES)
    images = numbers[:, None, None].expand(EXAMPLES, 2, 2).float()
    split = Split(images, numbers % 3, images[:5], numbers[:5] % 3)
    settings = {
        "name": "small",
        "summary": "small",
        "rows": ("S2.6",),
        "load": lambda data_dir: split,
        "network": lambda: mlp(4, 3),
        "shape": (4,),
        "batch_size": 10,
        "epochs": 1,
        "evaluate_every": 1,
        "target": problems.Target("train_error", 0.1, "a test"),
        "facts": {"data": "numbers"},
    }
    return classification(**{**settings, **changes})


def test_the_last_batch_is_ragged_and_nothing_is_left_out():
    instance = small().open(None, torch.device("cpu"))(0)
    batches = list(instance.epoch(0))
    assert [len(x) for x, _ in batches] == [10, 10, 3]
    assert instance.steps_per_epoch == 3
    assert sorted(torch.cat([x[:, 0] for x, _ in batches]).tolist()) == list(range(EXAMPLES))


def test_a_subset_for_evaluation_is_evenly_spaced_and_named():
    problem = small(train_examples=7)
    instance = problem.open(None, torch.device("cpu"))(0)
    assert torch.cat([x[:, 0] for x, _ in instance.train]).tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert "7 evenly spaced training examples" in problem.facts["train loss and error"]
    assert sum(len(x) for x, _ in instance.test) == 5


def test_inputs_have_the_shape_that_the_network_takes():
    instance = small(shape=(1, 2, 2)).open(None, torch.device("cpu"))(0)
    assert next(instance.epoch(0))[0].shape == (10, 1, 2, 2)


def test_targets_read_as_a_sentence():
    assert str(small().target) == "train error ≤ 0.1"
    assert str(replace(small().target, metric="step_loss", threshold=1e-4)) == "step loss ≤ 0.0001"


def test_the_networks_have_the_layers_of_their_names():
    assert [p.shape for p in mlp(784, 128, 64, 32, 10).parameters() if p.ndim == 2] == [
        (128, 784),
        (64, 128),
        (32, 64),
        (10, 32),
    ]
    assert cnn(28, (4, 8), 16)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
