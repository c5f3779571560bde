"""`objective.on(batch)`: what torch's closures do, once per step; averages; and what is refused."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import quadric
import zoo
from oracles import assert_close, gradient, loss, normaliser, select

F64 = torch.float64
REFUSED = (ValueError, TypeError, RuntimeError)

FIRST_ORDER = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def network(dtype=torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(8, 3)
        ).to(dtype)


def loader(dtype=torch.float32) -> DataLoader:
    generator = torch.Generator().manual_seed(2)
    x, t = torch.randn(23, 4, generator=generator).to(dtype), torch.randint(3, (23,), generator=generator)
    return DataLoader(TensorDataset(x, t), batch_size=8)  # the last batch is ragged


def flat_grad(model) -> torch.Tensor:
    return torch.cat([p.grad.reshape(-1) for p in select(model).values()])


def state(model) -> dict:
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same_state(a, b):
    a, b = (x if isinstance(x, dict) else x.state_dict() for x in (a, b))
    for name in a:
        assert torch.equal(a[name], b[name]), f"{name} differs"


# ── the one training loop ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_first_order_methods_train_as_by_hand_bit_for_bit(name):
    """Dropout and BatchNorm included: the closure draws from torch's generator as a plain loop does."""
    ours, by_hand, loss_fn = network(), network(), nn.CrossEntropyLoss()
    optimizer, plain = FIRST_ORDER[name](ours.parameters()), FIRST_ORDER[name](by_hand.parameters())
    objective = quadric.Objective(ours, loss_fn)
    torch.manual_seed(7)
    got = [optimizer.step(objective.on(batch)).item() for _ in range(3) for batch in loader()]
    ours_random = torch.get_rng_state()
    torch.manual_seed(7)
    want = []
    for _ in range(3):
        for x, t in loader():
            plain.zero_grad()
            value = loss_fn(by_hand(x), t)
            value.backward()
            plain.step()
            want.append(value.item())
    assert got == want
    assert_same_state(ours, by_hand)
    assert torch.equal(ours_random, torch.get_rng_state())


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_trains_as_by_hand(line_search):
    def net():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()

    ours, by_hand, loss_fn = net(), net(), nn.CrossEntropyLoss()
    make = lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4, line_search_fn=line_search)  # noqa: E731
    optimizer, plain, objective = make(ours.parameters()), make(by_hand.parameters()), quadric.Objective(ours, loss_fn)
    for x, t in loader(F64):
        got = optimizer.step(objective.on((x, t)))

        def closure(x=x, t=t):
            plain.zero_grad()
            value = loss_fn(by_hand(x), t)
            value.backward()
            return value

        assert_close(got.detach(), plain.step(closure).detach(), 1e-12)
    for p, q in zip(ours.parameters(), by_hand.parameters(), strict=True):
        assert_close(p.detach(), q.detach(), 1e-12)


def test_lbfgs_sees_one_function_under_dropout_and_batch_norm():
    """A line search needs the same function at every evaluation, and the statistics counted once a step."""
    model = network(F64)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    batch = next(iter(loader(F64)))
    closure = objective.on(batch)
    before = closure().item()
    optimizer.step(closure)
    assert closure().item() < before
    assert model[1].num_batches_tracked == 1


def test_closure_is_torch_s():
    model, loss_fn, (x, t) = network(), nn.CrossEntropyLoss(), next(iter(loader()))
    model.eval()
    for p in model.parameters():
        p.grad = torch.full_like(p, 100.0)
    value = quadric.Objective(model, loss_fn).on((x, t))()
    assert isinstance(value, torch.Tensor)
    assert value.shape == ()
    got = flat_grad(model)
    model.zero_grad()
    want = loss_fn(model(x), t)
    want.backward()
    assert torch.equal(value, want)
    assert torch.equal(got, flat_grad(model))


def test_closure_works_where_gradients_are_switched_off():
    """torch's `step` switches them off around the closure (and on again inside)."""
    model, batch = network(F64), next(iter(loader(F64)))
    with torch.no_grad():
        quadric.Objective(model, nn.CrossEntropyLoss()).on(batch)()
    assert flat_grad(model).norm() > 0


# ── once per step ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_further_evaluations_replay_the_random_numbers_and_leave_buffers():
    model, batch = network(F64), next(iter(loader(F64)))
    twin = copy.deepcopy(model)
    closure = quadric.Objective(model, nn.CrossEntropyLoss()).on(batch)
    torch.manual_seed(5)
    first = closure()
    after_one, random_after_one, grad = state(model), torch.get_rng_state(), flat_grad(model)
    assert model[1].num_batches_tracked == 1
    torch.manual_seed(5)
    twin(batch[0])
    assert torch.equal(torch.get_rng_state(), random_after_one), "the first evaluation draws as a plain forward does"
    assert_same_state(after_one, twin)
    torch.manual_seed(11)
    moved = torch.get_rng_state()
    for _ in range(3):
        assert torch.equal(closure(), first)
        assert torch.equal(flat_grad(model), grad)
    assert torch.equal(torch.get_rng_state(), moved), "replays leave the global random state"
    assert_same_state(after_one, model)


def test_a_model_s_own_generator_is_replayed_and_goes_on_once_a_step():
    class Noisy(nn.Linear):
        def __init__(self):
            super().__init__(3, 1)
            self.generator = torch.Generator().manual_seed(1)

        def forward(self, x):
            return super().forward(x) + torch.randn(len(x), 1, generator=self.generator)

    torch.manual_seed(0)
    model, data = Noisy(), (torch.randn(4, 3), torch.randn(4, 1))
    objective = quadric.Objective(model, nn.MSELoss())
    fresh = torch.Generator().manual_seed(1)
    for _ in range(2):
        closure = objective.on(data)
        noise = torch.randn(4, 1, generator=fresh)
        with torch.no_grad():
            expected = nn.functional.mse_loss(nn.functional.linear(data[0], model.weight, model.bias) + noise, data[1])
        assert {float(closure()) for _ in range(3)} == {float(expected)}
    before = model.generator.get_state()
    hessian = quadric.Hessian(objective, data)
    v = torch.randn(hessian.shape[1])
    assert torch.equal(hessian @ v, hessian @ v)
    assert torch.equal(model.generator.get_state(), before)
    several = quadric.Hessian(objective, [data, data])
    first = several @ v
    model(data[0])
    assert torch.equal(several @ v, first), "random numbers are fixed per operator"


def test_a_second_evaluation_for_second_derivatives_draws_the_same_of_a_model_s_own_generator():
    class Square(torch.autograd.Function):  # the tape does not see into it
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, slope):
            return 2 * ctx.saved_tensors[0] * slope

    class Noisy(nn.Linear):
        def __init__(self):
            super().__init__(3, 1, dtype=F64)
            self.generator = torch.Generator().manual_seed(1)

        def forward(self, x):
            noise = torch.randn(len(x), 1, generator=self.generator, dtype=F64)
            return Square.apply(super().forward(x) + noise)

    torch.manual_seed(0)
    model, data = Noisy(), (torch.randn(4, 3, dtype=F64), torch.randn(4, 1, dtype=F64))
    found = quadric.Hessian(quadric.Objective(model, nn.MSELoss()), data).to_dense()
    noise = torch.randn(4, 1, generator=torch.Generator().manual_seed(0), dtype=F64)

    def loss(w, b):
        return nn.functional.mse_loss((nn.functional.linear(data[0], w, b) + noise).square(), data[1])

    blocks = torch.autograd.functional.hessian(loss, (model.weight.detach(), model.bias.detach()))
    sizes = [3, 1]
    want = torch.cat([torch.cat([blocks[i][j].reshape(sizes[i], sizes[j]) for j in (0, 1)], 1) for i in (0, 1)])
    assert_close(found, want, 1e-12)


def test_further_evaluations_see_the_weights_as_they_are_now():
    model, batch = network(F64), next(iter(loader(F64)))
    closure = quadric.Objective(model, nn.CrossEntropyLoss()).on(batch)
    first = closure()
    with torch.no_grad():
        model[4].bias[0] += 1.0
    second = closure()
    assert not torch.equal(first, second)
    with torch.no_grad():
        model[4].bias[0] -= 1.0
    assert_close(closure().detach(), first.detach(), 1e-14)


def test_every_step_draws_anew():
    model, batch = network(F64), next(iter(loader(F64)))
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    assert len({objective.on(batch)().item() for _ in range(5)}) == 5
    assert model[1].num_batches_tracked == 5


def test_making_a_closure_evaluates_nothing():
    calls = []
    model = network()
    model.register_forward_hook(lambda *_: calls.append(1))
    batch, random = next(iter(loader())), torch.get_rng_state()
    quadric.Objective(model, nn.CrossEntropyLoss()).on(batch)
    assert not calls
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
def test_modes_are_the_user_s(mode):
    model = network().train(mode != "eval")
    if mode == "mixed":
        model[1].eval()
    modes = [m.training for m in model.modules()]
    seen = []
    model[1].register_forward_hook(lambda m, *_: seen.append(m.training))
    before = state(model)
    closure = quadric.Objective(model, nn.CrossEntropyLoss()).on(next(iter(loader())))
    closure()
    closure()
    assert [m.training for m in model.modules()] == modes
    assert set(seen) == {mode == "train"}
    if mode != "train":
        assert_same_state(before, model)


def test_our_optimisers_refuse_a_closure_of_an_earlier_step():
    model, (batch, other) = network(F64), list(loader(F64))[:2]
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = quadric.optim.CurveBall(objective)
    closure = objective.on(batch)
    optimizer.step(closure)
    optimizer.step(objective.on(other))
    before = state(model)
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)earlier|already|previous|stale|objective\.on"):
        optimizer.step(closure)
    assert_same_state(before, model)


def test_our_optimisers_refuse_the_closure_they_have_just_used():
    model, batch = network(F64), next(iter(loader(F64)))
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = quadric.optim.CurveBall(objective)
    closure = objective.on(batch)
    optimizer.step(closure)
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)earlier|already|previous|stale|objective\.on"):
        optimizer.step(closure)


@pytest.mark.parametrize("closure", [None, lambda: torch.tensor(1.0)], ids=["none", "a-plain-closure"])
def test_our_optimisers_say_what_closure_they_need(closure):
    optimizer = quadric.optim.CurveBall(quadric.Objective(network(), nn.CrossEntropyLoss()))
    with pytest.raises(REFUSED, match=r"(?i)objective\.on|closure"):
        optimizer.step(closure) if closure else optimizer.step()


# ── accumulation and averages ────────────────────────────────────────────────────────────────────────────────────────

ACCUMULATED = [
    n for n in zoo.names("loss/") if n not in ("loss/couples-examples", "loss/nll", "loss/lambda", "loss/function")
] + [
    "dense/mlp",
    "dense/tuple-of-inputs",
    "dense/dict-of-inputs",
    "conv/2d",
    "norm/layer",
    "rnn/lstm",
    "net/tied-embedding",
]


def joined(values):
    if isinstance(values[0], tuple):
        return tuple(joined(v) for v in zip(*values, strict=True))
    if isinstance(values[0], dict):
        return {k: joined([v[k] for v in values]) for k in values[0]}
    return torch.cat(values)


@pytest.mark.parametrize("name", ACCUMULATED)
def test_micro_batches_equal_the_large_batch(name):
    case = zoo.CASES[name]
    (model, loss_fn), batches = case.build(), case.batches(4, 1, 3)
    large = (joined([x for x, _ in batches]), joined([t for _, t in batches]))
    value = quadric.Objective(model, loss_fn).on(*batches)()
    assert_close(value.detach(), loss(model, loss_fn, [large]), 1e-12, "the loss")
    assert_close(flat_grad(model), gradient(model, loss_fn, [large]), 1e-11, "the gradient")


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_micro_batch_with_every_target_ignored_contributes_nothing(where):
    case = zoo.CASES["loss/cross-entropy-all"]
    (model, loss_fn), batches = case.build(), case.batches(4, 3)
    x, t = case.batch(2, seed=40)
    with_ignored = list(batches)
    with_ignored.insert(where, (x, torch.full_like(t, -100)))
    value = quadric.Objective(model, loss_fn).on(*with_ignored)()
    assert_close(value.detach(), loss(model, loss_fn, batches), 1e-12, "the loss")
    assert_close(flat_grad(model), gradient(model, loss_fn, batches), 1e-12, "the gradient")


def test_sequences_of_different_length_weigh_by_elements():
    model = nn.Linear(2, 2).double()
    batches = [(torch.randn(2, k, 2, dtype=F64), torch.randn(2, k, 2, dtype=F64)) for k in (5, 1)]
    value = quadric.Objective(model, nn.MSELoss()).on(*batches)()
    total = sum(((model(x) - t) ** 2).sum() for x, t in batches) / sum(t.numel() for _, t in batches)
    assert_close(value.detach(), total.detach(), 1e-13)


def test_other_losses_weigh_by_examples():
    model = nn.Linear(2, 2).double()
    batches = [(torch.randn(n, k, 2, dtype=F64), torch.randn(n, k, 2, dtype=F64)) for n, k in ((2, 5), (3, 1))]
    value = quadric.Objective(model, lambda y, t: ((y - t) ** 2).sum((1, 2)).mean()).on(*batches)()
    total = sum(((model(x) - t) ** 2).sum() for x, t in batches) / 5
    assert_close(value.detach(), total.detach(), 1e-13)


def test_functional_losses_of_torch_are_weighed_as_the_modules_are():
    case = zoo.CASES["loss/cross-entropy-ignore"]
    (model, loss_fn), batches = case.build(), case.batches(4, 1, 3)
    value = quadric.Objective(model, F.cross_entropy).on(*batches)()
    assert_close(value.detach(), loss(model, loss_fn, batches), 1e-12)


def test_micro_batches_update_buffers_once_each_and_replay():
    model, batches = network(F64), list(loader(F64))
    twin = copy.deepcopy(model)
    closure = quadric.Objective(model, nn.CrossEntropyLoss()).on(*batches)
    torch.manual_seed(3)
    first = closure()
    torch.manual_seed(3)
    for x, _ in batches:
        twin(x)
    assert_same_state(model, twin)
    torch.manual_seed(4)
    assert torch.equal(closure(), first)
    assert_same_state(model, twin)


def test_weights_of_the_oracle():
    """The normalisers that the comparisons above rest on, by hand."""
    y, t = torch.randn(4, 3, dtype=F64), torch.tensor([0, 1, 1, 2])
    w = torch.tensor([0.5, 2.0, 1.0], dtype=F64)
    assert normaliser(nn.CrossEntropyLoss(), None, y, t) == 4
    assert normaliser(nn.CrossEntropyLoss(ignore_index=1), None, y, t) == 2
    assert normaliser(nn.CrossEntropyLoss(weight=w), None, y, t) == 5.5
    assert normaliser(nn.CrossEntropyLoss(weight=w, ignore_index=1), None, y, t) == 1.5
    assert normaliser(nn.MSELoss(), None, y, y) == 12
    assert normaliser(lambda y, t: y.sum(), None, y, y) == 4


@pytest.mark.parametrize(
    "loss_type", [nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss, nn.SmoothL1Loss, nn.PoissonNLLLoss]
)
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_other_reductions_are_refused_with_the_fix(loss_type, reduction):
    with pytest.raises(ValueError, match=rf"(?s)(?=.*{reduction})(?=.*mean)"):
        quadric.Objective(network(), loss_type(reduction=reduction))


# ── how a batch comes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("name", ["dense/mlp", "dense/tuple-of-inputs", "dense/dict-of-inputs", "net/tied-embedding"])
def test_inputs_and_batches_of_every_kind(name, kind):
    case = zoo.CASES[name]
    (model, loss_fn), batch = case.build(), case.batch(2)
    value = quadric.Objective(model, loss_fn).on(kind(batch))()
    assert_close(value.detach(), loss(model, loss_fn, batch), 1e-13)
    assert_close(flat_grad(model), gradient(model, loss_fn, batch), 1e-13)


def test_a_dictionary_of_lists_of_inputs_is_not_needed_for_one_example():
    case = zoo.CASES["dense/mlp"]
    (model, loss_fn), batch = case.build(), case.batch(1)
    assert_close(quadric.Objective(model, loss_fn).on(batch)().detach(), loss(model, loss_fn, batch), 1e-13)


@pytest.mark.parametrize("patterns", [["0.*"], ["*.bias"], "4.*", ["0.weight", "2.*"]], ids=str)
def test_parameter_subsets(patterns):
    case = zoo.CASES["dense/mlp"]
    (model, loss_fn), batch = case.build(), case.batch()
    objective = quadric.Objective(model, loss_fn, params=patterns)
    chosen = select(model, patterns)
    before = state(model)
    torch.optim.SGD(chosen.values(), lr=1.0).step(objective.on(batch))
    step = torch.cat([(before[n] - p.detach()).reshape(-1) for n, p in chosen.items()])
    case_model, _ = case.build()
    assert_close(step, gradient(case_model, loss_fn, batch, patterns), 1e-12)
    for name, p in model.named_parameters():
        if name not in chosen:
            assert torch.equal(p, before[name])
            assert p.grad is None
    assert objective.space.flatten(list(chosen.values())).numel() == step.numel()


def test_space_flattens_and_unflattens():
    model = network(F64)
    space = quadric.Objective(model, nn.CrossEntropyLoss()).space
    flat = space.flatten([p.detach() for p in model.parameters()])
    assert torch.equal(flat, nn.utils.parameters_to_vector(model.parameters()))
    parts = space.unflatten(flat)
    parts = list(parts.values()) if isinstance(parts, dict) else list(parts)
    assert all(torch.equal(a, b) for a, b in zip(parts, model.parameters(), strict=True))
    with pytest.raises(ValueError, match=rf"{flat.numel()}"):
        space.unflatten(flat[:-1])


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_trainable_parameters():
    with pytest.raises(ValueError, match=r"(?i)trainable|requires_grad"):
        quadric.Objective(network().requires_grad_(False), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"(?i)parameter"):
        quadric.Objective(nn.ReLU(), nn.CrossEntropyLoss())


def test_a_pattern_that_matches_nothing():
    with pytest.raises(ValueError, match=r"(?s)encoder"):
        quadric.Objective(network(), nn.CrossEntropyLoss(), params=["0.*", "encoder.*"])


def test_not_a_model_or_not_a_loss():
    with pytest.raises((TypeError, ValueError), match=r"(?i)module|model"):
        quadric.Objective("network", nn.CrossEntropyLoss())
    with pytest.raises((TypeError, ValueError), match=r"(?i)loss|callable"):
        quadric.Objective(network(), "cross-entropy")


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda y, t: (y - t) ** 2,
        lambda y, t: ((y - t) ** 2).mean(0),
        lambda y, t: 1.0,
        lambda y, t: (y.mean(), t.mean()),
    ],
    ids=["elements", "vector", "number", "tuple"],
)
def test_loss_that_is_not_a_scalar(loss_fn):
    objective = quadric.Objective(nn.Linear(3, 2), loss_fn)
    with pytest.raises((ValueError, TypeError), match=r"(?i)scalar"):
        objective.on((torch.randn(4, 3), torch.randn(4, 2)))()


@pytest.mark.parametrize(
    ("loss_fn", "targets"),
    [
        pytest.param(nn.CrossEntropyLoss(), torch.zeros(5, dtype=torch.long), id="cross-entropy"),
        pytest.param(nn.MSELoss(), torch.zeros(5, 2), id="mse"),
        pytest.param(nn.MSELoss(), torch.zeros(1, 2), id="mse-that-would-broadcast"),
        pytest.param(lambda y, t: ((y - t) ** 2).mean(), torch.zeros(1, 2), id="function-that-would-broadcast"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_inputs_and_targets_disagree(loss_fn, targets):
    objective = quadric.Objective(nn.Linear(3, 2), loss_fn)
    with pytest.raises(ValueError, match=rf"(?s)(?=.*\b4\b)(?=.*\b{len(targets)}\b)"):
        objective.on((torch.randn(4, 3), targets))()


@pytest.mark.parametrize(
    "batch",
    [torch.randn(4, 3), (torch.randn(4, 3),), None, {"x": torch.randn(4, 3)}, ()],
    ids=["tensor", "one", "none", "dict", "empty"],
)
def test_not_a_batch(batch):
    objective = quadric.Objective(nn.Linear(3, 2), nn.MSELoss())
    with pytest.raises((ValueError, TypeError), match=r"(?i)inputs, ?targets|batch"):
        objective.on(batch)()


def test_no_batch():
    with pytest.raises((ValueError, TypeError), match=r"(?i)batch"):
        quadric.Objective(nn.Linear(3, 2), nn.MSELoss()).on()()


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_mixed_devices(where):
    objective = quadric.Objective(nn.Linear(3, 2), nn.MSELoss())
    x, t = torch.randn(4, 3), torch.randn(4, 2)
    batch = (x.to("meta"), t) if where == "inputs" else (x, t.to("meta"))
    with pytest.raises((ValueError, TypeError), match=r"(?i)device.*|meta"):
        objective.on(batch)()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_mixed_devices_on_a_gpu():
    objective = quadric.Objective(nn.Linear(3, 2).cuda(), nn.MSELoss())
    with pytest.raises((ValueError, TypeError), match=r"(?s)(?=.*cpu)(?=.*cuda)"):
        objective.on((torch.randn(4, 3), torch.randn(4, 2)))()


def test_a_model_on_two_devices():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises((ValueError, TypeError), match=r"(?i)device"):
        quadric.Objective(model, nn.MSELoss()).on((torch.randn(4, 3), torch.randn(4, 2)))()


def test_mixed_dtypes():
    objective = quadric.Objective(nn.Linear(3, 2), nn.MSELoss())
    with pytest.raises((ValueError, TypeError), match=r"(?s)(?=.*float32)(?=.*float64)|dtype"):
        objective.on((torch.randn(4, 3, dtype=F64), torch.randn(4, 2)))()


def test_an_error_of_the_model_s_own_comes_through():
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, x):
            raise KeyError("a key of the user's")

    objective = quadric.Objective(Breaks(), nn.MSELoss())
    with pytest.raises(KeyError, match="a key of the user's"):
        objective.on((torch.randn(4, 3), torch.randn(4, 2)))()


@pytest.mark.parametrize("where", ["inputs", "targets", "weights"])
def test_nan_never_reaches_the_weights_through_our_optimiser(where):
    """An error or a refused step (with its warning); either way nothing is lost."""
    model, x, t = network(F64), torch.randn(6, 4, dtype=F64), torch.randn(6, 3, dtype=F64)
    objective = quadric.Objective(model, nn.MSELoss())
    optimizer = quadric.optim.CurveBall(objective)
    optimizer.step(objective.on((x, t)))
    with torch.no_grad():
        {"inputs": x, "targets": t, "weights": model[0].bias}[where].view(-1)[0] = float("nan")
    before = state(model)
    with pytest.raises((quadric.StepRejected, ValueError, RuntimeError, ArithmeticError), match=r"(?i)nan|finite"):
        optimizer.step(objective.on((x, t)))  # the test settings turn the warning into an error
    for name, value in model.state_dict().items():
        assert torch.equal(torch.nan_to_num(value, 77.0), torch.nan_to_num(before[name], 77.0)), f"{name} changed"
