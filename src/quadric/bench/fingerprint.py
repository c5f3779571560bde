"""What a run starts from in twelve digits: starting weights, first batch, and all that is evaluated."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from quadric.problems import Instance


def fingerprint(instance: Instance) -> str:
    """The beginning of a SHA-256 of the bits of the instance's weights, first batch, train and test examples."""
    digest = hashlib.sha256()
    for tensor in instance.model.state_dict().values():
        feed(digest, tensor)
    for batch in (next(instance.epoch(0)), *instance.train, *instance.test):
        for tensor in batch:
            feed(digest, tensor)
    return digest.hexdigest()[:12]


def feed(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Add a tensor's shape, dtype and bits."""
    values = tensor.detach().cpu().contiguous()
    digest.update(f"{values.dtype}{list(values.shape)}".encode())
    digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
