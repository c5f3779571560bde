"""Hugging Face models: dictionaries as batches, `.logits`, and a loss that the model returns."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import quadric as library
from quadric.linalg.eigenpairs import Eigenpairs

try:
    from transformers import GPT2LMHeadModel  # noqa: F401
except ImportError:
    pytest.skip("transformers is not installed, or not usable here", allow_module_level=True)

CODE = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel

def make():
    config = GPT2Config(vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)

def texts():
    tokens = torch.randint(0, 11, (12, 6), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": part, "labels": part} for part in tokens.split(5)]
"""


def test_a_causal_language_model_with_its_own_loss(quadric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("owntexts.py").write_text(CODE)
    import owntexts

    model = owntexts.make()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}  # tied
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(state, "weights.safetensors")
    base = (
        "--model",
        "owntexts:make",
        "--data",
        "owntexts:texts",
        "--checkpoint",
        "weights.safetensors",
        "--tol",
        1e-3,
    )
    status, _, _ = quadric(
        *("inspect", *base, "--loss", "model", "--curvature", "hessian", "--top", 2, "--out", "look"),
        *("--microbatch", 3),
    )
    assert status == 0

    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs[:, :-1].flatten(0, 1), targets[:, 1:].flatten())

    model.eval()
    tokens = torch.cat([batch["input_ids"] for batch in owntexts.texts()])
    objective = library.Objective(model, loss, prediction=lambda out: out.logits)
    expected = library.eigsh(library.Hessian(objective, (tokens, tokens)), 2, tol=1e-3).eigenvalues
    (path,) = Path("look/results").glob("hessian-top*.npz")
    torch.testing.assert_close(Eigenpairs.load(path).eigenvalues, expected, rtol=1e-3, atol=1e-4)
    del sys.modules["owntexts"]
