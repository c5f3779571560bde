"""A small causal transformer that predicts the next character of Shakespeare.

Two pre-normalised blocks of four heads and a GELU network, width 64, windows of 64 characters, 112,577 parameters.
Embedding and output layer have weights of their own: with 65 characters, tying them would save 4 %. References: Vaswani
et al. (2017), Attention is all you need; Radford et al. (2019) for the order of a block.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadric.problems.data import shakespeare
from quadric.problems.data.split import Split
from quadric.problems.examples import measured_on, on_examples
from quadric.problems.problem import Problem, Target

LENGTH, WIDTH, HEADS, BLOCKS = 64, 64, 4, 2
BATCH = 32
MEASURED = 250


class Attention(nn.Module):
    """Causal self-attention of four heads; x and the result are [batch, length, width]."""

    def __init__(self) -> None:
        super().__init__()
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """softmax(QKᵀ/√d, over what came before) V, heads side by side."""
        heads = self.queries_keys_values(x).unflatten(-1, (3, HEADS, -1))  # [batch, length, 3, heads, d]
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + network(norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(WIDTH), Attention())
        self.network = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """As above; [batch, length, width]."""
        x = x + self.attention(x)
        out: Tensor = x + self.network(x)
        return out


class Transformer(nn.Module):
    """Logits of the next character at every position: [batch, length] int64 to [batch, characters, length]."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(shakespeare.VOCABULARY, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, shakespeare.VOCABULARY))
        nn.init.normal_(self.characters.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """Classes come second, where `torch.nn.CrossEntropyLoss` looks for them."""
        hidden = self.blocks(self.characters(text) + self.positions)
        out: Tensor = self.head(hidden).transpose(1, 2)
        return out


def load(data_dir: Path | None) -> Split:
    """All training windows, and evenly spaced test windows."""
    split = shakespeare.load(LENGTH, data_dir)
    stride = len(split.test_inputs) // MEASURED
    chosen = slice(0, stride * MEASURED, stride)
    return replace(split, test_inputs=split.test_inputs[chosen], test_targets=split.test_targets[chosen])


def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    """For each window the share of characters that the largest output misses."""
    return (outputs.argmax(dim=1) != targets).to(torch.float64).mean(dim=1)


PROBLEM = Problem(
    name="shakespeare-transformer",
    summary=f"Shakespeare by characters, causal transformer, {BLOCKS} blocks of width {WIDTH}",
    rows=(),
    target=Target(
        "train_loss",
        2.0,
        "a round number that Adam reaches within the first epoch; the search is too short for it and goes by the loss",
    ),
    batch_size=BATCH,
    epochs=2,
    evaluate_every=50,
    open=on_examples(load, Transformer, nn.CrossEntropyLoss(), wrong, BATCH, MEASURED),
    facts={
        **shakespeare.FACTS,
        "windows": f"{LENGTH} characters each, side by side, in a new order every epoch",
        "loss": "cross-entropy, in nats a character; error is the share of characters predicted wrongly",
        "train loss and error": f"on {measured_on(MEASURED)}, windows each",
        "test loss and error": f"on {MEASURED} evenly spaced test windows",
    },
)
