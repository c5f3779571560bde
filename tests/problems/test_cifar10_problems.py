"""The networks on CIFAR-10 and ImageNet-100: their augmentation, their data and their scales, on made-up images."""

import numpy as np
import pytest
import torch
from PIL import Image

from problems.test_cifar10 import folder
from quadric import problems
from quadric.bench.evaluation import metrics
from quadric.objective import Objective
from quadric.optim import create
from quadric.problems import imagenet100
from quadric.problems.augmentation import flipped_and_shifted
from quadric.problems.data import cifar10, image_folder
from quadric.problems.randomness import stream

CPU = torch.device("cpu")
NETWORKS = [name for name in problems.names() if name.startswith("cifar10-")]


@pytest.fixture(autouse=True)
def _only_here(monkeypatch):
    monkeypatch.delenv("QUADRIC_DATA", raising=False)
    for module in (cifar10, image_folder):
        monkeypatch.setattr(module, "places", lambda directory: [directory] if directory else [])


def test_every_image_is_a_flip_and_a_shift_of_the_original_and_all_shifts_occur():
    image = torch.arange(1.0, 1 + 2 * 6 * 5).reshape(1, 2, 6, 5)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))[0]
    views = [padded[:, i : i + 6, j : j + 5] for i in range(5) for j in range(5)]
    views += [view.flip(2) for view in views]
    changed = flipped_and_shifted(image.expand(2_000, -1, -1, -1), stream(0, "augmentation"))
    hits = torch.stack([(changed == view).flatten(1).all(1) for view in views])
    assert (hits.sum(0) == 1).all()
    assert hits.any(1).all()
    assert 0.45 < float(hits[25:].sum()) / 2_000 < 0.55


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_a_curvature_step_and_is_measured(name, tmp_path):
    instance = problems.get(name).open(folder(tmp_path), CPU)(0)
    objective = Objective(instance.model, instance.loss_fn)
    optimizer = create("curveball", objective)
    assert float(optimizer.step(objective.on(next(instance.epoch(0))))) == pytest.approx(2.3, abs=1.0)
    assert instance.train[0][0].shape == (30, 3, 32, 32)
    assert 0 <= metrics(instance, instance.test)[1] <= 1
    assert "not the published files" in instance.note


def test_augmentation_is_the_same_for_a_seed_and_epoch_and_differs_between_them(tmp_path):
    draw = problems.get("cifar10-cnn").open(folder(tmp_path), CPU)
    first = next(draw(0).epoch(0))[0]
    assert torch.equal(first, next(draw(0).epoch(0))[0])
    for other in (draw(0).epoch(1), draw(1).epoch(0)):
        assert not torch.equal(first, next(other)[0])
    assert not any(torch.equal(first, each) for each in draw(0).train[0])


def test_scales():
    problem = problems.get("cifar10-cnn-bn")
    assert (problem.scale, problem.label, problem.at("small")) == (
        "small",
        "cifar10-cnn-bn/small",
        problem.scales["small"],
    )
    full = problem.at("full")
    assert full.epochs == 40
    assert "approximate" in full.target.origin
    with pytest.raises(ValueError, match="cifar10-cnn-bn has the scales small, full, not 'huge'"):
        problem.at("huge")
    assert problems.get("digits-mlp").at("full") is problems.get("digits-mlp")


def image_tree(root, classes=("cat", "dog"), count=2, parts=("train", "val")):
    """Made-up images of several shapes, one grey."""
    for k, part in enumerate(parts):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng([k, label, i]).integers(0, 256, (30 + 10 * i, 40, 3), dtype=np.uint8)
                image = Image.fromarray(pixels)
                (image.convert("L") if i else image).save(root / part / name / f"{i}.png")
    return root


def test_an_image_folder_is_read_cropped_and_measured(tmp_path):
    draw = problems.get("imagenet100-vgg-f").open(image_tree(tmp_path), CPU)
    instance = draw(0)
    assert instance.note == "The image folder has 2 classes, not 100."
    (x, y), (again, _) = next(instance.epoch(0)), next(draw(0).epoch(0))
    assert x.shape == (4, 3, 224, 224)
    assert sorted(y.tolist()) == [0, 0, 1, 1]
    assert torch.equal(x, again)
    assert not torch.equal(x, next(instance.epoch(1))[0])
    assert instance.steps_per_epoch == 1
    assert len(instance.test) == 1
    assert torch.equal(instance.test[0][1], torch.tensor([0, 0, 1, 1]))
    with torch.no_grad():
        assert instance.model(x).shape == (4, 2)


def test_fewer_images_are_evenly_spaced(tmp_path):
    found = image_folder.find("X", ("deep",), image_tree(tmp_path / "deep", count=4).parent)
    assert found.train.chosen(2).labels.tolist() == [0, 1]
    assert found.train.chosen(None).labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_an_image_folder_that_is_not_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"ImageNet-100: no folder with train/ and val/ was found in .*--data-dir"
    ):
        imagenet100.PROBLEM.open(tmp_path, CPU)


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folder, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"read with Pillow; install it with: pip install 'quadric\[images\]'"):
        imagenet100.PROBLEM.open(tmp_path, CPU)


def test_classes_and_files_that_are_not_as_they_should_be(tmp_path):
    root = image_tree(tmp_path)
    (root / "train" / "emu").mkdir()
    with pytest.raises(ValueError, match="same classes in train/ and val/, one folder each, got emu in only one"):
        imagenet100.PROBLEM.open(root, CPU)
    (root / "val" / "emu").mkdir()
    with pytest.raises(ValueError, match=r"emu: expected images \(.*\), got none"):
        imagenet100.PROBLEM.open(root, CPU)
    for part in ("train", "val"):
        (root / part / "emu" / "x.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"x\.jpg: expected an image, but"):
        list(imagenet100.PROBLEM.open(root, CPU)(0).epoch(0))
