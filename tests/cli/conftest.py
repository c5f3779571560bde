"""The command in this process, and made-up images for it."""

import sys

import pytest

from problems.test_cifar10 import batch, folder
from quadric.cli import app
from quadric.problems.data import cifar10


@pytest.fixture
def quadric(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["quadric", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        output = capsys.readouterr()
        return caught.value.code or 0, output.out, " ".join(output.err.replace("│", " ").split())

    return call


@pytest.fixture
def images(monkeypatch, tmp_path):
    """A directory with made-up images in the layout of CIFAR-10, a batch's worth for each of its files."""
    monkeypatch.delenv("QUADRIC_DATA", raising=False)
    (tmp_path / "data").mkdir()
    return folder(tmp_path / "data", **{name: batch(i, count=7)[0] for i, name in enumerate(cifar10.MD5)})
