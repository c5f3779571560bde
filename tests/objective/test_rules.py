"""Every tangent rule against torch's own differentiation of the single call."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import zoo
from quadric.objective.objective import Objective
from quadric.objective.rules.fallback import by_double_reverse, by_forward_mode
from quadric.objective.rules.registry import known_rules
from quadric.objective.tape import Tape

ELSEWHERE = {
    *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
    *("_scaled_dot_product_cudnn_attention", "cudnn_batch_norm", "miopen_batch_norm", "native_dropout"),
    *("linear", "convolution_overrideable", "contiguous", "alias_copy"),
}
"""Operators that the CPU never calls, or not where gradients flow."""


class Keeping(Tape):
    """A tape whose calls keep all arguments and outputs, as they were at the call."""

    def _record(self, known, func, args, kwargs, reads):
        before = [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args]
        count = len(self.calls)
        out = super()._record(known, func, args, kwargs, reads)
        if len(self.calls) > count:
            call = self.calls[-1]
            outputs = out if isinstance(out, (tuple, list)) else (out,)
            call.args = tuple(before)
            call.outputs = tuple(o.detach().clone() if isinstance(o, torch.Tensor) else o for o in outputs)
        return out


class Cast(torch.nn.Linear):
    """A layer that lowers its precision and raises it again."""

    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x):
        return super().forward(x).float().double()


def calls_of(case):
    model, loss_fn = case.build(torch.float64)
    objective = Objective(model, loss_fn)
    batch = objective.batch(case.batch(3))
    tape = Keeping(reversible=True)
    with torch.enable_grad(), tape:
        loss = objective.loss_at(objective.outputs(batch), batch)
        tape.reverse()
        torch.autograd.grad(loss, objective.parameters, allow_unused=True)
    return tape.calls


def random_tangent(read, value, generator):
    if read is None:
        return None
    if isinstance(read, list):
        return [random_tangent(r, v, generator) for r, v in zip(read, value, strict=True)]
    return torch.randn(value.shape, generator=generator, dtype=value.dtype)


def by_math_attention(call, tangents):
    """The fused kernel has no second derivative; the same function by the kernel that has one."""
    causal = call.args[4] if len(call.args) > 4 else False
    mask, scale = call.kwargs.get("attn_mask"), call.kwargs.get("scale")

    def attention(q, k, v):
        with sdpa_kernel(SDPBackend.MATH):
            return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)

    directions = [torch.zeros_like(a) if t is None else t for a, t in zip(call.args, tangents[:3], strict=False)]
    return (torch.autograd.functional.jvp(attention, tuple(call.args[:3]), tuple(directions))[1],)


def by_torch(call, tangents):
    name = call.func._schema.name
    if "flash_attention" in name:
        return by_math_attention(call, tangents)
    if "_backward" in name:
        try:
            return by_double_reverse(call.func, call.args, call.kwargs, tangents)
        except RuntimeError:
            pass
    return by_forward_mode(call, *tangents)


def test_every_rule_agrees_with_torch():
    generator = torch.Generator().manual_seed(0)
    seen = set()
    wrong = []
    cases = {**zoo.CASES, "cast": zoo.Case("cast", Cast, zoo.real(3), zoo.classes(2))}
    for name, case in cases.items():
        if name == "seq/embedding-padding":
            continue  # the padding row is a constant to reverse mode, as to our rule, and not to forward mode
        try:
            calls = calls_of(case)
        except (RuntimeError, NotImplementedError):
            continue
        for call in calls:
            if not call.rule.own:
                continue
            tangents = [random_tangent(r, a, generator) for r, a in zip(call.reads, call.args, strict=True)]
            ours = call.rule.apply(call, *tangents)
            ours = ours if isinstance(ours, (tuple, list)) else (ours,)
            theirs = by_torch(call, tangents)
            seen.add(call.func._schema.name.removeprefix("aten::").rstrip("_"))
            if "norm" in call.func._schema.name and "backward" not in call.func._schema.name:
                theirs = theirs[:1]  # no layer lets anyone differentiate the statistics that come along
            for a, b in zip(ours, theirs, strict=False):
                a = torch.zeros(()) if a is None else a
                b = torch.zeros(()) if b is None else b
                if not torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-9):
                    wrong.append(f"{name}: {call.func}")
    assert not wrong
    names = {f._schema.name.removeprefix("aten::") for f in known_rules()} - seen
    assert names - ELSEWHERE == set(), sorted(names - ELSEWHERE)
