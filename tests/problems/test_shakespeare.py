"""Shakespeare's text in windows, and the transformer that predicts it: causal, and its loss at the start."""

import hashlib
import math

import pytest
import torch

import quadric
from problems.local_data import data_directory
from quadric import problems
from quadric.bench.evaluation import metrics
from quadric.problems.data import files, shakespeare
from quadric.problems.shakespeare_transformer import LENGTH, Transformer, wrong

CPU = torch.device("cpu")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Another, short text in the place of Shakespeare's; the directory it lies in."""
    text = b"".join(bytes([65 + (7 * i) % 26]) for i in range(400))
    (tmp_path / "tinyshakespeare.txt").write_bytes(text)
    monkeypatch.setitem(shakespeare.COLLECTION.sha256, "tinyshakespeare.txt", hashlib.sha256(text).hexdigest())
    return tmp_path


def test_windows_follow_each_other_and_targets_are_one_character_on(toy):
    split = shakespeare.load(8, toy)
    assert split.train_inputs.shape == split.train_targets.shape == (359 // 8, 8)
    assert split.test_inputs.shape == (39 // 8, 8)
    text = split.train_inputs.reshape(-1)
    assert text[:4].tolist() == [0, 7, 14, 21]
    assert torch.equal(split.train_targets.reshape(-1)[:-1], text[1:])
    assert int(split.test_inputs[0, 0]) == 7 * 360 % 26


def test_a_missing_text_is_said_to_be_missing_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.delenv("QUADRIC_DATA", raising=False)
    monkeypatch.setattr(files, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(files, "download", lambda url, path, check: f"{url}: no connection")
    with pytest.raises(FileNotFoundError) as caught:
        shakespeare.load(8, tmp_path)
    message = str(caught.value)
    assert message.startswith("Tiny Shakespeare: tinyshakespeare.txt[.gz] was not found in ")
    assert "char-rnn/master/data/tinyshakespeare/input.txt: no connection" in message
    assert "put tinyshakespeare.txt[.gz] into a directory and name that with --data-dir or QUADRIC_DATA" in message


def test_another_text_is_refused(tmp_path):
    (tmp_path / "tinyshakespeare.txt").write_bytes(b"Sing, O goddess")
    with pytest.raises(ValueError, match=r"this is not the published tinyshakespeare.txt of Tiny Shakespeare"):
        shakespeare.load(8, tmp_path)


def test_a_prediction_depends_on_what_came_before_alone():
    torch.manual_seed(0)
    model = Transformer().double()
    text = torch.randint(shakespeare.VOCABULARY, (2, LENGTH))
    changed = text.clone()
    changed[:, 40:] = (changed[:, 40:] + 1) % shakespeare.VOCABULARY
    with torch.no_grad():
        before, after = model(text), model(changed)
    assert before.shape == (2, shakespeare.VOCABULARY, LENGTH)
    torch.testing.assert_close(after[:, :, :40], before[:, :, :40], rtol=1e-12, atol=1e-12)
    assert (after[:, :, 40] - before[:, :, 40]).abs().max() > 1e-3


def test_the_error_is_the_share_of_wrong_characters_of_each_window():
    outputs = torch.zeros(2, 3, 4)
    outputs[:, 1] = 1.0
    assert wrong(outputs, torch.tensor([[1, 1, 1, 0], [0, 2, 0, 2]])).tolist() == [0.25, 1.0]


@pytest.mark.parametrize("method", ["adam", "curveball", "kfac"])
def test_a_few_steps_lower_the_loss(method):
    instance = problems.get("shakespeare-transformer").open(data_directory(), CPU)(0)
    assert instance.steps_per_epoch == math.ceil(15_685 / 32)
    objective = quadric.Objective(instance.model, instance.loss_fn)
    optimizer = quadric.optim.create(method, objective)
    start, error, _, _ = *metrics(instance, instance.train[:1]), None, None
    assert start == pytest.approx(math.log(65), abs=0.3)
    assert error > 0.9
    for _, batch in zip(range(5), instance.epoch(0), strict=False):
        optimizer.step(objective.on(batch))
    assert metrics(instance, instance.train[:1])[0] < start - 0.05
