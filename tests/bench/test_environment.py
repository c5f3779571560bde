"""The code and the machine that a record names."""

import subprocess

import numpy as np
import torch

import quadric
from quadric.bench import environment


def test_versions_threads_and_hardware_are_named():
    facts = environment.describe(torch.device("cpu"))
    assert facts["torch"] == torch.__version__
    assert facts["numpy"] == np.__version__
    assert facts["quadric"] == quadric.__version__
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts["device"] == "cpu"
    assert "cores" in facts["processor"]


def test_outside_a_checkout_of_quadric_there_is_no_revision(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    installed = tmp_path / "site-packages" / "quadric"
    installed.mkdir(parents=True)
    monkeypatch.setattr(quadric, "__file__", str(installed / "__init__.py"))
    assert environment.revision() == ""
    assert "revision" not in environment.describe(torch.device("cpu"))
