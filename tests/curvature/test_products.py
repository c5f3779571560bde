"""GGN and Hessian products against dense float64 matrices, for everything in the zoo."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import quadric
import zoo
from oracles import assert_close, ggn, hessian, hessian_product, select

F64 = torch.float64
SIDES = {"ggn": (quadric.GGN, ggn), "hessian": (quadric.Hessian, hessian)}
# few parameters, but every kind of layer: for the checks that need not run on the whole zoo
SOME = [
    "dense/mlp",
    "conv/2d",
    "norm/batch-2d-train",
    "norm/batch-1d-eval",
    "norm/layer",
    "net/tied-embedding",
    "net/control-flow",
    "net/checkpoint",
    "attention/sdpa-causal",
    "attention/multihead-fast-padding",
    "rnn/lstm",
    "in-place/buffer-columns",
    "loss/cross-entropy-all-image",
    "loss/huber",
]
REFUSALS = (NotImplementedError, TypeError, ValueError, RuntimeError)

each_side = pytest.mark.parametrize("side", SIDES)


def pairs(cases):
    """(side, case) for those cases that have the derivative."""
    return [pytest.param(s, c, id=f"{s}-{c}") for c in cases for s in SIDES if s == "ggn" or zoo.CASES[c].hessian]


def operator_and_matrix(side, model, loss_fn, data, params=None):
    operator, oracle = SIDES[side]
    matrix = oracle(model, loss_fn, data, params)
    objective = (
        quadric.Objective(model, loss_fn) if params is None else quadric.Objective(model, loss_fn, params=params)
    )
    return operator(objective, data), matrix


def products(side, model, loss_fn, data, count=1):
    """Build the operator and use it `count` times: a refusal may come at either."""
    operator = SIDES[side][0](quadric.Objective(model, loss_fn), data)
    for _ in range(count):
        operator @ vectors(sum(p.numel() for p in model.parameters()))


def vectors(n: int, *k: int) -> torch.Tensor:
    return torch.randn(n, *k, dtype=F64, generator=torch.Generator().manual_seed(5))


def snapshot(model: nn.Module) -> tuple:
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        [m.training for m in model.modules()],
        [p.grad for p in model.parameters()],
        [p.requires_grad for p in model.parameters()],
    )


def assert_untouched(model: nn.Module, before: tuple) -> None:
    state, modes, grads, trainable = before
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), f"{name} changed"
    assert [m.training for m in model.modules()] == modes, "the mode changed"
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True)), ".grad changed"
    assert [p.requires_grad for p in model.parameters()] == trainable, "requires_grad changed"


def check_all_products(operator, matrix):
    n = matrix.shape[0]
    assert tuple(operator.shape) == (n, n)
    v, block = vectors(n), vectors(n, 3)
    assert_close(operator @ v, matrix @ v, what="the first product")
    assert_close(operator @ block, matrix @ block, what="a product with three vectors")
    assert_close(operator @ v, matrix @ v, what="a repeated product")
    assert_close(operator @ block[:, :1], matrix @ block[:, :1], what="a product with a matrix of one column")
    assert not (operator @ v).requires_grad


# ── the whole zoo ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("side", "name"), pairs(zoo.CASES))
def test_products_on_one_batch(side, name):
    case = zoo.CASES[name]
    (model, loss_fn), batch = case.build(), case.batch()
    before = snapshot(model)
    operator, matrix = operator_and_matrix(side, model, loss_fn, batch)
    if not case.may_refuse:
        check_all_products(operator, matrix)
    else:
        try:
            operator @ vectors(matrix.shape[0])
        except REFUSALS as refusal:
            if not str(refusal).strip():
                pytest.fail("a refusal without a reason")
        else:
            check_all_products(operator, matrix)
    assert_untouched(model, before)


@pytest.mark.parametrize("name", [n for n, c in zoo.CASES.items() if c.hessian and not c.may_refuse])
def test_hessians_by_double_backward(name, monkeypatch):
    """Where the tape has a hole double backward takes over, and is as exact."""
    monkeypatch.setattr(quadric.Hessian, "_untaped", True)
    case = zoo.CASES[name]
    (model, loss_fn), batch = case.build(), case.batch()
    before = snapshot(model)
    operator, matrix = operator_and_matrix("hessian", model, loss_fn, batch)
    check_all_products(operator, matrix)
    assert operator.routes == ("double backward",)
    assert_untouched(model, before)


@pytest.mark.parametrize(("side", "name"), pairs(n for n in zoo.CASES if not zoo.CASES[n].may_refuse))
def test_products_over_uneven_batches(side, name):
    case = zoo.CASES[name]
    (model, loss_fn), batches = case.build(), case.batches(4, 3)
    before = snapshot(model)
    operator = SIDES[side][0](quadric.Objective(model, loss_fn), batches)
    v = vectors(operator.shape[0], 2)
    want = ggn(model, loss_fn, batches) @ v if side == "ggn" else hessian_product(model, loss_fn, batches, v)
    assert_close(operator @ v[:, 0], want[:, 0])
    assert_close(operator @ v, want)
    assert_untouched(model, before)


@pytest.mark.parametrize("name", [n for n in zoo.CASES if zoo.CASES[n].train and not zoo.CASES[n].may_refuse])
def test_ggn_in_float32(name):
    """Single precision takes other kernels (fused attention, recurrent networks); judged by the float64 oracle."""
    case = zoo.CASES[name]
    (model, loss_fn), batch = case.build(torch.float32), case.batch(dtype=torch.float32)
    exact, exact_loss = copy.deepcopy(model).double(), copy.deepcopy(loss_fn)
    if isinstance(exact_loss, nn.Module):
        exact_loss.double()
    matrix = ggn(exact, exact_loss, zoo._cast(batch, F64))
    operator = quadric.GGN(quadric.Objective(model, loss_fn), batch)
    assert operator.dtype == torch.float32
    v = vectors(matrix.shape[0], 2).float()
    got = operator @ v
    assert got.dtype == torch.float32
    assert (got.double() - matrix @ v.double()).norm() <= 3e-4 * max((matrix @ v.double()).norm().item(), 1e-3)
    assert_close(operator @ v[:, 0], got[:, 0], 1e-4)


# ── the operator's other faces ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("side", "name"), pairs(SOME))
def test_dense_and_scipy(side, name):
    case = zoo.CASES[name]
    (model, loss_fn), batch = case.build(), case.batch()
    operator, matrix = operator_and_matrix(side, model, loss_fn, batch)
    dense = operator.to_dense()
    assert_close(dense, matrix)
    assert_close(dense, dense.T, 1e-12, "the transpose")
    assert_close(operator.T @ vectors(len(matrix)), matrix @ vectors(len(matrix)))
    assert operator.dtype == F64
    assert operator.device == torch.device("cpu")
    plugged = operator.to_scipy()
    assert plugged.shape == tuple(matrix.shape)
    x = vectors(len(matrix), 2).numpy()
    assert_close(torch.as_tensor(np.asarray(plugged.matvec(x[:, 0]))), matrix @ torch.as_tensor(x[:, 0]))
    assert_close(torch.as_tensor(np.asarray(plugged.matmat(x))), matrix @ torch.as_tensor(x))
    assert_close(torch.as_tensor(np.asarray(plugged.rmatvec(x[:, 0]))), matrix @ torch.as_tensor(x[:, 0]))


@each_side
def test_linear_in_the_vector(side):
    case = zoo.CASES["conv/2d"]
    model, loss_fn = case.build()
    operator, matrix = operator_and_matrix(side, model, loss_fn, case.batch())
    u, v = vectors(len(matrix), 2).unbind(1)
    assert_close(operator @ (2 * u - 1e6 * v), 2 * (operator @ u) - 1e6 * (operator @ v), 1e-12)
    assert_close(operator @ torch.zeros_like(u), torch.zeros_like(u), 1e-300)


@each_side
def test_vectors_are_not_changed_and_results_are_one_s_own(side):
    case = zoo.CASES["dense/linear"]
    model, loss_fn = case.build()
    operator, matrix = operator_and_matrix(side, model, loss_fn, case.batch())
    v = vectors(len(matrix))
    kept = v.clone()
    first = operator @ v
    first_kept = first.clone()
    second = operator @ (2 * v)
    second.zero_()
    assert torch.equal(v, kept)
    assert torch.equal(first, first_kept)
    first.zero_()
    assert_close(operator @ v, matrix @ v)


@each_side
def test_vectors_of_any_layout(side):
    case = zoo.CASES["dense/mlp"]
    model, loss_fn = case.build()
    operator, matrix = operator_and_matrix(side, model, loss_fn, case.batch())
    n = len(matrix)
    rows = vectors(3, n)
    assert_close(operator @ rows.T, matrix @ rows.T)
    strided = vectors(2 * n)[::2]
    assert_close(operator @ strided, matrix @ strided)
    wants_grad = vectors(n).requires_grad_()
    assert_close(operator @ wants_grad, matrix @ wants_grad.detach())
    with torch.no_grad():
        assert_close(operator @ strided, matrix @ strided)


@each_side
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda n: torch.zeros(n + 1, dtype=F64), id="length"),
        pytest.param(lambda n: torch.zeros(1, n, dtype=F64), id="row"),
        pytest.param(lambda n: torch.zeros(n, 2, 2, dtype=F64), id="three-dimensions"),
        pytest.param(lambda n: torch.zeros(n), id="dtype"),
        pytest.param(lambda n: torch.zeros(n, dtype=F64, device="meta"), id="device"),
    ],
)
def test_wrong_vectors_are_refused(side, wrong):
    case = zoo.CASES["dense/linear"]
    model, loss_fn = case.build()
    operator, matrix = operator_and_matrix(side, model, loss_fn, case.batch())
    x = wrong(len(matrix))
    told = {torch.float32: "float32|float64|dtype"}.get(x.dtype, "device|meta" if x.is_meta else rf"{len(matrix)}")
    with pytest.raises((ValueError, TypeError), match=told):
        operator @ x


@pytest.mark.parametrize(
    "patterns",
    [["0.*"], ["*.weight"], ["2.bias"], ["0.weight", "4.*"], ["4.*", "0.weight"], ["*"]],
    ids=lambda p: "+".join(p),
)
@each_side
def test_parameter_subsets(side, patterns):
    case = zoo.CASES["dense/mlp"]
    (model, loss_fn), batches = case.build(), case.batches(4, 2)
    operator, matrix = operator_and_matrix(side, model, loss_fn, batches, patterns)
    assert matrix.shape[0] == sum(p.numel() for p in select(model, patterns).values())
    assert_close(operator.to_dense(), matrix)


@each_side
def test_parameter_subset_of_a_tied_weight(side):
    case = zoo.CASES["net/tied-embedding"]
    (model, loss_fn), batch = case.build(), case.batch()
    operator, matrix = operator_and_matrix(side, model, loss_fn, batch, ["embedding.*"])
    assert_close(operator.to_dense(), matrix)


@each_side
def test_flat_vectors_follow_the_space(side):
    """`unflatten` of a product is the product in the parameters' shapes, and `flatten` takes it back."""
    case = zoo.CASES["conv/2d"]
    (model, loss_fn), batch = case.build(), case.batch()
    objective = quadric.Objective(model, loss_fn)
    operator = SIDES[side][0](objective, batch)
    product = operator @ vectors(operator.shape[0])
    parts = objective.space.unflatten(product)
    parts = list(parts.values()) if isinstance(parts, dict) else list(parts)
    assert [tuple(p.shape) for p in parts] == [tuple(p.shape) for p in model.parameters()]
    assert torch.equal(objective.space.flatten(objective.space.unflatten(product)), product)
    assert torch.equal(torch.cat([p.reshape(-1) for p in parts]), product)


# ── data: iterables, weights, ragged batches ─────────────────────────────────────────────────────────────────────────


@each_side
@pytest.mark.parametrize("name", ["dense/mlp", "conv/2d", "norm/layer", "rnn/gru"])
def test_a_loader_with_a_ragged_last_batch_equals_one_large_batch(side, name):
    case = zoo.CASES[name]
    (model, loss_fn), (x, t) = case.build(), case.batch(7)
    loader = DataLoader(TensorDataset(x, t), batch_size=3)  # 3, 3, 1; yields lists
    operator, _ = operator_and_matrix(side, model, loss_fn, [(x, t)])
    over_loader = SIDES[side][0](quadric.Objective(model, loss_fn), loader)
    v = vectors(operator.shape[0], 2)
    want = SIDES[side][1](model, loss_fn, (x, t)) @ v
    assert_close(operator @ v, want)
    assert_close(over_loader @ v, want)
    assert_close(over_loader @ v[:, 1], want[:, 1])


@each_side
def test_a_batch_may_be_a_list(side):
    case = zoo.CASES["dense/mlp"]
    (model, loss_fn), batch = case.build(), case.batch(2)  # two examples: not to be taken for two batches
    operator, matrix = operator_and_matrix(side, model, loss_fn, list(batch))
    assert_close(operator.to_dense(), matrix)


@each_side
@pytest.mark.parametrize(
    "name", [n for n in zoo.names("loss/cross-entropy") if "ignore" in n or "weights" in n or n.endswith("all")]
)
def test_batches_weigh_by_the_loss_s_own_normaliser(side, name):
    """Batches of equal size with different normalisers, one of them ignored altogether where targets may be."""
    case = zoo.CASES[name]
    (model, loss_fn), batches = case.build(), case.batches(4, 4, 1)
    if not batches[0][1].is_floating_point():
        ignored = torch.full_like(batches[0][1], loss_fn.ignore_index)
        batches.insert(1, (batches[0][0], ignored))
    operator, matrix = operator_and_matrix(side, model, loss_fn, batches)
    v = vectors(len(matrix))
    assert_close(operator @ v, matrix @ v)


@pytest.mark.parametrize("curvature", [quadric.Hessian, quadric.GGN, quadric.Fisher, quadric.EmpiricalFisher])
@pytest.mark.parametrize("rows", [3, 0])
def test_a_single_batch_with_nothing_to_average_over_is_refused_as_a_list_of_it_is(curvature, rows):
    objective = quadric.Objective(nn.Linear(2, 3).double(), nn.CrossEntropyLoss())
    batch = (torch.randn(rows, 2, dtype=F64), torch.full((rows,), -100))
    for data in (batch, [batch]):
        with pytest.raises(ValueError, match="anything to average over"):
            curvature(objective, data) @ vectors(objective.space.numel)


@each_side
def test_sequences_of_different_length_weigh_by_elements(side):
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    batches = [(torch.randn(2, length, 2, dtype=F64), torch.randn(2, length, 2, dtype=F64)) for length in (5, 1)]
    operator, matrix = operator_and_matrix(side, model, nn.MSELoss(), batches)
    flat = (torch.cat([x.reshape(-1, 2) for x, _ in batches]), torch.cat([t.reshape(-1, 2) for _, t in batches]))
    assert_close(matrix, SIDES[side][1](model, nn.MSELoss(), flat), 1e-13)
    assert_close(operator.to_dense(), matrix)


@each_side
def test_a_generator_that_is_exhausted_is_not_mistaken_for_no_data(side):
    case = zoo.CASES["dense/mlp"]
    model, loss_fn = case.build()
    with pytest.raises((ValueError, TypeError), match=r"(?i)iterat|again|once|exhaust|re-?read|list"):
        products(side, model, loss_fn, iter(case.batches(3, 2)), count=2)


@each_side
def test_no_batches_at_all(side):
    case = zoo.CASES["dense/mlp"]
    model, loss_fn = case.build()
    with pytest.raises((ValueError, TypeError), match=r"(?i)no batch|empty|no data|no example|at least one"):
        products(side, model, loss_fn, [])


# ── what a product must leave alone ──────────────────────────────────────────────────────────────────────────────────


def _with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 3), nn.Dropout(0.2)
    ).double()


@each_side
@pytest.mark.parametrize("several", [False, True], ids=["batch", "batches"])
def test_products_leave_buffers_grads_modes_and_random_state(side, several):
    model, case = _with_dropout(), zoo.CASES["dense/mlp"]
    model[1].eval()  # a mixture of modes is the user's too
    for i, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, 7.0) if i % 2 else None
    before, grads = snapshot(model), [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    operator = SIDES[side][0](
        quadric.Objective(model, nn.CrossEntropyLoss()), case.batches(4, 3) if several else case.batch(4)
    )
    v = vectors(operator.shape[0])
    state = torch.get_rng_state()
    operator @ v
    operator @ vectors(operator.shape[0], 2)
    operator.to_dense()
    assert torch.equal(torch.get_rng_state(), state), "the global random state moved"
    assert_untouched(model, before)
    for p, g in zip(model.parameters(), grads, strict=True):
        assert (p.grad is None) == (g is None)
        assert g is None or torch.equal(p.grad, g)
    model.train()
    before = snapshot(model)
    operator @ v
    assert_untouched(model, before)


@each_side
def test_products_leave_the_batch_alone(side):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3), nn.ReLU(inplace=True)).double()
    x, t = torch.randn(5, 4, dtype=F64).abs(), torch.randint(3, (5,))
    kept = x.clone()
    operator, matrix = operator_and_matrix(side, model, nn.CrossEntropyLoss(), (x, t))
    assert_close(operator.to_dense(), matrix)
    assert torch.equal(x, kept)
    assert not x.requires_grad


@each_side
def test_user_hooks_and_plain_training_still_work_around_products(side):
    case = zoo.CASES["dense/mlp"]
    (model, loss_fn), (x, t) = case.build(), case.batch()
    twin, _ = case.build()
    operator = SIDES[side][0](quadric.Objective(model, loss_fn), (x, t))
    for net in (model, twin):
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            sgd.zero_grad()
            loss_fn(net(x), t).backward()
            if net is model:
                operator @ vectors(operator.shape[0])
            sgd.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


# ── dropout ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class MaskRecorder:
    """Remembers which entries nn.Dropout kept, by the shape of its output, and fails if they change."""

    def __init__(self, model: nn.Module):
        self.masks: dict[tuple, torch.Tensor] = {}
        self.layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Dropout)]
        for name, layer in self.layers:
            layer.register_forward_hook(lambda m, args, out, name=name: self._record(name, out))

    def _record(self, name: str, out: torch.Tensor) -> None:
        with torch.no_grad():
            mask = out.detach() != 0
        known = self.masks.setdefault((name, tuple(out.shape)), mask)
        assert torch.equal(known, mask), "one operator drew two different masks for one batch"


class Replay(nn.Module):
    def __init__(self, layer: nn.Dropout, name: str, masks: dict):
        super().__init__()
        self.p, self.name, self.masks = layer.p, name, masks

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h * self.masks[self.name, tuple(h.shape)] / (1 - self.p)


@each_side
@pytest.mark.parametrize("several", [False, True], ids=["batch", "batches"])
def test_dropout_against_its_own_masks(side, several):
    model, case = _with_dropout(), zoo.CASES["dense/mlp"]
    replayed = copy.deepcopy(model)
    recorder = MaskRecorder(model)
    data = case.batches(5, 4) if several else case.batch(5)
    operator = SIDES[side][0](quadric.Objective(model, nn.CrossEntropyLoss()), data)
    v = vectors(operator.shape[0], 2)
    first = operator @ v
    assert len(recorder.masks) == (4 if several else 2)
    assert any(not m.all() for m in recorder.masks.values())
    for name, layer in recorder.layers:
        setattr(replayed, name, Replay(layer, name, recorder.masks))
    want = SIDES[side][1](replayed, nn.CrossEntropyLoss(), data) @ v
    assert_close(first, want)
    torch.randn(3)  # the global state moves on; the operator's numbers do not
    assert_close(operator @ v[:, 1], want[:, 1])
    torch.manual_seed(99)
    assert_close(operator @ v, want)


@each_side
def test_two_operators_draw_two_masks(side):
    model, case = _with_dropout(), zoo.CASES["dense/mlp"]
    objective, batch = quadric.Objective(model, nn.CrossEntropyLoss()), case.batch(5)
    a, b = (SIDES[side][0](objective, batch) for _ in range(2))
    v = vectors(a.shape[0])
    torch.manual_seed(3)
    first = a @ v
    torch.manual_seed(4)
    assert not torch.allclose(first, b @ v) or torch.equal(a @ v, first)
    assert torch.equal(a @ v, first)


@each_side
def test_dropout_inside_attention_is_one_symmetric_function(side):
    layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.3, batch_first=True)
    model = zoo.Flow(lambda m, x: m.out(m.layer(x).mean(1)), layer=layer, out=nn.Linear(4, 3)).double()
    batch = (torch.randn(4, 3, 4, dtype=F64), torch.randint(3, (4,)))
    operator = SIDES[side][0](quadric.Objective(model, nn.CrossEntropyLoss()), batch)
    v = vectors(operator.shape[0], 2)
    first = operator @ v
    assert_close(operator @ v, first, 1e-14)
    dense = operator.to_dense()
    assert_close(dense, dense.T, 1e-11, "the transpose")
    assert_close(dense @ v, first, 1e-12)
    if side == "ggn":
        assert torch.linalg.eigvalsh(dense).min() >= -1e-12 * dense.norm()


# ── plain functions, and what is refused ─────────────────────────────────────────────────────────────────────────────


def test_hessian_of_a_plain_function():
    x = torch.randn(5, dtype=F64)

    def fun(x):
        return (x**4).sum() + x.prod() + (x[:2].sin() @ x[1:3])

    operator = quadric.Hessian(quadric.Objective.of(fun, x))
    want = torch.autograd.functional.hessian(fun, x)
    assert_close(operator.to_dense(), want)
    assert_close(operator @ vectors(5), want @ vectors(5))


def test_hessian_of_a_plain_function_of_a_matrix():
    x = torch.randn(2, 3, dtype=F64)

    def fun(x):
        return (x @ x.T).exp().sum()

    want = torch.autograd.functional.hessian(fun, x).reshape(6, 6)
    assert_close(quadric.Hessian(quadric.Objective.of(fun, x)).to_dense(), want)
    assert not x.requires_grad


@each_side
def test_embedding_bag_is_refused_by_name(side):
    model = zoo.Flow(lambda m, x: m.out(m.bag(x)), bag=nn.EmbeddingBag(5, 3), out=nn.Linear(3, 3)).double()
    batch = (torch.randint(5, (4, 2)), torch.randint(3, (4,)))
    with pytest.raises(REFUSALS, match=r"(?s)EmbeddingBag") as error:
        products(side, model, nn.CrossEntropyLoss(), batch)
    assert re.search(r"\bbag\b", str(error.value)), "the error should name the module"


@each_side
@pytest.mark.parametrize("where", ["inputs", "targets", "weights"])
def test_nan_is_refused(side, where):
    model, (x, t) = nn.Linear(3, 2).double(), (torch.randn(4, 3, dtype=F64), torch.randn(4, 2, dtype=F64))
    with torch.no_grad():
        {"inputs": x, "targets": t, "weights": model.weight}[where][0, 0] = float("nan")
    with pytest.raises((ValueError, ArithmeticError, RuntimeError), match=r"(?i)nan|finite"):
        products(side, model, nn.MSELoss(), (x, t))


@each_side
def test_no_model_outputs_depend_on_the_chosen_parameters(side):
    """Idle parameters have zero curvature; that is an answer, not an error."""
    model = zoo.Flow(lambda m, x: m.used(x), used=nn.Linear(3, 2), idle=nn.Linear(3, 2)).double()
    batch = (torch.randn(4, 3, dtype=F64), torch.randn(4, 2, dtype=F64))
    operator = SIDES[side][0](quadric.Objective(model, nn.MSELoss(), params=["idle.*"]), batch)
    assert_close(operator @ vectors(8), torch.zeros(8, dtype=F64))


@pytest.mark.parametrize("marked", [True, False])
def test_a_gauss_newton_matrix_is_claimed_definite_where_the_loss_is_known_to_be_convex(marked):
    def loss_fn(outputs, targets):
        return (3 * outputs).cos().mean()

    loss_fn.convex = marked
    model, batch = zoo.CASES["dense/mlp"].build()[0], zoo.CASES["dense/mlp"].batch()
    assert quadric.GGN(quadric.Objective(model, loss_fn), batch).positive_semidefinite == marked
    for known in (nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.HuberLoss()):
        assert quadric.Objective(model, known).loss.convex
    residuals = quadric.Objective.of(lambda x: x**2, torch.ones(3))
    assert quadric.GGN(residuals).positive_semidefinite
