"""Every example runs to its end, from anywhere, without a display."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


NEEDED = {"inspect_transformer": ("transformers", "BertForSequenceClassification")}
"""What an example imports that is not installed with quadric."""


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_it_runs(path, tmp_path):
    if path.stem in NEEDED:
        module, name = NEEDED[path.stem]
        try:
            getattr(importlib.import_module(module), name)
        except ImportError:
            pytest.skip(f"{module} is not installed, or not usable here")
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
