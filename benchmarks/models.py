"""The networks of the side-by-side benchmarks, on random data.

Every problem is made anew by its function, from a fixed seed, so that each contender owns its copy: BatchNorm's
running statistics, which one contender's forward pass moves, then never touch another's.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class Workaround:
    """A change that leaves the mathematics as it is and that some library needs before it runs at all."""

    name: str
    apply: Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Problem:
    """A model, a mean-reduced loss and one batch."""

    name: str
    title: str
    model: nn.Module
    loss_fn: nn.Module
    batch: tuple[Tensor, Tensor]
    workaround: Workaround | None = None

    def loss(self) -> Tensor:
        """The loss on the batch."""
        inputs, targets = self.batch
        value: Tensor = self.loss_fn(self.model(inputs), targets)
        return value

    def parameters(self) -> list[nn.Parameter]:
        """The parameters, in the model's order."""
        return list(self.model.parameters())

    def copy(self) -> Problem:
        """The same problem around its own copy of the model."""
        return Problem(self.name, self.title, deepcopy(self.model), self.loss_fn, self.batch, self.workaround)

    def worked_around(self) -> Problem:
        """A copy whose model has its workaround applied."""
        if self.workaround is None:
            raise ValueError(f"{self.name} has no workaround")
        model = self.workaround.apply(deepcopy(self.model))
        return Problem(self.name, self.title, model, self.loss_fn, self.batch)


def mlp() -> nn.Module:
    """784-256-128-10, tanh."""
    return nn.Sequential(
        nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 10)
    )  # fmt: skip


def cnn() -> nn.Module:
    """Two 5×5 convolutions (16 and 32 channels) with max-pooling and two dense layers, ReLU, on 28×28×1."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=not batch_norm)
        self.norm1 = norm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=not batch_norm)
        self.norm2 = norm(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=not batch_norm), norm(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet18(batch_norm: bool, width: int = 16) -> nn.Module:
    """ResNet-18 for 32×32×3: a 3×3 stem, four stages of two blocks with width·(1, 2, 4, 8) channels, mean pooling."""
    norm = nn.BatchNorm2d if batch_norm else nn.Identity
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=not batch_norm), norm(width), nn.ReLU()]
    channels = width
    for stage in range(4):
        out = width * 2**stage
        layers += [
            ResidualBlock(channels, out, 1 if stage == 0 else 2, batch_norm),
            ResidualBlock(out, out, 1, batch_norm),
        ]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention (not causal) and a GELU network four times as wide, both residual."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Token and position embeddings, blocks, and a linear read-out; the logits are [batch, vocabulary, length]."""

    def __init__(self, fused: bool, vocabulary: int = 64, width: int = 128, length: int = 128) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*[TransformerBlock(width, heads=4, fused=fused) for _ in range(4)])
        self.norm = nn.LayerNorm(width)
        self.read_out = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.tokens(tokens) + self.positions)
        logits: Tensor = self.read_out(self.norm(x))
        return logits.transpose(1, 2)


class UnderMathAttention(nn.Module):
    """A module whose scaled_dot_product_attention runs on PyTorch's differentiable "math" backend."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            outputs: Tensor = self.module(inputs)
        return outputs


BATCH_STATISTICS_ONLY = Workaround("without running statistics", torch.func.replace_all_batch_norm_modules_)
MATH_ATTENTION = Workaround("on the math attention backend", UnderMathAttention)


def _classification(
    name: str, title: str, make: Callable[[], nn.Module], shape: tuple[int, ...], workaround: Workaround | None = None
) -> Callable[[int], Problem]:
    def problem(batch_size: int) -> Problem:
        torch.manual_seed(0)
        model = make()
        batch = (torch.randn(batch_size, *shape), torch.randint(10, (batch_size,)))
        return Problem(name, f"{title}, batch {batch_size}", model, nn.CrossEntropyLoss(), batch, workaround)

    return problem


def _tokens(name: str, title: str, fused: bool) -> Callable[[int], Problem]:
    def problem(batch_size: int) -> Problem:
        torch.manual_seed(0)
        model = Transformer(fused)
        batch = (torch.randint(64, (batch_size, 128)), torch.randint(64, (batch_size, 128)))
        workaround = MATH_ATTENTION if fused else None
        return Problem(name, f"{title}, batch {batch_size}", model, nn.CrossEntropyLoss(), batch, workaround)

    return problem


_MLP = "MLP 784-256-128-10, tanh"
_RESNET = "ResNet-18 of width 16, 32×32×3"
_TRANSFORMER = "transformer, 4 layers, d = 128, sequence 128, vocabulary 64"


@dataclass(frozen=True)
class Entry:
    """A problem by name: how to make it, its batch size for times, and for memory.

    Peak memory is compared where activations outweigh parameters, since that is where it decides what fits.
    """

    make: Callable[[int], Problem]
    batch_size: int
    memory_batch_size: int


PROBLEMS: dict[str, Entry] = {
    "M1": Entry(_classification("M1", _MLP, mlp, (784,)), 128, 8192),
    "M1b1000": Entry(_classification("M1b1000", _MLP, mlp, (784,)), 1000, 1000),
    "M2": Entry(_classification("M2", "CNN, 2 conv + 2 dense, 28×28×1", cnn, (1, 28, 28)), 128, 256),
    "M3": Entry(_classification("M3", f"{_RESNET}, no batch norm", lambda: resnet18(False), (3, 32, 32)), 128, 64),
    "M3bn": Entry(
        _classification(
            "M3bn", f"{_RESNET}, batch norm in train mode", lambda: resnet18(True), (3, 32, 32), BATCH_STATISTICS_ONLY
        ),
        128,
        64,
    ),
    "M4": Entry(_tokens("M4", f"{_TRANSFORMER}, attention written out", fused=False), 16, 16),
    "M4sdpa": Entry(_tokens("M4sdpa", f"{_TRANSFORMER}, scaled_dot_product_attention", fused=True), 16, 16),
}


def names(text: str, among: list[str]) -> list[str]:
    """The problems named in a comma-separated list; ValueError names an unknown one."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in among]
    if unknown or not chosen:
        raise ValueError(f"expected models among {', '.join(among)}, got {', '.join(unknown) or 'none'}")
    return chosen
