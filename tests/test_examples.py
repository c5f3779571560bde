"""Every example runs to its end, from anywhere, without a display; if it needs more than quadric, where that works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
NEEDED = {
    "accelerate_training": "import accelerate",
    "inspect_transformer": "from transformers import BertForSequenceClassification",
    "lightning_training": "import lightning",
}
"""What an example imports that is not installed with quadric."""


def run(where, *arguments):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    return subprocess.run([sys.executable, *arguments], cwd=where, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_it_runs(path, tmp_path):
    done = run(tmp_path, path)
    if done.returncode and path.stem in NEEDED:
        tried = run(tmp_path, "-c", NEEDED[path.stem])
        if tried.returncode:
            pytest.skip(f"not usable here: {NEEDED[path.stem]}: {tried.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
