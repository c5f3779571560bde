"""The methods of Table 2 and Figures 2 and 3 of the CurveBall paper, and what it published of each network.

Reference: Henriques, Ehrhardt, Albanie, Vedaldi (2019), "Small steps and giant leaps", section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NETWORKS = {
    "cifar10-cnn": "Basic",
    "cifar10-cnn-bn": "Basic + BN",
    "cifar10-resnet18": "ResNet-18",
    "cifar10-resnet18-dropout": "ResNet-18, dropout",
    "imagenet100-vgg-f": "VGG-f",
}
"""The problems, and what the paper calls them."""
DEFAULT = ("cifar10-cnn", "cifar10-cnn-bn", "cifar10-resnet18", "cifar10-resnet18-dropout")
"""The networks on data that can be downloaded."""
NO_BATCH_NORM = ("cifar10-cnn",)
Published = Mapping[str, tuple[float | None, float]]
"""Best train and validation error of each network in per cent, as recalled, so approximate; `None` is not known."""


@dataclass(frozen=True)
class Method:
    """A row of the table. Where it has several `settings`, all are run, and the one with the lowest train error shown.

    `{damping}` in them is the λ that the authors' program begins with: 1, or 10 without batch norm.
    """

    title: str
    settings: tuple[str, ...]
    published: Published = field(default_factory=dict)

    def names(self, network: str) -> list[str]:
        """The settings on one network, as `quadric compare` takes them."""
        return [each.format(damping=10 if network in NO_BATCH_NORM else 1) for each in self.settings]


def published(*errors: tuple[float, float]) -> dict[str, tuple[float | None, float]]:
    """The paper's figures for the networks that its table has columns for."""
    return dict(zip([name for name in NETWORKS if "dropout" not in name], errors, strict=True))


METHODS = (
    Method(
        "CurveBall λ",
        ("curveball:damping={damping}",),
        {**published((14.1, 19.9), (7.6, 16.3), (0.7, 15.3), (10.3, 33.5)), "cifar10-resnet18-dropout": (None, 13.5)},
    ),
    Method(
        "CurveBall, fixed λ",
        ("curveball:damping={damping}:adapt_damping=false",),
        published((15.3, 19.3), (9.4, 15.8), (1.3, 16.1), (12.7, 33.8)),
    ),
    Method(
        "SGD + momentum",
        ("momentum:lr=0.1", "momentum:lr=0.01", "momentum:lr=0.001"),
        published((18.9, 21.1), (10.0, 16.1), (2.1, 12.8), (19.2, 39.8)),
    ),
    Method(
        "Adam",
        ("adam:lr=0.01", "adam:lr=0.001", "adam:lr=0.0001"),
        published((15.7, 19.7), (9.6, 16.1), (1.4, 14.0), (13.2, 35.9)),
    ),
    Method("CurveBall, default", ("curveball",)),
)


def names(network: str) -> list[str]:
    """Everything that is run on one network."""
    return [name for method in METHODS for name in method.names(network)]
