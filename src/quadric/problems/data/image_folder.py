"""Images in folders, one for each class, below train/ and val/, as ImageNet and its subsets are kept.

Files are listed once and read, with Pillow, whenever they are needed: such sets do not fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quadric.problems.data.files import VARIABLE, places

PARTS = ("train", "val")
ENDINGS = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp"})
SHORT_SIDE = 256
"""Images are shrunk or enlarged to this length of their shorter side."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Listing:
    """The files of one part and their classes, int64 and numbered in the order of the classes' names."""

    paths: list[Path]
    labels: Tensor

    def chosen(self, count: int | None) -> Listing:
        """So many evenly spaced files; all, if `None` or if there are fewer."""
        count = min(count or len(self.paths), len(self.paths))
        rows = [i * len(self.paths) // count for i in range(count)]
        return Listing([self.paths[i] for i in rows], self.labels[rows])


@dataclass(frozen=True)
class ImageFolder:
    """The classes' names, and the files for training and testing."""

    classes: list[str]
    train: Listing
    test: Listing


def find(title: str, folders: tuple[str, ...], data_dir: Path | None) -> ImageFolder:
    """The image folder in `data_dir`, or in one of `folders` there or in the other places that data is looked for.

    Raises:
        RuntimeError: Pillow is missing.
        FileNotFoundError: there is no such folder.
        ValueError: a class is missing from one of the parts, or has no images.
    """
    if find_spec("PIL") is None:
        raise RuntimeError(f"{title} is read with Pillow; install it with: pip install 'quadric[images]'")
    directories = places(data_dir)
    for root in (place / folder for place in directories for folder in ("", *folders)):
        if all((root / part).is_dir() for part in PARTS):
            return listed(root)
    raise FileNotFoundError(
        f"{title}: no folder with train/ and val/ was found in {', '.join(map(str, directories))} (nor in their "
        f"folders {', '.join(folders)}). It cannot be downloaded: put its images into train/CLASS/ and val/CLASS/ of a "
        f"directory and name that with --data-dir or {VARIABLE}."
    )


def listed(root: Path) -> ImageFolder:
    """The files below `root`, in the order of their names."""
    classes = [sorted(each.name for each in (root / part).iterdir() if each.is_dir()) for part in PARTS]
    if classes[0] != classes[1] or not classes[0]:
        alone = sorted(set(classes[0]) ^ set(classes[1]))
        raise ValueError(
            f"{root}: expected the same classes in train/ and val/, one folder each, "
            f"got {f'{alone[0]} in only one of them' if alone else 'none'}."
        )
    return ImageFolder(classes[0], *(listing(root / part, classes[0]) for part in PARTS))


def listing(part: Path, classes: list[str]) -> Listing:
    """The files of one part."""
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        own = sorted(path for path in (part / name).iterdir() if path.suffix.lower() in ENDINGS)
        if not own:
            raise ValueError(f"{part / name}: expected images ({', '.join(sorted(ENDINGS))}), got none.")
        files += [(path, label) for path in own]
    return Listing([path for path, _ in files], torch.tensor([label for _, label in files]))


def read(path: Path, side: int, corner: tuple[float, float] = (0.5, 0.5)) -> Tensor:
    """A crop of side² pixels, normalised, shape [3, side, side], at `corner`: (0, 0) is top left, (1, 1) bottom right.

    Raises:
        ValueError: the file is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path}: expected an image, but {error}. Fetch it again or remove it.") from error
    scale = SHORT_SIDE / min(image.size)
    width, height = (max(SHORT_SIDE, round(scale * length)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    top, left = int(corner[0] * (height - side)), int(corner[1] * (width - side))
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return torch.from_numpy(pixels).permute(2, 0, 1).div(255).sub_(mean).div_(deviation)
