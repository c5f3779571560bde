"""The engine on what it once got wrong: mixed precision, many writes, compiled models, odd batches and the like."""

import functools
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import quadric
from quadric.curvature.ggn import GGN
from quadric.objective.batch import batches_of, disagreement, is_batch, take_apart
from quadric.objective.fingerprint import Fingerprint
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective
from quadric.objective.rules.registry import aten
from quadric.objective.tape import Tape, _hole_of_call, _operator

HALF = torch.bfloat16


class Model(nn.Module):
    """Two layers and a function that makes something of them."""

    def __init__(self, forward, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 8, dtype=dtype)
        self.second = nn.Linear(8, 3, dtype=dtype)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def linearized(model, dtype=torch.float64):
    torch.manual_seed(1)
    objective = Objective(model, nn.MSELoss())
    batch = objective.batch((torch.randn(5, 4, dtype=dtype), torch.randn(5, 3, dtype=dtype)))
    v = [torch.randn_like(p) for p in objective.parameters]
    return Linearization(objective, batch), v


def check(model, dtype=torch.float64, rtol=1e-10):
    lin, v = linearized(model, dtype)
    assert lin.route == "tape", lin.hole
    taped, wanted = lin.jvp(v), lin._jvp_by_double_reverse(v)
    assert taped.dtype == wanted.dtype
    torch.testing.assert_close(taped, wanted, rtol=rtol, atol=rtol * float(wanted.abs().max()))
    return lin, v


# ---- mixed precision


def promoted_by_a_constant(model, x):
    return model.second((model.first(x) + torch.ones(8)).to(HALF))


def promoted_product(model, x):
    h = model.first(x)
    return model.second((h * h.float()).to(HALF) + (h.float() / (2 + h)).to(HALF))


def changed_in_place(model, x):
    h = model.first(x)
    h += torch.full((8,), 0.5)
    h[:, 1:3] *= torch.ones(2)
    h += h.float()
    return model.second(h)


def masked_scores(model, x):
    h = model.first(x)
    scores = (h @ h.mT).to(HALF) + torch.zeros(5, 5).masked_fill(torch.eye(5).bool(), -1e9)
    return model.second(scores.softmax(-1).to(HALF) @ h)


@pytest.mark.parametrize("forward", [promoted_by_a_constant, promoted_product, changed_in_place, masked_scores])
def test_tangents_have_the_dtype_of_their_values(forward):
    check(Model(forward, HALF), HALF, rtol=0.05)


@pytest.mark.parametrize("forward", [masked_scores, lambda m, x: m.second(m.first(x).tanh() + torch.ones(8))])
def test_autocast(forward):
    with torch.autocast("cpu", HALF):
        check(Model(forward, torch.float32), torch.float32, rtol=0.05)


# ---- shapes


def filled_constant(model, x):
    mask = torch.arange(8) % 2 == 0
    filled = torch.ones(5, 1, dtype=x.dtype).masked_fill(mask, model.first.bias.sum())
    return model.second(filled.cumsum(0) * model.first(x))


def copied_scalar(model, x):
    h = model.first(x)
    h.copy_(model.first.bias[0])
    return model.second(h)


@pytest.mark.parametrize("forward", [filled_constant, copied_scalar])
def test_a_broadcast_tangent_has_the_shape_of_its_value(forward):
    check(Model(forward))


def test_one_parameter_alone_moves_all_it_is_spread_over():
    model = Model(lambda m, x: m.second((m.first.weight[:, 0] + x.sum() * m.first.bias[:1]).cumsum(0)).expand(5, 3))
    lin, v = linearized(model)
    narrow = lin.narrowed([1])
    torch.testing.assert_close(narrow.jvp(v[1:2]), narrow._jvp_by_double_reverse(v[1:2]))


# ---- changes in place


def column_by_column(model, x, columns=8):
    out = torch.zeros(len(x), columns, dtype=x.dtype)
    h = model.first(x)
    for i in range(columns):
        out[:, i] = h[:, i % 8] * (out[:, max(i - 1, 0)] + 2)
    return model.second(out[:, -8:])


def test_columns_written_one_by_one():
    check(Model(column_by_column))


def squared_then_changed(model, x):
    h = model.first(x)
    a = h * h.sin()
    h += 1
    b = h * h.cos()
    h *= a
    return model.second(b * h)


def test_each_call_keeps_the_values_of_its_time():
    lin, v = linearized(Model(lambda m, x: squared_then_changed(m, x)))
    honest, _ = linearized(
        Model(lambda m, x: (lambda h: m.second((h + 1) * (h + 1).cos() * ((h + 1) * (h * h.sin()))))(m.first(x)))
    )
    torch.testing.assert_close(lin.jvp(v), honest._jvp_by_double_reverse(v))


def test_the_cost_of_a_write_does_not_grow_with_the_tape():
    def seconds(columns):
        start = time.perf_counter()
        linearized(Model(lambda m, x: column_by_column(m, x, columns)))
        return time.perf_counter() - start

    seconds(100)
    assert seconds(1600) < 40 * min(seconds(100) for _ in range(3))


# ---- attention kernels that drop out


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("_scaled_dot_product_flash_attention_for_cpu", 3),
        ("_scaled_dot_product_flash_attention", 3),
        ("_scaled_dot_product_efficient_attention", 5),
        ("_scaled_dot_product_cudnn_attention", 5),
    ],
)
def test_dropout_inside_an_attention_kernel_is_a_hole(name, position):
    func = getattr(aten, name).default
    known = _operator(func)
    args = [None] * position + [0.0]
    assert _hole_of_call(known, func, args) is None
    assert _hole_of_call(known, func, args[:-1]) is None
    args[position] = 0.1
    assert "random" in _hole_of_call(known, func, args)


# ---- compiled models


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("warm", [False, True])
def test_compiled_models_are_taped_as_written(backend, warm):
    torch._dynamo.reset()
    model = torch.compile(Model(lambda m, x: m.second(m.first(x).tanh())), backend=backend)
    if warm:
        model(torch.randn(5, 4, dtype=torch.float64)).sum().backward()
    check(model)
    assert torch._dynamo.eval_frame._stance.stance == "default"
    check(model)


def test_compiled_models_have_hessians_by_double_backward_too():
    torch._dynamo.reset()
    model = Model(lambda m, x: m.second(torch.special.erfcx(m.first(x))))  # a call without a rule of its own
    batch = torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 3, (5,))
    dense = []
    for module in (model, torch.compile(model, backend="aot_eager")):
        operator = quadric.Hessian(Objective(module, nn.CrossEntropyLoss()), batch)
        dense.append(operator.to_dense())
        assert operator.routes == ("double backward",)
    assert torch.allclose(*dense, rtol=0, atol=1e-12)
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_the_compiler_is_back_after_an_error():
    torch.compile(lambda x: x, backend="eager")
    with pytest.raises(ZeroDivisionError), Tape():
        1 / 0  # noqa: B018
    assert torch._dynamo.eval_frame._stance.stance == "default"


# ---- fingerprints


class Slotted:
    __slots__ = ("scale",)

    def __init__(self):
        self.scale = 1.0


class Helper:
    def __init__(self):
        self.scale = 1.0

    def times(self, out, target):
        return (self.scale * out - target).square().mean()


def fits_after(change, model=None, loss=None, **options):
    model = nn.Linear(4, 3) if model is None else model
    objective = Objective(model, None if "loss_of" in options else loss or nn.MSELoss(), **options)
    batch = take_apart((torch.ones(5, 4), torch.ones(5, 3)))
    fingerprint = Fingerprint(objective, batch)
    assert fingerprint.fits(objective, batch)
    change()
    return fingerprint.fits(objective, batch)


@pytest.mark.parametrize("where", ["partial", "method", "closure", "default", "keyword"])
def test_state_behind_a_function_counts(where):
    helper = Helper()

    def close_over(out, target):
        return helper.times(out, target)

    loss = {
        "partial": functools.partial(lambda h, out, target: h.times(out, target), helper),
        "method": helper.times,
        "closure": close_over,
        "default": lambda out, target, h=helper: h.times(out, target),
        "keyword": functools.partial(lambda out, target, *, h: h.times(out, target), h=helper),
    }[where]
    assert not fits_after(lambda: setattr(helper, "scale", 2.0), loss=loss)


@pytest.mark.parametrize("name", ["prediction", "loss_of", "normalizer", "unpack"])
def test_the_functions_of_the_objective_count(name):
    helper = Helper()
    assert not fits_after(lambda: setattr(helper, "scale", 2.0), **{name: lambda *_: helper.scale})


def test_slots_and_arrays_count():
    model = nn.Linear(4, 3)
    model.config, model.table, model.number = Slotted(), np.zeros(3), np.float64(1)
    assert fits_after(lambda: None, model)
    assert not fits_after(lambda: setattr(model.config, "scale", 2.0), model)
    assert not fits_after(lambda: model.table.__setitem__(1, 1.0), model)
    assert not fits_after(lambda: setattr(model, "number", np.float64(2)), model)


def test_a_batch_that_begins_at_an_odd_place_in_memory():
    x, y = torch.randn(11, 3)[1:], torch.randn(10, 2)
    operator = GGN(Objective(nn.Linear(3, 2), nn.MSELoss()), (x, y))
    v = torch.randn(8)
    first = operator @ v
    assert torch.equal(operator @ v, first)
    x[4, 1] += 1
    assert not torch.allclose(operator @ v, first)


class OverEdges(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 2)
        self.register_buffer("edges", torch.eye(5).to_sparse())

    def forward(self, x):
        return torch.sparse.mm(self.edges, self.dense(x))


def test_sparse_tensors_count():
    model = OverEdges()
    operator = GGN(Objective(model, nn.MSELoss()), (torch.randn(5, 3), torch.randn(5, 2)))
    v = torch.randn(8)
    first = operator @ v
    assert torch.equal(operator @ v, first)
    model.edges.mul_(2)
    torch.testing.assert_close(operator @ v, 4 * first)
    model.edges.copy_(torch.ones(5, 5).to_sparse())
    assert not torch.allclose(operator @ v, first)


def test_a_container_that_was_empty_counts():
    model = nn.Linear(4, 3)
    model.extras = {}
    assert fits_after(lambda: None, model)
    assert not fits_after(lambda: model.extras.update(scale=2.0), model)


def test_an_attribute_set_to_the_same_number_does_not_count():
    model = nn.Linear(4, 3)
    model.scale = 1000.5
    assert fits_after(lambda: setattr(model, "scale", float("1000.5")), model)
    assert not fits_after(lambda: setattr(model, "scale", True), model)


def test_cycles_end():
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].parent = [model]
    model.own = {}
    model.own["self"] = model.own
    model.chain = Helper()
    model.chain.next = model.chain
    assert fits_after(lambda: None, model)
    assert not fits_after(lambda: setattr(model.chain, "scale", 2.0), model)


def test_autocast_counts():
    objective, batch = Objective(nn.Linear(4, 3), nn.MSELoss()), take_apart((torch.ones(5, 4), torch.ones(5, 3)))
    with torch.autocast("cpu", HALF):
        fingerprint = Fingerprint(objective, batch)
        assert fingerprint.fits(objective, batch)
    assert not fingerprint.fits(objective, batch)


def test_operators_held_beside_a_loss_do_not_count():
    from quadric import Hessian

    helper = Helper()
    objective = Objective(nn.Linear(4, 3), helper.times)
    helper.hessian = Hessian(objective, (torch.ones(5, 4), torch.ones(5, 3)))
    assert fits_after(lambda: helper.hessian @ torch.ones(15), loss=helper.times)


# ---- batches


def test_first_dimensions_may_differ_with_unpack():
    pair = torch.ones(7, 4, 5), torch.ones(4)
    batch = take_apart({"x": pair[0], "y": pair[1]}, lambda b: (b["x"], b["y"]))
    assert batch.examples == 4
    assert disagreement(batch) == (
        "Inputs and targets disagree: 7 inputs, 4 targets (first dimensions). Each example needs one target."
    )
    assert disagreement(take_apart((torch.ones(4, 2), torch.ones(4)))) is None


@dataclass
class Graph:
    x: torch.Tensor
    y: torch.Tensor


def test_an_object_is_one_batch_with_unpack():
    def unpack(graph):
        return graph.x, graph.y

    graph = Graph(torch.ones(7, 2), torch.ones(3))
    assert is_batch(graph, unpack)
    assert not is_batch([graph, graph], unpack)
    assert len(list(batches_of(graph, unpack))) == 1
    assert len(list(batches_of([graph, graph], unpack))) == 2


# ---- random numbers


def test_a_hessian_without_a_tape_is_one_matrix_from_its_first_product_on():
    """The model is evaluated again for double backward, and must draw the same random numbers then."""
    from torch.utils.checkpoint import checkpoint

    from quadric import Hessian

    def forward(model, x):
        h = nn.functional.dropout(model.first(x), 0.5)
        return model.second(checkpoint(torch.tanh, h, use_reentrant=False))

    model = Model(forward)
    batch = torch.randn(5, 4, dtype=torch.float64), torch.randint(3, (5,))
    operator = Hessian(Objective(model, nn.CrossEntropyLoss()), batch)
    v = torch.randn(operator.shape[0], dtype=torch.float64)
    first, second = operator @ v, operator @ v
    assert operator.routes == ("double backward",)
    assert torch.allclose(first, second, rtol=1e-12)
