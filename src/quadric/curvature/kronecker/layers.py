"""Layers whose curvature has a form of its own, and their calls as sums of outer products.

A layer's per-example gradient is Σ_t g_t a_tᵀ over the places t at which its weights are used: tokens, pixels, calls.
`sides` gives a [N, T, d] and g [N, T, out] of one `Use`; a holds a last 1 for a bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadric.curvature.kronecker.attention import PROJECTIONS, is_stock

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Layer:
    """Parameters in one role: positions among the objective's parameters, and the modules that use them."""

    name: str
    kind: str
    """ "linear", "convolution", "embedding" or "norm"."""
    modules: tuple[nn.Module, ...]
    weight: int | None
    bias: int | None
    role: str = "weight"
    """What the modules call the weight."""

    @property
    def positions(self) -> list[int]:
        """Weight and bias, those that there are."""
        return [p for p in (self.weight, self.bias) if p is not None]


@dataclass(frozen=True)
class Block:
    """The layers that share a block: one, or an embedding and a linear layer that are tied to the same weight."""

    layers: tuple[Layer, ...]

    @property
    def kind(self) -> str:
        """That of its layer, or "tied"."""
        return self.layers[0].kind if len(self.layers) == 1 else "tied"

    @property
    def weight(self) -> int | None:
        """The position of the weight that all layers have."""
        return self.layers[0].weight

    @property
    def bias(self) -> int | None:
        """The position of the bias of the layer that has one."""
        return next((layer.bias for layer in self.layers if layer.bias is not None), None)

    @property
    def positions(self) -> list[int]:
        """Weight and bias, those that there are."""
        return [p for p in (self.weight, self.bias) if p is not None]


@dataclass(frozen=True, eq=False)
class Use:
    """One call of a layer's module: its input x and the gradient `slope` in its output."""

    module: nn.Module
    x: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Plan:
    """Which layers have a form of their own, and why the other parameters have a diagonal block."""

    layers: tuple[Layer, ...]
    rest: dict[int, str] = field(default_factory=dict)
    attentions: dict[nn.Module, nn.MultiheadAttention] = field(default_factory=dict)
    """The attention that a module holds a projection of: itself, or its output projection."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The layers by what they share, in their order."""
        shared: dict[int, list[Layer]] = {}
        for layer in self.layers:
            shared.setdefault(layer.positions[0], []).append(layer)
        return tuple(Block(tuple(layers)) for layers in shared.values())

    def without(self, layers: Sequence[Layer], reason: str) -> Plan:
        """The plan with the blocks of some layers moved to the rest."""
        gone = [block for block in self.blocks if any(layer in layers for layer in block.layers)]
        moved = {p: reason for block in gone for p in block.positions}
        kept = tuple(layer for layer in self.layers if not moved.keys() & set(layer.positions))
        return Plan(kept, {**self.rest, **moved}, self.attentions)


User = tuple[str, nn.Module, str]
"""The name of a module, the module, and the role a parameter has in it."""


def plan(model: nn.Module, parameters: Sequence[Tensor]) -> Plan:
    """The layers of a model in the order of the parameters."""
    owners: dict[int, list[User]] = {}
    attentions: dict[nn.Module, nn.MultiheadAttention] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and is_stock(module):
            attentions |= {module: module, module.out_proj: module}
        for role, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((name, module, role))
    roles = [_roles(owners[id(p)]) for p in parameters]
    position = {_key(users, users[0][2]): i for i, kinds in enumerate(roles) for users in kinds.values()}
    layers: list[Layer] = []
    taken: set[tuple[int, str]] = set()
    for i, kinds in enumerate(roles):
        for kind, users in kinds.items():
            if (i, kind) in taken:
                continue
            stem = users[0][2].removesuffix("weight").removesuffix("bias")
            # the weight and the bias that these modules use, and no others of their kind
            weight, bias = (position.get(_key(users, stem + part)) for part in ("weight", "bias"))
            modules = tuple(module for _, module, _ in users)
            layers.append(Layer(users[0][0], kind, modules, weight, bias, stem + "weight"))
            taken.update((p, kind) for p in layers[-1].positions)
    rest = {i: _why_not(owners[id(p)]) for i, p in enumerate(parameters) if not roles[i]}
    return Plan(tuple(layers), rest, attentions)


def _roles(users: Sequence[User]) -> dict[str, list[User]]:
    """The users of a parameter by kind, where all kinds together have a form; else nothing."""
    kinds: dict[str | None, list[User]] = {}
    for user in users:
        kinds.setdefault(_kind(*user[1:]), []).append(user)
    known = {kind: same for kind, same in kinds.items() if kind is not None}
    alike = len({role for _, _, role in users}) == 1 and (len(kinds) == 1 or kinds.keys() == {"linear", "embedding"})
    return known if alike else {}


def _key(users: Sequence[User], role: str) -> tuple[str, frozenset[nn.Module]]:
    return role, frozenset(module for _, module, _ in users)


def _kind(module: nn.Module, role: str) -> str | None:
    if is_stock(module):
        projections = [name for name in PROJECTIONS if module._parameters.get(name) is not None]
        packed = role == "in_proj_bias" and projections == ["in_proj_weight"]
        return "linear" if packed or role in projections else None
    if role not in ("weight", "bias"):
        return None
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, CONVOLUTIONS):
        return "convolution" if module.groups == 1 and not module.transposed else None
    if isinstance(module, nn.Embedding):
        return "embedding" if module.max_norm is None and not module.scale_grad_by_freq and not module.sparse else None
    return "norm" if isinstance(module, NORMS) else None


def _why_not(users: Sequence[tuple[str, nn.Module, str]]) -> str:
    names = ", ".join(f"{name or 'the model'} ({type(module).__name__})" for name, module, _ in users)
    if len(users) > 1:
        return f"shared between {names}, which use it in different ways"
    if isinstance(users[0][1], CONVOLUTIONS):
        return f"a convolution with groups: {names}"
    if isinstance(users[0][1], nn.Embedding):
        return f"an embedding with max_norm, scale_grad_by_freq or sparse gradients: {names}"
    return f"no Kronecker form is known for {names}"


# ---- one call as a sum of outer products


Pair = tuple[Tensor, Tensor]
"""(a, g) of one call."""


def sides(layer: Layer, use: Use, dtype: torch.dtype) -> Pair:
    """a [N, T, d] and g [N, T, out] of one call.

    For an embedding a is the index [N, T], and g is zero at its padding index; for a norm both are [N, T, channels].
    """
    module, x, slope = use.module, use.x, use.slope
    if layer.kind == "linear":
        g = _rows(slope)
        return _with_bias(layer, _rows(x).to(dtype), g), g.to(dtype)
    if layer.kind == "convolution":
        x, slope = images(x, module), images(slope, module)
        g = slope.flatten(2).transpose(1, 2).to(dtype)
        return _with_bias(layer, patches(x, module).to(dtype) if layer.weight is not None else g, g), g
    if layer.kind == "embedding":
        index = x.reshape(x.shape[0], -1) if x.dim() > 0 else x.view(1, 1)
        g = slope.reshape(*index.shape, -1).to(dtype)
        padding: Any = module.padding_idx
        return index, g if padding is None else g * (index != padding).unsqueeze(2)
    hat = _normalised(module, x)
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        width = torch.Size(module.normalized_shape).numel()
        lead = x.shape[0] if x.dim() > len(module.normalized_shape) else 1
        return hat.reshape(lead, -1, width).to(dtype), slope.reshape(lead, -1, width).to(dtype)
    hat, slope = (t.reshape(*t.shape[:2], -1).transpose(1, 2).to(dtype) for t in (hat, slope))
    return hat, slope


def merged(block: Block, uses: Mapping[Layer, Sequence[Use]], dtype: torch.dtype) -> Iterator[Pair]:
    """The sides of a block's calls; those with the same number of examples as one call with more places.

    Where an embedding is tied to a linear layer, its pairs change sides: g are the one-hot rows [N, T, V], and a is
    what they add to, with a last 0 for the bias that only the linear layer has.
    """
    by_size: dict[int, list[Pair]] = {}
    for layer in block.layers:
        for use in uses[layer]:
            a, g = sides(layer, use, dtype)
            if block.kind == "tied" and layer.kind == "embedding":
                rows: Any = use.module
                a, g = F.pad(g, (0, block.bias is not None)), F.one_hot(a, rows.num_embeddings).to(dtype)
            by_size.setdefault(a.shape[0], []).append((a, g))
    for same in by_size.values():
        yield same[0] if len(same) == 1 else (torch.cat([a for a, _ in same], 1), torch.cat([g for _, g in same], 1))


def norm_gradients(layer: Layer | Block, a: Tensor, g: Tensor) -> Tensor:
    """The gradients of a norm's scale and shift, example by example: [N, parameters]."""
    weight = [(g * a).sum(1)] if layer.weight is not None else []
    bias = [g.sum(1)] if layer.bias is not None else []
    return torch.cat(weight + bias, 1)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0] if x.dim() > 1 else 1, -1, x.shape[-1])


def images(x: Tensor, module: nn.Module) -> Tensor:
    """The input or output of a convolution with its batch dimension: [N, channels, …]."""
    conv: Any = module
    return x if x.dim() == len(conv.kernel_size) + 2 else x.unsqueeze(0)


def _with_bias(layer: Layer, a: Tensor, g: Tensor) -> Tensor:
    ones = a.new_ones(*g.shape[:2], 1)
    if layer.weight is None:
        return ones
    return a if layer.bias is None else torch.cat([a, ones], 2)


def patches(x: Tensor, module: nn.Module) -> Tensor:
    """What a convolution multiplies its weight with: [N, places, channels · kernel], channels slowest."""
    conv: Any = module
    x = padded(x, conv)
    dims = len(conv.kernel_size)
    for i in range(dims):
        x = x.unfold(2 + i, conv.dilation[i] * (conv.kernel_size[i] - 1) + 1, conv.stride[i])[..., :: conv.dilation[i]]
    places, kernel = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
    x = x.permute(0, *places, 1, *kernel)
    return x.reshape(x.shape[0], x.shape[1 : 1 + dims].numel(), -1)


def padded(x: Tensor, module: nn.Module) -> Tensor:
    """The input of a convolution with its padding."""
    conv: Any = module
    padding = conv._reversed_padding_repeated_twice
    return F.pad(x, padding, mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode)


def _normalised(module: nn.Module, x: Tensor) -> Tensor:
    """What a norm multiplies its weight with."""
    norm: Any = module
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(x, norm.normalized_shape, eps=norm.eps)
    if isinstance(module, nn.RMSNorm):
        return F.rms_norm(x, norm.normalized_shape, eps=norm.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, norm.num_groups, eps=norm.eps)
    own = module.training or norm.running_mean is None
    mean, variance = (None, None) if own else (norm.running_mean, norm.running_var)
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return F.instance_norm(x, mean, variance, use_input_stats=own, eps=norm.eps)
    return F.batch_norm(x, mean, variance, training=own, eps=norm.eps)
