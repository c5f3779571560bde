"""Data sets: where they are found, what is refused, and what an offline machine is told."""

import gzip
import hashlib
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from problems.local_data import data_directory
from quadric.problems.data import digits, fashion_mnist, files, mnist
from quadric.problems.data.files import Collection, fetch
from quadric.problems.data.idx import parse
from quadric.problems.data.images import load_images


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


CONTENT = {
    "train-images-idx3-ubyte": idx(np.arange(48).reshape(3, 4, 4)),
    "train-labels-idx1-ubyte": idx(np.array([3, 1, 2])),
    "t10k-images-idx3-ubyte": idx(np.arange(16).reshape(1, 4, 4)),
    "t10k-labels-idx1-ubyte": idx(np.array([7])),
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A tiny collection with no mirror, no system package and an empty cache."""
    monkeypatch.delenv("QUADRIC_DATA", raising=False)
    monkeypatch.setattr(files, "SYSTEM", (tmp_path / "system",))
    monkeypatch.setattr(files, "cache", lambda: tmp_path / "cache")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    return Collection("Toy", ("toy", "TOY/raw"), (), hashes, "draw it yourself")


def store(directory, compressed=True):
    directory.mkdir(parents=True)
    for name, content in CONTENT.items():
        path = directory / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return directory


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("folder", [".", "toy", "TOY/raw"])
def test_files_are_found_in_the_named_directory_and_its_folders(toy, tmp_path, folder, compressed):
    store(tmp_path / "named" / folder, compressed)
    assert fetch(toy, tmp_path / "named") == CONTENT


def test_files_are_found_through_the_variable_the_system_and_the_cache(toy, tmp_path, monkeypatch):
    store(tmp_path / "cache" / "toy")
    assert fetch(toy) == CONTENT
    store(tmp_path / "system" / "toy")
    (tmp_path / "cache" / "toy" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert fetch(toy) == CONTENT
    monkeypatch.setenv("QUADRIC_DATA", str(store(tmp_path / "variable")))
    (tmp_path / "system" / "toy" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert fetch(toy) == CONTENT


def test_the_named_directory_comes_before_the_variable(toy, tmp_path, monkeypatch):
    named, variable = store(tmp_path / "named"), store(tmp_path / "variable")
    (variable / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    monkeypatch.setenv("QUADRIC_DATA", str(variable))
    assert fetch(toy, named) == CONTENT


def test_a_changed_file_is_refused_with_its_path_and_both_hashes(toy, tmp_path):
    directory = store(tmp_path / "named")
    path = directory / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(CONTENT["train-labels-idx1-ubyte"] + b"!"))
    with pytest.raises(
        ValueError,
        match=rf"{path}: this is not the published train-labels.* of Toy: .*should be \w{{64}} and is \w{{64}}",
    ):
        fetch(toy, directory)


def test_a_file_that_is_no_gzip_file_is_refused(toy, tmp_path):
    directory = store(tmp_path / "named")
    (directory / "train-labels-idx1-ubyte.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="expected a gzip file"):
        fetch(toy, directory)


def test_missing_files_get_one_line_with_every_place_and_what_to_do(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("QUADRIC_DATA", str(tmp_path))
    (tmp_path / "named").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        fetch(toy, tmp_path / "named")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "Toy",
        str(tmp_path / "named"),
        f"{tmp_path},",
        str(tmp_path / "system"),
        str(tmp_path / "cache"),
        "toy",
    ):
        assert part in message
    assert "draw it yourself, or put train-images-idx3-ubyte[.gz]" in message
    assert message.endswith("name that with --data-dir or QUADRIC_DATA.")


@pytest.mark.parametrize("origin", ["--data-dir", "QUADRIC_DATA"])
def test_a_directory_that_does_not_exist_is_not_passed_over(toy, tmp_path, monkeypatch, origin):
    missing = tmp_path / "nowhere"
    if origin == "QUADRIC_DATA":
        monkeypatch.setenv("QUADRIC_DATA", str(missing))
    with pytest.raises(ValueError, match=rf"'{missing}' \(from {origin}\) does not exist"):
        fetch(toy, missing if origin == "--data-dir" else None)


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that serves `tmp_path / "web"`."""
    (tmp_path / "web").mkdir()

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=tmp_path / "web")) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def with_mirrors(collection, *mirrors):
    return Collection(collection.title, collection.folders, mirrors, collection.sha256, collection.remedy)


def test_missing_files_are_downloaded_checked_and_kept(toy, tmp_path, server):
    store(tmp_path / "web" / "good")
    assert fetch(with_mirrors(toy, f"{server}missing/{{name}}.gz", f"{server}good/{{name}}.gz")) == CONTENT
    assert {path.name for path in (tmp_path / "cache" / "toy").iterdir()} == {f"{name}.gz" for name in CONTENT}
    assert fetch(toy) == CONTENT


def test_a_download_that_fails_its_check_is_not_kept(toy, tmp_path, server):
    bad = store(tmp_path / "web" / "bad") / "train-images-idx3-ubyte.gz"
    bad.write_bytes(gzip.compress(b"changed"))
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded .*bad/train-images.*this is not the published"
    ):
        fetch(with_mirrors(toy, f"{server}bad/{{name}}.gz"))
    assert list((tmp_path / "cache" / "toy").iterdir()) == []


def test_a_machine_without_a_network_is_told_so(toy):
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded \(http://127\.0\.0\.1:9/train.*: no connection\)"
    ):
        fetch(with_mirrors(toy, "http://127.0.0.1:9/{name}.gz"))


def test_images_are_normalised_and_split_as_published(toy, tmp_path):
    split = load_images(toy, mean=0.5, deviation=0.25, data_dir=store(tmp_path / "named"))
    expected = (torch.arange(48, dtype=torch.float64).reshape(3, 4, 4) / 255 - 0.5) / 0.25
    torch.testing.assert_close(split.train_inputs, expected.float())
    assert split.train_targets.tolist() == [3, 1, 2]
    assert split.test_inputs.shape == (1, 4, 4)
    assert split.test_targets.tolist() == [7]


def test_idx_arrays_come_back_as_they_were():
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(parse(idx(array), "images"), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "images: expected an IDX file of unsigned bytes, which begins with 00 00 08, got nothing"),
        (b"\x1f\x8b\x08\x00", "begins with 00 00 08, got 1f 8b 08"),
        (bytes([0, 0, 8, 3, 0]), "the file ends within its IDX header"),
        (idx(np.arange(5))[:-1], "promises 5 bytes of data, got 4"),
    ],
)
def test_files_that_are_not_idx_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse(content, "images")


def test_digits_are_split_once_and_for_all_and_normalised():
    split = digits.load()
    assert split.train_inputs.shape == (1437, 64)
    assert split.test_inputs.shape == (360, 64)
    assert split.test_targets[:8].tolist() == digits.load().test_targets[:8].tolist()
    assert float(split.train_inputs.mean()) == pytest.approx(0, abs=1e-3)
    assert float(split.train_inputs.std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("data", [mnist, fashion_mnist], ids=["mnist", "fashion-mnist"])
def test_the_published_images_have_the_recorded_moments_and_counts(data):
    split = data.load(data_directory())
    assert split.train_inputs.shape == (60_000, 28, 28)
    assert split.test_inputs.shape == (10_000, 28, 28)
    assert float(split.train_inputs.mean()) == pytest.approx(0, abs=1e-3)
    assert float(split.train_inputs.std()) == pytest.approx(1, abs=1e-3)
    assert split.train_targets.unique().tolist() == list(range(10))
