"""Where tests look for data sets that are too large for the repository."""

import os
from pathlib import Path

import pytest


def data_directory():
    """The directory in QUADRIC_DATA, else `shared/data` beside the repository; without either the test is skipped."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    directory = Path(os.environ["QUADRIC_DATA"]) if os.environ.get("QUADRIC_DATA") else beside
    if not directory.is_dir():
        pytest.skip("needs MNIST and Fashion-MNIST: name their directory in QUADRIC_DATA")
    return directory
