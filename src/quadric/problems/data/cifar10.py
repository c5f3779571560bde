"""CIFAR-10: 50,000 training and 10,000 test colour images, 32×32, of ten classes, in its published "python" layout.

Source: A. Krizhevsky (2009), Learning multiple layers of features from tiny images.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from quadric.problems.data.download import cache, download
from quadric.problems.data.files import VARIABLE, places
from quadric.problems.data.split import Split

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
MIRROR = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""The published files, by the hashes published with them."""
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Cifar10:
    """The data set, and whether it is the published one, file by file."""

    split: Split
    published: bool

    @property
    def note(self) -> str:
        """What has to stand beside numbers from these images; nothing where they are the published ones."""
        if self.published:
            return ""
        return "The images are in the layout of CIFAR-10 but are not the published files: a re-encoding, or others."


def load(data_dir: Path | None = None) -> Cifar10:
    """CIFAR-10 with its published split, each colour normalised by the training images' moments.

    Files in the published layout with another content (a re-encoding, say) are taken, and `published` is False.

    Raises:
        FileNotFoundError: it is nowhere and cannot be downloaded; the message says where it was looked for.
        ValueError: a file is not in the published layout, or would run code.
    """
    raw = _files(data_dir)
    published = all(hashlib.md5(raw[name], usedforsecurity=False).hexdigest() == md5 for name, md5 in MD5.items())
    parts = {name: _batch(raw[name], name) for name in MD5}
    training = [parts[name] for name in MD5 if name != "test_batch"]
    pixels, labels = (np.concatenate([part[i] for part in training]) for i in (0, 1))
    test_pixels, test_labels = parts["test_batch"]
    return Cifar10(Split(_inputs(pixels), _targets(labels), _inputs(test_pixels), _targets(test_labels)), published)


def _files(data_dir: Path | None) -> dict[str, bytes]:
    """The six files' content, from a folder or an archive."""
    directories = places(data_dir)
    for root in directories:
        for folder in (root / FOLDER, root, root / "cifar10" / FOLDER):
            if all((folder / name).is_file() for name in MD5):
                return {name: (folder / name).read_bytes() for name in MD5}
        for archive in (root / ARCHIVE, root / "cifar10" / ARCHIVE):
            if archive.is_file():
                return _unpacked(archive)
    kept = cache() / "cifar10" / ARCHIVE
    failure = download(MIRROR, kept, _check_archive)
    if failure is None:
        return _unpacked(kept)
    raise FileNotFoundError(
        f"CIFAR-10: neither {FOLDER}/ nor {ARCHIVE} was found in {', '.join(map(str, directories))}, and it could not "
        f"be downloaded ({failure}). To get it: run this once with a network connection, or put {ARCHIVE} into a "
        f"directory and name that with --data-dir or {VARIABLE}."
    )


def _check_archive(path: Path) -> None:
    if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != ARCHIVE_MD5:
        raise ValueError(f"{path}: this is not the published {ARCHIVE}. Remove it or fetch it again.")


def _unpacked(archive: Path) -> dict[str, bytes]:
    """The files in an archive; nothing is written."""
    try:
        with tarfile.open(archive) as tar:
            members = {name: tar.extractfile(f"{FOLDER}/{name}") for name in MD5}
            return {name: member.read() for name, member in members.items() if member is not None}
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise ValueError(f"{archive}: expected the archive of CIFAR-10, but {error}. Fetch it again.") from error


def _batch(content: bytes, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pixels [N, 3072] and labels [N] of one file."""
    try:
        held = _Plain(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(held[b"data"]), np.asarray(held[b"labels"], np.int64)
    except (pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError, AttributeError) as error:
        raise ValueError(f"{name}: expected a file of CIFAR-10's python version, but {error}.") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
        raise ValueError(f"{name}: expected [N, 3072] bytes, got {pixels.dtype} {list(pixels.shape)}.")
    return pixels, labels


class _Plain(pickle.Unpickler):
    """Reads arrays, numbers, strings and containers of them; a pickle that names anything else is refused."""

    ALLOWED = frozenset(
        {
            *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
            *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The class or function that the pickle names."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _inputs(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    images = torch.from_numpy(pixels.reshape(-1, 3, 32, 32)).float().div_(255)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return images.sub_(mean).div_(deviation)


def _targets(labels: npt.NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(labels)
