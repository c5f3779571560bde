"""Checkpoints: the nestings that are understood, what does not fit, and that nothing in them is executed."""

import os
import pickle

import pytest
import torch
from torch import nn

from quadric.problems.own import checkpoint
from quadric.problems.own.checkpoint import load


class Tied(nn.Module):
    """Two names for one weight, as language models have them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture
def state():
    torch.manual_seed(5)
    return network().state_dict()


def same(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(())}}, "lr": [0.1]}},
        lambda s: {"model": s},
        lambda s: {"trainer": {"model": s, "step": 7}},
        lambda s: {"module." + name: value for name, value in s.items()},
        lambda s: {"state_dict": {"model._orig_mod." + name: value for name, value in s.items()}},
    ],
    ids=["plain", "state_dict", "model", "deeper", "data parallel", "lightning and compiled"],
)
def test_common_nestings_are_understood(wrap, state, tmp_path):
    torch.save(wrap(state), tmp_path / "weights.pt")
    model = network()
    load(model, tmp_path / "weights.pt")
    assert same(model, state)


def test_safetensors_are_read(state, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(state, tmp_path / "weights.safetensors")
    model = network()
    load(model, tmp_path / "weights.safetensors")
    assert same(model, state)
    content = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:60])
    with pytest.raises(ValueError, match=r"cut\.safetensors is not a checkpoint of tensors, or is damaged \("):
        load(model, tmp_path / "cut.safetensors")


def test_safetensors_without_the_package_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"needs the package safetensors: pip install 'quadric\[safetensors\]'"):
        load(network(), tmp_path / "weights.safetensors")


def test_several_sets_of_weights_have_to_be_told_apart(state, tmp_path):
    other = {name: value + 1 for name, value in state.items()}
    torch.save({"model": other, "ema": state}, tmp_path / "two.pt")
    model = network()
    with pytest.raises(ValueError, match=r"holds several sets of weights: model, ema\. Say which with --key\."):
        load(model, tmp_path / "two.pt")
    load(model, tmp_path / "two.pt", "ema")
    assert same(model, state)
    with pytest.raises(ValueError, match=r"has no weights under 'mean'\. There are: model, ema\."):
        load(model, tmp_path / "two.pt", "mean")


def test_a_tied_weight_may_be_there_once(tmp_path):
    torch.save({"first.weight": torch.full((3, 3), 2.0)}, tmp_path / "tied.pt")
    model = Tied()
    load(model, tmp_path / "tied.pt")
    assert torch.equal(model.second.weight, torch.full((3, 3), 2.0))


def test_weights_that_do_not_fit_are_listed_and_none_is_loaded(state, tmp_path):
    del state["0.weight"], state["2.bias"]
    state |= {"head.weight": torch.zeros(2), "2.weight": torch.zeros(2, 7)}
    torch.save(state, tmp_path / "other.pt")
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"other\.pt does not fit Sequential\. Weights missing: 0\.weight, 2\.bias; unexpected: head\.weight; "
        r"of another shape: 2\.weight \(\[2, 7\], the model has \[2, 4\]\)\.",
    ):
        load(model, tmp_path / "other.pt")
    assert same(model, before)


def test_long_lists_are_cut(tmp_path):
    torch.save({f"{i}.weight": torch.zeros(1) for i in range(3, 9)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"unexpected: 3\.weight, 4\.weight, 5\.weight, 6\.weight and 2 more"):
        load(network(), tmp_path / "other.pt")


class Malicious:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "write", [lambda x, path: torch.save(x, path), lambda x, path: path.write_bytes(pickle.dumps(x))]
)
def test_nothing_in_a_checkpoint_is_executed(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write({"model": Malicious()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt is not (loaded|a checkpoint of tensors)"):
        load(network(), tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


def test_a_pickled_model_is_refused_and_the_fix_is_said(tmp_path):
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(
        ValueError,
        match=r"it names torch\.nn\.modules\.container\.Sequential, and unpickling that could run code\. "
        r"Save the weights alone: torch\.save\(model\.state_dict\(\), path\)\.",
    ):
        load(network(), tmp_path / "whole.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list; expected a state_dict, names with their tensors"),
        ({"epoch": 3}, "holds no weights, only epoch"),
        ({}, "holds no weights, only nothing"),
    ],
)
def test_a_checkpoint_without_weights_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "none.pt")
    with pytest.raises(ValueError, match=message):
        load(network(), tmp_path / "none.pt")


def test_a_file_that_is_no_checkpoint_or_cut_is_one_line(state, tmp_path):
    torch.save(state, tmp_path / "whole.pt")
    contents = {"text.pt": b"hello", "empty.pt": b"", "cut.pt": (tmp_path / "whole.pt").read_bytes()[:900]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match=r"is not a checkpoint of tensors, or is damaged \(.+\); nothing in it was executed"
        ):
            load(network(), tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*gone\.pt\."):
        load(network(), tmp_path / "gone.pt")
