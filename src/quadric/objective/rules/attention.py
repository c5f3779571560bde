"""Scaled dot-product attention by a fused kernel: the tangent recomputes the probabilities.

    S = s QKᵀ + mask,  P = softmax(S) = exp(S − lse),  O = P V
    Ṡ = s (Q̇Kᵀ + QK̇ᵀ),  Ṗ = P ∘ (Ṡ − ⟨P, Ṡ⟩),  Ȯ = Ṗ V + P V̇

Forward and reverse passes keep the fused kernel. Memory: one matrix of probabilities per head and example.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import aten, tangent


@tangent("_scaled_dot_product_flash_attention_for_cpu.default", keeps="arguments output")
def flash_attention_cpu(call: Any, q: Tensor | None, k: Tensor | None, v: Tensor | None, *rest: Any) -> Any:
    """Arguments: query, key, value, dropout_p, is_causal, *, attn_mask, scale."""
    causal = call.args[4] if len(call.args) > 4 else False
    return _attention(call, q, k, v, call.kwargs.get("attn_mask"), causal), None


@tangent("_scaled_dot_product_flash_attention.default", keeps="arguments output")
def flash_attention(call: Any, q: Tensor | None, k: Tensor | None, v: Tensor | None, *rest: Any) -> Any:
    """Arguments: query, key, value, dropout_p, is_causal, return_debug_mask, *, scale."""
    causal = call.args[4] if len(call.args) > 4 else False
    return _attention(call, q, k, v, None, causal), *[None] * 8


@tangent("_scaled_dot_product_efficient_attention.default", keeps="arguments output")
def efficient_attention(call: Any, q: Tensor | None, k: Tensor | None, v: Tensor | None, *rest: Any) -> Any:
    """Arguments: query, key, value, attn_bias, compute_log_sumexp, dropout_p, is_causal, *, scale."""
    causal = call.args[6] if len(call.args) > 6 else False
    return _attention(call, q, k, v, call.args[3], causal), None, None, None


@tangent("_scaled_dot_product_cudnn_attention.default", keeps="arguments output")
def cudnn_attention(call: Any, q: Tensor | None, k: Tensor | None, v: Tensor | None, *rest: Any) -> Any:
    """Arguments: those of the efficient kernel and return_debug_mask."""
    causal = call.args[6] if len(call.args) > 6 else False
    return _attention(call, q, k, v, call.args[3], causal), *[None] * 8


def _attention(call: Any, q: Any, k: Any, v: Any, mask: Tensor | None, causal: bool) -> Any:
    query, key, value = call.args[:3]
    scale = call.kwargs.get("scale")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if key.shape[-3] != query.shape[-3]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
        k, v = (None if t is None else t.repeat_interleave(repeats, -3) for t in (k, v))
    probabilities = _probabilities(query, key, mask, causal, scale)
    out = None if v is None else probabilities @ v
    moved = None if q is None else q @ key.mT
    if k is not None:
        moved = query @ k.mT if moved is None else moved.add_(query @ k.mT)
    if moved is not None:
        moved = aten._softmax_backward_data(moved.mul_(scale), probabilities, -1, probabilities.dtype)
        moved = moved @ value
        out = moved if out is None else out.add_(moved)
    assert out is not None
    return out


def _probabilities(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    scores = (query @ key.mT).mul_(scale)
    if causal:
        keep = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores.masked_fill_(~keep, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return torch.nan_to_num(scores.softmax(-1)) if mask is not None else scores.softmax(-1)
