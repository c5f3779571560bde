"""VGG-f with batch norm on ImageNet-100, from an image folder that the user has.

Reference: Henriques et al. (2019), section 4.2. ImageNet-100 stands for a hundred of ImageNet's classes; which ones the
paper took is not known here, so those in the folder are taken, whatever they are. The full scale's epochs are those of
the authors' program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.classification import wrong
from quadric.problems.data.image_folder import Listing, find, read
from quadric.problems.problem import Batch, Draw, Instance, Problem, Target, scaled
from quadric.problems.randomness import initialised, stream
from quadric.problems.vgg_f import vgg_f

TITLE, FOLDERS = "ImageNet-100", ("imagenet100", "imagenet-100", "ImageNet100")
CLASSES, SIDE = 100, 224
EVALUATION_BATCH = 250
FACTS = {
    "data": "a folder with train/ and val/, one folder for each class",
    "images": "shorter side 256; measured: the middle 224×224",
    "augmentation": "224×224 at a random place, flipped at random, drawn anew for each epoch from the seed",
    "normalisation": "ImageNet's usual means and deviations, colour by colour",
    "seconds": "of training include reading and decoding the images",
    "loss": "cross-entropy",
    "train loss and error": "on evenly spaced training images, in evaluation mode",
    "test error": "on evenly spaced images of val/, in evaluation mode",
    "weight decay": "none",
}


class Middles(Sequence[Batch]):
    """Batches of the images' middles, read whenever they are asked for."""

    def __init__(self, files: Listing, device: torch.device) -> None:
        self.rows = torch.split(torch.arange(len(files.paths)), EVALUATION_BATCH)
        self.files, self.device = files, device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # no slices
        rows = self.rows[index]
        images = torch.stack([read(self.files.paths[i], SIDE) for i in rows.tolist()])
        return images.to(self.device), self.files.labels[rows].to(self.device)


def crops(files: Listing, batch_size: int, seed: int, device: torch.device) -> Callable[[int], Iterator[Batch]]:
    """Epochs of random crops, flipped at random; those of epoch i depend on `seed` and i alone."""

    def epoch(index: int) -> Iterator[Batch]:
        order = torch.randperm(len(files.paths), generator=stream(seed, "order", index))
        changes = stream(seed, "augmentation", index)
        for rows in torch.split(order, batch_size):
            images = [crop(files.paths[i], changes) for i in rows.tolist()]
            yield torch.stack(images).to(device), files.labels[rows].to(device)

    return epoch


def crop(path: Path, generator: torch.Generator) -> Tensor:
    """An image's part at a random place, mirrored with probability ½."""
    top, left, mirror = torch.rand(3, generator=generator).tolist()
    image = read(path, SIDE, (top, left))
    return image.flip(2) if mirror < 0.5 else image


def opened(
    train: int | None, measured: int, test: int | None, batch_size: int, data_dir: Path | None, device: torch.device
) -> Draw:
    """The problem on so many training images, measured on so many of them and of the test images; all, if `None`."""
    folder = find(TITLE, FOLDERS, data_dir)
    training = folder.train.chosen(train)
    looks = Middles(training.chosen(measured), device), Middles(folder.test.chosen(test), device)
    classes = len(folder.classes)
    note = "" if classes == CLASSES else f"The image folder has {classes} classes, not {CLASSES}."
    steps = -(-len(training.paths) // batch_size)

    def draw(seed: int) -> Instance:
        model = initialised(partial(vgg_f, classes), seed).to(device)
        epoch = crops(training, batch_size, seed, device)
        return Instance(model, nn.CrossEntropyLoss(), epoch, steps, *looks, wrong, note)

    return draw


def sized(
    train: int | None, measured: int, test: int | None, batch_size: int, epochs: int, target: Target, size: str
) -> Problem:
    """The problem at one scale."""
    return Problem(
        name="imagenet100-vgg-f",
        summary="ImageNet-100, VGG-f with batch norm, from your own image folder",
        rows=("S2.6", "S2.7", "S4.5"),
        target=target,
        batch_size=batch_size,
        epochs=epochs,
        evaluate_every=-(-(train or 126_689) // batch_size),
        open=partial(opened, train, measured, test, batch_size),
        facts=FACTS,
        size=size,
        unsearched="that takes too long on two cores",
    )


PUBLISHED = "the CurveBall paper's Table 2, SGD with momentum's train error, as recalled, so approximate"
PROBLEM = scaled(
    {
        "small": sized(
            *(320, 320, 200, 32, 2),
            Target("train_loss", 4.0, "a round number below ln 100, the loss of a guess; nothing was searched"),
            "320 images, batches of 32, 2 epochs",
        ),
        "full": sized(*(None, 10_000, None, 256, 20), Target("train_error", 0.192, PUBLISHED), "all images, 20 epochs"),
    }
)
