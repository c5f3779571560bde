"""Nothing goes stale: whatever changes between two products on one operator is honoured by the second."""

import pytest
import torch
from torch import nn

import quadric
import zoo
from oracles import assert_close, ggn, hessian

F64 = torch.float64
SIDES = {"ggn": (quadric.GGN, ggn), "hessian": (quadric.Hessian, hessian)}
pytestmark = pytest.mark.parametrize("side", SIDES)


def vectors(n, *k, dtype=F64):
    return torch.randn(n, *k, dtype=F64, generator=torch.Generator().manual_seed(5)).to(dtype)


class Watch:
    """One operator, checked against a fresh oracle as often as asked; `changed` insists that the answer moved."""

    def __init__(self, side, model, loss_fn, data, params=None):
        operator, self.oracle = SIDES[side]
        options = {} if params is None else {"params": params}
        self.model, self.loss_fn, self.data, self.params = model, loss_fn, data, params
        self.operator = operator(quadric.Objective(model, loss_fn, **options), data)
        self.last = None
        self.check()
        self.check()  # by now whatever is retained is retained

    def check(self, changed=None):
        matrix = self.oracle(self.model, self.loss_fn, self.data, self.params)
        v = vectors(len(matrix), 2)
        if changed is not None:
            assert ((matrix - self.last).norm() > 1e-6 * self.last.norm()) == changed, (
                "the test's change is not what it claims"
            )
        self.last = matrix
        assert_close(self.operator @ v[:, 0], matrix @ v[:, 0], what="a product after the change")
        assert_close(self.operator @ v, matrix @ v, what="a product with two vectors after the change")

    def changed(self):
        self.check(changed=True)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.scale, self.depth, self.act = 1.0, 1, torch.tanh
        self.options = {"shift": 0.0}
        self.factor = torch.ones(5, dtype=F64)  # a tensor that is neither parameter nor buffer

    def forward(self, x):
        h = self.a(x)
        for _ in range(self.depth):
            h = self.act(self.scale * h * self.factor + self.options["shift"])
        return self.b(h)


@pytest.fixture(params=["batch", "batches"])
def data(request):
    case = zoo.CASES["dense/mlp"]
    return case.batch(4) if request.param == "batch" else case.batches(4, 3)


@pytest.fixture
def one_batch():
    return zoo.CASES["dense/mlp"].batch(4)


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_place(model, x, t):
    with torch.no_grad():
        model[0].weight.mul_(1.5)


def _one_entry(model, x, t):
    with torch.no_grad():
        model[2].bias[1] += 0.7


def _data_assigned(model, x, t):
    model[0].weight.data = model[0].weight.data * 1.5


def _data_in_place(model, x, t):
    model[0].weight.data.mul_(1.5)


def _data_one_entry(model, x, t):
    model[0].weight.data[0, 0] = 3.0


def _through_numpy(model, x, t):
    model[0].weight.detach().numpy()[0, 0] = 3.0


def _load_state_dict(model, x, t):
    model.load_state_dict({k: v * 1.5 for k, v in model.state_dict().items()})


def _optimiser_step(model, x, t):
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    nn.CrossEntropyLoss()(model(x), t).backward()
    sgd.step()
    sgd.zero_grad()


def _vector_to_parameters(model, x, t):
    nn.utils.vector_to_parameters(1.5 * nn.utils.parameters_to_vector(model.parameters()).detach(), model.parameters())


def _swap_twice(model, x, t):
    """Back to the same storage and version, with other values in it."""
    kept = model[0].weight.data.clone()
    model[0].weight.data.copy_(kept + 0.3)


WEIGHTS = [
    _in_place,
    _one_entry,
    _data_assigned,
    _data_in_place,
    _data_one_entry,
    _through_numpy,
    _load_state_dict,
    _optimiser_step,
    _vector_to_parameters,
    _swap_twice,
]


@pytest.mark.parametrize("change", WEIGHTS, ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("several", [False, True], ids=["batch", "batches"])
def test_weights(side, change, several):
    case = zoo.CASES["dense/mlp"]
    model, loss_fn = case.build()
    watch = Watch(side, model, loss_fn, case.batches(4, 3) if several else case.batch(4))
    change(model, *case.batch(4))
    watch.changed()


def test_weights_back_and_forth(side, one_batch):
    model, loss_fn = zoo.CASES["dense/mlp"].build()
    watch = Watch(side, model, loss_fn, one_batch)
    kept = model[0].weight.detach().clone()
    for value in (kept + 1, kept, kept - 1, kept):
        model[0].weight.data.copy_(value)
        watch.check()


def test_weights_changed_in_place_and_back_between_two_products(side, one_batch):
    """The values are as they were, but autograd counts changes, and lets no graph be used over one."""
    model, loss_fn = zoo.CASES["dense/mlp"].build()
    watch = Watch(side, model, loss_fn, one_batch)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
            p.mul_(0.5)
    watch.check(changed=False)


def test_weights_outside_the_chosen_parameters(side, data):
    """A frozen or unchosen weight is part of the function as well."""
    model, loss_fn = zoo.CASES["dense/mlp"].build()
    watch = Watch(side, model, loss_fn, data, params=["4.*"])
    model[0].weight.data.mul_(1.5)
    watch.changed()
    model[2].bias.requires_grad_(False)
    with torch.no_grad():
        model[2].bias.add_(1.0)
    watch.changed()


def test_weights_of_a_network_with_batch_norm_in_train_mode(side):
    case = zoo.CASES["norm/batch-2d-train"]
    model, loss_fn = case.build()
    watch = Watch(side, model, loss_fn, case.batch())
    model[0].weight.data.add_(torch.randn_like(model[0].weight))
    watch.changed()


# ── what the model is, beyond its weights ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: setattr(m, "scale", 3.0), id="number"),
        pytest.param(lambda m: setattr(m, "depth", 3), id="loop-count"),
        pytest.param(lambda m: setattr(m, "act", torch.sigmoid), id="function"),
        pytest.param(lambda m: m.options.update(shift=0.7), id="dictionary"),
        pytest.param(lambda m: setattr(m, "factor", torch.full((5,), 0.5, dtype=F64)), id="tensor-replaced"),
        pytest.param(lambda m: m.factor.mul_(0.5), id="tensor-in-place"),
    ],
)
def test_attributes(side, change, data):
    model = Scaled().double()
    watch = Watch(side, model, nn.CrossEntropyLoss(), data)
    change(model)
    watch.changed()


def test_module_replaced(side, one_batch):
    model, loss_fn = zoo.CASES["dense/mlp"].build()
    watch = Watch(side, model, loss_fn, one_batch)
    model[1] = nn.Sigmoid()
    watch.changed()


def test_hook_added(side, one_batch):
    model, loss_fn = zoo.CASES["dense/mlp"].build()
    watch = Watch(side, model, loss_fn, one_batch)
    handle = model[1].register_forward_hook(lambda module, args, out: out * 2)
    watch.changed()
    handle.remove()
    watch.changed()


def test_mode_of_batch_norm(side, data):
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double().train()
    watch = Watch(side, model, nn.CrossEntropyLoss(), data)
    model.eval()
    watch.changed()
    model.train()
    watch.changed()


def test_buffers_of_batch_norm_in_eval_mode(side, data):
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double().eval()
    watch = Watch(side, model, nn.CrossEntropyLoss(), data)
    model[1].running_var.mul_(3.0)
    watch.changed()
    model[1].running_mean = torch.ones(5, dtype=F64)
    watch.changed()
    model.train()
    model(data[0] if isinstance(data, tuple) else data[0][0])  # a plain forward moves the statistics
    model.eval()
    watch.changed()
    model[1].eps = 0.5
    watch.changed()


def test_mode_of_dropout(side, one_batch):
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)).double().eval()
    watch = Watch(side, model, nn.CrossEntropyLoss(), one_batch)
    model.train()
    v = vectors(len(watch.last))
    dropped = watch.operator @ v
    assert not torch.allclose(dropped, watch.last @ v)
    assert torch.equal(watch.operator @ v, dropped)
    model.eval()
    watch.check(changed=False)


def test_probability_of_dropout(side, one_batch):
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.0), nn.Linear(5, 3)).double().train()
    watch = Watch(side, model, nn.CrossEntropyLoss(), one_batch)
    model[2].p = 0.5
    v = vectors(len(watch.last))
    assert not torch.allclose(watch.operator @ v, watch.last @ v)
    model[2].p = 1.0
    watch.changed()  # everything dropped: no randomness left, the oracle applies
    model[2].p = 0.0
    watch.changed()


def test_mode_of_dropout_changes_nothing_else(side):
    case = zoo.CASES["norm/dropout-zero"]
    model, loss_fn = case.build()
    watch = Watch(side, model, loss_fn, case.batch())
    model.eval()
    watch.check(changed=False)


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda loss: loss.weight.copy_(torch.tensor([3.0, 0.2, 1.0])), id="weights-in-place"),
        pytest.param(
            lambda loss: setattr(loss, "weight", torch.tensor([3.0, 0.2, 1.0], dtype=F64)), id="weights-replaced"
        ),
        pytest.param(lambda loss: setattr(loss, "label_smoothing", 0.4), id="smoothing"),
        pytest.param(lambda loss: setattr(loss, "ignore_index", 1), id="ignore-index"),
    ],
)
def test_cross_entropy(side, change, data):
    loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 1.2], dtype=F64), label_smoothing=0.1)
    model, _ = zoo.CASES["dense/mlp"].build()
    batches = [data] if isinstance(data, tuple) else data
    for _, t in batches:
        t[:3] = torch.tensor([0, 1, 2])
    watch = Watch(side, model, loss_fn, data)
    change(loss_fn)
    watch.changed()


def test_loss_of_the_user_s_own(side, one_batch):
    class Loss(nn.Module):
        power = 2.0

        def forward(self, y, t):
            return (y.log_softmax(1).gather(1, t[:, None]).neg() ** self.power).mean()

    model, _ = zoo.CASES["dense/mlp"].build()
    loss_fn = Loss()
    watch = Watch(side, model, loss_fn, one_batch)
    loss_fn.power = 3.0
    watch.changed()


# ── data and dtype ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_batch_of_another_shape_in_the_same_list(side):
    case = zoo.CASES["conv/2d"]
    model, loss_fn = case.build()
    batches = case.batches(4, 3)
    watch = Watch(side, model, loss_fn, batches)
    batches[1] = case.batch(2, seed=30)
    watch.changed()
    batches.append(case.batch(1, seed=31))
    watch.changed()
    del batches[0]
    watch.changed()


def test_sequences_of_another_length(side):
    case = zoo.CASES["rnn/gru"]
    model, loss_fn = case.build()
    batches = case.batches(4, 3)
    watch = Watch(side, model, loss_fn, batches)
    batches[0] = (torch.randn(2, 5, 2, dtype=F64), torch.randint(3, (2,)))
    watch.changed()


def test_batch_changed_in_place(side, data):
    model, loss_fn = zoo.CASES["dense/mlp"].build()
    watch = Watch(side, model, loss_fn, data)
    x, _ = data if isinstance(data, tuple) else data[0]
    x.mul_(2.0)
    watch.changed()


def test_dtype_of_the_model(side):
    """Whole-number inputs fit any dtype, so the same operator serves the model before and after `double()`."""
    case = zoo.CASES["net/tied-embedding"]
    (model, loss_fn), (x, t) = case.build(torch.float32), case.batch(5)
    operator, oracle = SIDES[side][0](quadric.Objective(model, loss_fn), (x, t)), SIDES[side][1]
    n = operator.shape[0]
    assert operator.dtype == torch.float32
    single = operator @ vectors(n, dtype=torch.float32)
    assert single.dtype == torch.float32
    model.double()
    assert operator.dtype == F64
    want = oracle(model, loss_fn, (x, t)) @ vectors(n)
    assert_close(operator @ vectors(n), want)
    assert_close(single, want, 1e-4)
    model.float()
    again = operator @ vectors(n, dtype=torch.float32)
    assert again.dtype == torch.float32
    assert_close(again, want, 1e-4)


def test_matrix_and_vector_products_interleaved_with_changes(side, one_batch):
    model = Scaled().double()
    watch = Watch(side, model, nn.CrossEntropyLoss(), one_batch)
    for i in range(4):
        model.scale = 1.0 + i
        watch.check()
        model.a.weight.data.mul_(0.9)
        watch.check()
        model.train(i % 2 == 0)
        watch.check()
