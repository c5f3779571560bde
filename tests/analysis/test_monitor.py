"""The monitor: what it measures against dense matrices, what it leaves alone, what it costs, what it writes."""

import json
import math
import random
import re
import warnings
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import oracles.derivatives as dense
import quadric
from quadric import Monitor, Objective, QuadricWarning
from quadric.analysis import Measurement

F64 = torch.float64


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).to(F64)


def batch(examples=16, features=(4,), seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, *features, dtype=dtype, generator=generator)
    return x, torch.randint(0, 3, (examples,), generator=generator)


def objective():
    return Objective(small(), nn.CrossEntropyLoss())


def everything(curvature="hessian"):
    """So many products that the Lanczos basis spans the space of `small`, 27 parameters."""
    return {"budget": None, "products": 45, "curvature": curvature}


# ---- values


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_values_are_those_of_dense_matrices(curvature):
    model, data = small(), batch()
    got = Monitor(Objective(model, nn.CrossEntropyLoss()), **everything(curvature)).measure(data)
    matrix = getattr(dense, curvature)(model, nn.CrossEntropyLoss(), data)
    g = dense.gradient(model, nn.CrossEntropyLoss(), data)
    values, vectors = torch.linalg.eigh(matrix)
    assert got.loss == pytest.approx(float(dense.loss(model, nn.CrossEntropyLoss(), data)))
    assert got.gradient_norm == pytest.approx(float(g.norm()))
    assert got.largest == pytest.approx(float(values[-1]))
    assert got.residual < 1e-10
    assert got.trace == pytest.approx(float(matrix.trace()))
    along = float(g @ matrix @ g / (g @ g))
    assert got.gradient_curvature == pytest.approx(along)
    assert got.alignment == pytest.approx(along / float(values[-1]))
    assert got.top_share == pytest.approx(float((g @ vectors[:, -1]) ** 2 / (g @ g)))
    assert got.noise_scale == pytest.approx(got.noise_trace / got.signal)
    assert got.problem is None


def test_with_few_products_values_are_within_what_they_say():
    model, data = small(), batch()
    matrix = dense.hessian(model, nn.CrossEntropyLoss(), data)
    values = torch.linalg.eigvalsh(matrix)
    held = []
    for seed in range(40):
        got = Monitor(Objective(model, nn.CrossEntropyLoss()), budget=None, seed=seed).measure(data)
        assert got.products == 10
        assert got.largest <= float(values[-1]) * (1 + 1e-12)
        assert float((values - got.largest).abs().min()) <= got.residual
        held.append(abs(got.trace - float(matrix.trace())) <= 4.3 * got.trace_error)  # Student's t, 2 degrees, 95 %
    assert sum(held) >= 34


def test_micro_batches_are_one_step():
    x, t = batch()
    got = Monitor(objective(), **everything()).measure([(x[:4], t[:4]), (x[4:], t[4:])])
    whole = Monitor(objective(), **everything()).measure((x, t))
    for name in ("loss", "gradient_norm", "largest", "trace", "alignment"):
        assert getattr(got, name) == pytest.approx(getattr(whole, name))


def test_it_starts_near_the_last_eigenvector_and_sees_another_overtake():
    bends = torch.linspace(0.1, 1.0, 400, dtype=F64)
    bends[0] = 1.2
    function = Objective.of(lambda x: 0.5 * (bends * x * x).sum(), torch.ones(400, dtype=F64))
    monitor = Monitor(function, budget=None)
    residuals = [monitor.measure().residual for _ in range(6)]
    assert residuals[-1] < 0.2 * residuals[0]
    assert monitor.history[-1].largest == pytest.approx(1.2, rel=1e-2)
    assert monitor.history[-1].noise_scale is None  # a plain function has no examples
    bends[7] = 2.0
    assert [monitor.measure() for _ in range(3)][-1].largest == pytest.approx(2.0, rel=1e-2)


def test_a_gradient_along_one_eigenvector_does_not_hide_the_others():
    bends = torch.tensor([1.0, -3.0, 2.0, 4.0], dtype=F64)
    function = Objective.of(lambda x: 0.5 * (bends * x * x).sum(), torch.tensor([1.0, 0, 0, 0], dtype=F64))
    got = Monitor(function, budget=None).measure()
    assert (got.largest, got.gradient_curvature, got.top_share) == pytest.approx((4.0, 1.0, 0.0))
    assert got.trace == pytest.approx(4.0)


def test_what_the_optimiser_says_of_its_step_is_kept():
    own = objective()
    optimizer = quadric.optim.CurveBall(own)
    for _ in range(2):
        optimizer.step(own.on(batch()))
    got = Monitor(own, budget=None).measure(batch(), optimizer)
    last = optimizer.last_step
    assert (got.damping, got.momentum, got.step_size, got.lr) == (
        last.damping, last.momentum, last.step_size, 1.0,
    )  # fmt: skip
    plain = Monitor(own, budget=None).measure(batch(), torch.optim.SGD(own.model.parameters(), lr=0.25))
    assert (plain.damping, plain.momentum, plain.step_size, plain.lr) == (None, None, None, 0.25)


# ---- training stays as it is


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
    )


def state_after(name, watched, plain=False):
    """Everything that six steps leave behind."""
    model = network()
    own = Objective(model, nn.CrossEntropyLoss())
    optimizer = quadric.optim.create(name, own)
    monitor = Monitor(own, every=2, budget=None) if watched else None
    torch.manual_seed(7)
    for i in range(6):
        data = batch(16, (1, 6, 6), seed=i, dtype=torch.float32)
        if plain:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data[0]), data[1]).backward()
            if monitor is not None:
                monitor.step(data, optimizer)
            optimizer.step()
        else:
            optimizer.step(own.on(data))
            if monitor is not None:
                monitor.step(data, optimizer)
    assert monitor is None or [m.step for m in monitor.history] == [1, 3, 5]
    return {
        "model": model.state_dict(),
        "grad": [None if p.grad is None else p.grad for p in model.parameters()],
        "mode": [m.training for m in model.modules()],
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(("name", "plain"), [("sgd", False), ("sgd", True), ("adam", True), ("curveball", False)])
def test_training_is_the_same_to_the_bit(name, plain):
    assert same(state_after(name, watched=True, plain=plain), state_after(name, watched=False, plain=plain))


# ---- cost


class Clock:
    """Stands still but for what sets it; a loss that is evaluated takes `seconds`."""

    def __init__(self):
        self.now, self.seconds = 0.0, 1.0

    def __call__(self):
        return self.now

    def loss(self, outputs, targets):
        self.now += self.seconds
        return nn.functional.cross_entropy(outputs, targets)


@pytest.mark.parametrize("budget", ["5%", 0.2])
def test_its_cost_keeps_within_the_share(budget):
    clock = Clock()
    monitor = Monitor(Objective(small(), lambda y, t: clock.loss(y, t)), budget=budget, clock=clock)
    share = 0.05 if budget == "5%" else budget
    for _ in range(2000):
        clock.now += 1.0
        monitor.step(batch())
        assert monitor.share <= share
    spent = monitor.history[-1].seconds
    assert spent > 3
    assert len(monitor.history) >= 0.6 * share * 2000 / spent
    assert monitor.history[-1].training_seconds <= 2000
    apart = [b.step - a.step for a, b in pairwise(monitor.history)]
    assert max(apart) - min(apart) <= 1
    assert sum(m.seconds for m in monitor.history) == pytest.approx(monitor.history[-1].monitor_seconds)


def test_the_share_is_found_again_after_a_measurement_that_took_longer():
    clock = Clock()
    monitor = Monitor(Objective(small(), lambda y, t: clock.loss(y, t)), budget="20%", clock=clock)
    for i in range(3000):
        clock.now += 1.0
        clock.seconds = 10.0 if len(monitor.history) == 2 else 1.0
        monitor.step(batch())
        assert monitor.share <= 0.2 or len(monitor.history) == 3, i
    assert len(monitor.history) > 10


def test_every_is_a_least_spacing_and_measure_does_not_ask():
    clock = Clock()
    clock.seconds = 0.0
    monitor = Monitor(Objective(small(), nn.CrossEntropyLoss()), every=4, budget="50%", clock=clock)
    taken = []
    for i in range(12):
        clock.now += 1.0
        taken.append(monitor.step(batch()) is not None)
        if i == 1:
            monitor.measure(batch())
    assert [m.step for m in monitor.history] == [2, 6, 10]
    assert [i + 1 for i, done in enumerate(taken) if done] == [6, 10]


def test_without_time_there_is_no_measurement_and_the_summary_says_so():
    monitor = Monitor(objective(), clock=Clock())
    assert all(monitor.step(batch()) is None for _ in range(5))
    assert monitor.summary() == (
        "0 measurements in 5 steps, 0 % of the training's time: none has fitted into the budget yet; `measure` takes "
        "one at once."
    )


# ---- what goes wrong


@pytest.mark.parametrize(("value", "loss"), [(math.nan, "nan"), (math.inf, r"1\.2\d*")])
def test_what_is_not_finite_is_recorded_and_training_goes_on(tmp_path, value, loss):
    own = objective()
    monitor = Monitor(own, budget=None, path=tmp_path / "m.jsonl")
    x, t = batch()
    x[3, 1] = value
    got = monitor.step((x, t))
    assert got.gradient_norm is got.largest is got.noise_scale is None
    assert re.fullmatch(rf"The loss is {loss}, the norm of its gradient nan\.", got.problem)
    assert monitor.step(batch()).largest > 0
    assert Monitor.read(tmp_path / "m.jsonl") == list(monitor.history)


def test_a_product_that_is_not_finite_is_recorded():
    kink = Objective.of(lambda x: x.abs().pow(1.5).sum(), torch.zeros(3, dtype=F64))
    got = Monitor(kink, budget=None).measure()
    assert (got.loss, got.gradient_norm, got.largest) == (0.0, 0.0, None)
    assert got.problem == "A product with the curvature is not finite."


def test_what_the_model_does_not_allow_is_recorded_with_one_warning():
    own = Objective(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3).to(F64)), nn.CrossEntropyLoss())
    monitor = Monitor(own, budget=None)
    with pytest.warns(QuadricWarning, match=r"Monitor, step 1: No curvature: torch's second derivative of weight_norm"):
        got = monitor.step(batch())
    assert got.problem.startswith("No curvature: ")
    assert got.largest is None
    assert got.noise_trace > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert monitor.step(batch()).problem == got.problem


WRONG = [
    ({"budget": 2}, ValueError, "Expected a budget above 0 and up to 1"),
    ({"every": 0}, ValueError, "Expected every to be a whole number of at least 1, got 0"),
    ({"every": 1.5}, ValueError, "Expected every to be a whole number of at least 1, got 1.5"),
    ({"products": 5}, ValueError, "Expected products to be a whole number of at least 6, got 5"),
    ({"curvature": "hesian"}, ValueError, "Unknown curvature 'hesian'. Did you mean 'hessian'"),
    ({"writer": "runs"}, TypeError, r"Expected a writer with add_scalar\(tag, value, step\), got str"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Monitor(objective(), **arguments)


def test_what_is_no_objective_or_no_batch_is_refused_at_once():
    with pytest.raises(TypeError, match=r"Expected a quadric\.Objective, got Sequential"):
        Monitor(small())
    with pytest.raises(TypeError, match=r"Expected one batch \(inputs, targets\)"):
        Monitor(objective()).step(batch()[0])
    x, t = batch()
    with pytest.raises(ValueError, match="Inputs and targets disagree: 16 inputs, 9 targets"):
        Monitor(objective(), budget=None).step((x, t[:9]))


# ---- records


def watched(path, steps, **arguments):
    monitor = Monitor(objective(), budget=None, path=path, **arguments)
    for i in range(steps):
        monitor.step(batch(seed=i))
    return monitor


def test_records_come_back_as_they_were_and_are_there_at_once(tmp_path):
    path = tmp_path / "runs" / "monitor.jsonl"
    monitor = Monitor(objective(), budget=None, path=path)
    assert Monitor.read(path) == []
    for i in range(3):
        monitor.step(batch(seed=i))
        assert Monitor.read(path) == list(monitor.history)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert Measurement.load(monitor.history[0].save(tmp_path / "one.npz")) == monitor.history[0]


def test_a_file_is_continued(tmp_path):
    path = tmp_path / "monitor.jsonl"
    first = watched(path, 3)
    second = Monitor(objective(), budget=None, path=path)
    assert second.history == first.history
    assert (second.steps, second.share) == (3, pytest.approx(first.history[-1].monitor_seconds / second._time.training))
    second.step(batch())
    assert [m.step for m in Monitor.read(path)] == [1, 2, 3, 4]
    assert second.history[-1].monitor_seconds > first.history[-1].monitor_seconds


@pytest.mark.parametrize("cut", [1, 20])
def test_a_last_line_that_is_cut_off_is_left_out_and_the_file_goes_on(tmp_path, cut):
    path = tmp_path / "monitor.jsonl"
    whole = watched(path, 3).history
    path.write_bytes(path.read_bytes()[: -1 - cut])
    with pytest.warns(QuadricWarning, match="line 4, the last, is cut off and was left out; the 3 before it are whole"):
        assert Monitor.read(path) == list(whole[:2])
    monitor = Monitor(objective(), budget=None, path=path)
    assert monitor.history == whole[:2]
    monitor.step(batch())
    assert Monitor.read(path) == list(monitor.history)
    assert [m.step for m in monitor.history] == [1, 2, 3]


def test_an_empty_file_is_begun_and_others_are_refused(tmp_path):
    path = tmp_path / "monitor.jsonl"
    path.touch()
    watched(path, 2)
    with pytest.raises(
        ValueError, match=r"holds measurements of .*'hessian'.*, these are of .*'ggn'.*name another file"
    ):
        Monitor(objective(), path=path, curvature="ggn")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], lines[2]]) + "\n")
    with pytest.raises(ValueError, match=r"line 2 is not a record .*Remove that line, or name another file"):
        Monitor(objective(), path=path)
    path.write_text(f"{lines[0]}\n{lines[0]}\n{lines[1]}\n")
    with pytest.raises(ValueError, match=r"line 2 is not a record \(it is no measurement\)"):
        Monitor.read(path)
    path.write_text("epoch,loss\n")
    with pytest.raises(ValueError, match=r"line 1 is not the header of a record file of format 1 .* name another file"):
        Monitor(objective(), path=path)
    assert path.read_text() == "epoch,loss\n"


def test_a_writer_gets_every_number():
    written = []
    writer = SimpleNamespace(add_scalar=lambda tag, value, step: written.append((tag, value, step)))
    monitor = Monitor(objective(), budget=None, writer=writer)
    monitor.steps = 40
    got = monitor.step(batch(), torch.optim.SGD(monitor.objective.model.parameters(), lr=0.5))
    assert ("quadric/largest", got.largest, 41) in written
    assert ("quadric/lr", 0.5, 41) in written
    assert all(isinstance(value, (int, float)) for _, value, _ in written)
    assert not any(tag.endswith(("/damping", "/problem", "/step")) for tag, _, _ in written)


def test_the_summary_tells_what_was_measured():
    monitor = watched(None, 2)
    last = monitor.history[-1]
    lines = monitor.summary().splitlines()
    assert lines[0].startswith("2 measurements in 2 steps, ")
    assert lines[1] == f"step 2: loss {last.loss:.4g}, ‖gradient‖ {last.gradient_norm:.4g}"
    assert lines[2].startswith(f"largest eigenvalue {last.largest:.4g} ± ")
    assert "of ‖gradient‖² along the top eigenvector" in lines[3]
    spread = sum(m.noise_trace for m in monitor.history)
    signal = sum(m.signal for m in monitor.history)
    assert lines[4] == f"gradient noise scale over 2 measurements: {spread / signal:.3g} examples"
    x, t = batch()
    monitor.step((x * math.nan, t), torch.optim.SGD(monitor.objective.model.parameters(), lr=0.5))
    assert monitor.summary().splitlines()[1:] == [
        "step 3: loss not finite, ‖gradient‖ not finite",
        lines[4],
        "optimiser: lr 0.5",
        "The loss is nan, the norm of its gradient nan.",
    ]


def test_generators_of_python_and_numpy_go_on_as_without_it():
    """A model may draw from those, too."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            return self.inner(x) * (1 + random.random() + np.random.rand())

    def drawn(watched):
        random.seed(0)
        np.random.seed(0)
        objective = Objective(Noisy(), nn.CrossEntropyLoss())
        if watched:
            Monitor(objective).measure((torch.randn(8, 4), torch.arange(8) % 3))
        return random.random(), np.random.rand()

    assert drawn(True) == drawn(False)


class OwnNoise(nn.Linear):
    """A layer with noise from a generator of its own."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, dtype=F64)
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x):
        return super().forward(x) + 0.1 * torch.randn(len(x), self.out_features, generator=self.generator, dtype=F64)


def test_generators_of_the_model_go_on_as_without_it():
    trained = []
    for monitored in (True, False):
        torch.manual_seed(0)
        one = Objective(nn.Sequential(OwnNoise(4, 5), nn.Tanh(), OwnNoise(5, 3)), nn.CrossEntropyLoss())
        monitor = Monitor(one, budget=None, products=6)
        sgd = torch.optim.SGD(one.model.parameters(), lr=0.1)
        for step in range(4):
            if monitored:
                monitor.step(batch(seed=step))
            sgd.step(one.on(batch(seed=step)))
        trained.append(one.space.flatten([p.detach() for p in one.parameters]))
    assert torch.equal(*trained)
