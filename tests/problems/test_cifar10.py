"""CIFAR-10's files: read from a folder or an archive, told from other images, and never executed."""

from __future__ import annotations

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch

from quadric.problems.data import cifar10


@pytest.fixture(autouse=True)
def _only_here(monkeypatch, tmp_path):
    monkeypatch.delenv("QUADRIC_DATA", raising=False)
    monkeypatch.setattr(cifar10, "places", lambda directory: [directory] if directory else [tmp_path / "nowhere"])
    monkeypatch.setattr(cifar10, "cache", lambda: tmp_path / "cache")


def batch(seed, count=6, protocol=2):
    """A file's content: made-up images, with their labels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    held = {b"batch_label": b"made up", b"labels": [(seed + i) % 10 for i in range(count)], b"data": pixels}
    return pickle.dumps(held, protocol=protocol), pixels


def folder(root, **contents):
    directory = root / cifar10.FOLDER
    directory.mkdir()
    for i, name in enumerate(cifar10.MD5):
        (directory / name).write_bytes(contents.get(name, batch(i)[0]))
    return root


def test_images_and_labels_in_their_order(tmp_path):
    found = cifar10.load(folder(tmp_path))
    split = found.split
    assert split.train_inputs.shape == (30, 3, 32, 32)
    assert split.test_inputs.shape == (6, 3, 32, 32)
    assert split.train_targets.tolist() == [(k + i) % 10 for k in range(5) for i in range(6)]
    green = batch(1)[1][2].reshape(3, 32, 32)[1, 4, 5]  # the second file's third image
    want = (green / 255 - cifar10.MEAN[1]) / cifar10.DEVIATION[1]
    assert float(split.train_inputs[8, 1, 4, 5]) == pytest.approx(want, abs=1e-6)
    assert not found.published
    assert "not the published files" in found.note


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_any_pickle_protocol(tmp_path, protocol):
    contents = {name: batch(i, protocol=protocol)[0] for i, name in enumerate(cifar10.MD5)}
    assert cifar10.load(folder(tmp_path, **contents)).split.test_targets.dtype == torch.int64


def test_an_archive(tmp_path):
    with tarfile.open(tmp_path / cifar10.ARCHIVE, "w:gz") as tar:
        for i, name in enumerate(cifar10.MD5):
            member = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            content = batch(i)[0]
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert len(cifar10.load(tmp_path).split.train_inputs) == 30


def test_no_archive(tmp_path):
    (tmp_path / cifar10.ARCHIVE).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected the archive of CIFAR-10"):
        cifar10.load(tmp_path)


def test_a_pickle_that_would_run_code(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'harm'}",)

    with pytest.raises(ValueError, match=r"test_batch: .*system, which could run code"):
        cifar10.load(folder(tmp_path, test_batch=pickle.dumps(Harm())))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({b"labels": [1]}, "expected a file of CIFAR-10's python version"),
        ({b"labels": [1], b"data": np.zeros((1, 5), np.uint8)}, r"expected \[N, 3072\] bytes, got uint8 \[1, 5\]"),
        ({b"labels": [1], b"data": np.zeros((1, 3072))}, r"got float64 \[1, 3072\]"),
    ],
)
def test_another_layout(tmp_path, held, message):
    with pytest.raises(ValueError, match=message):
        cifar10.load(folder(tmp_path, data_batch_2=pickle.dumps(held)))


def test_nowhere(monkeypatch):
    monkeypatch.setattr(cifar10, "download", lambda url, path, check: f"{url}: no connection")
    with pytest.raises(
        FileNotFoundError, match=r"neither cifar-10-batches-py/ nor cifar-10-python\.tar\.gz was found in"
    ):
        cifar10.load()
