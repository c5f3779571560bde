"""Look at the curvature of a Hugging Face transformer: trained for a moment, saved, and inspected with one command.

Does a sequence hold more of token 1 than of token 2? A tiny BERT, built from a configuration (nothing is downloaded),
learns to tell. `quadric inspect` then finds `make_model` and `make_loader` in this file by their names. Batches are
dictionaries, as tokenizers and collators make them; the outputs' `.logits` go to the loss.
"""

import os
import sys
import tempfile
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from quadric.cli.commands import app


def make_model():
    """The model, before it is trained."""
    config = BertConfig(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def make_loader():
    """Batches of 64 sequences, the last one shorter."""
    tokens = torch.randint(0, 8, (160, 12), generator=torch.Generator().manual_seed(0))
    labels = ((tokens == 1).sum(1) > (tokens == 2).sum(1)).long()
    return [
        {"input_ids": t, "attention_mask": torch.ones_like(t), "labels": y}
        for t, y in zip(tokens.split(64), labels.split(64), strict=True)
    ]


def main():
    """Train, save, inspect."""
    torch.manual_seed(0)
    model, batches = make_model(), make_loader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(30):
        optimizer.zero_grad()
        loss = model(**batches[step % len(batches)]).loss
        loss.backward()
        optimizer.step()
    print(f"loss of the last step: {loss.item():.3f}")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "bert.pt"
        torch.save(model.state_dict(), checkpoint)
        out = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/look").absolute()
        os.chdir(Path(__file__).parent)  # modules are looked for here
        subject = "--model inspect_transformer:make_model --loss cross_entropy --data inspect_transformer:make_loader"
        parts = "--curvature hessian,ggn --top 3"
        paths = ["--checkpoint", str(checkpoint), "--out", str(out)]
        app(["inspect", *subject.split(), *parts.split(), *paths], standalone_mode=False)


if __name__ == "__main__":
    main()
