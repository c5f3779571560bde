"""Step sizes without tuning for first-order optimisers: what curvature adds to a rule that has none.

    QUADRIC_DATA=... python benchmarks/quadratic_step.py
    python benchmarks/quadratic_step.py --problems noisy-regression --directions adam --seeds 1

A first-order optimiser gives a direction d (its step at lr = 1 is −d), a rule the step size a in w ← w − a d:

- "tuned lr": the best constant of a grid of three, by the final train loss on a seed of its own; a weak baseline where
  that is the grid's largest, as on the two CNNs;
- "same batch": a = mean(g·d) / mean(dᵀGd), the minimiser of each batch's own model along d;
- "QuadraticStep": what is shipped. Each batch's model along the direction of the step before, whose minimum is at N/D,
  D = dᵀGd, N = aD + g·d: a follows mean(N)/mean(D), and no step asks for more than a tenth of the loss;
- "gain 1.8": the same with a following 1.8 mean(N)/mean(D);
- "no cap": QuadraticStep's without the cap;
- "share": the cap alone, a = 0.1 mean(f) / mean(g·d). No curvature: a Polyak step with least value 0;
- "GeN": the peer (Bu and Xu 2025, package gen-optim), a parabola through the losses of another batch at w − a d, w and
  w + a d, asked at every step, from the grid's smallest rate.

The constants (memories, 0.1, 1.8, a fifth a step) were chosen on the first three problems, with Muon's directions. The
other two problems had no part in that, so they judge curvature against the share alone. But the gain of 1 was preferred
to 1.8 after a first look at these two (all directions, and Adam's): no problem here judges that choice unseen.
Seconds are not compared: steps are.
Writes results/quadratic_step.json and .md.

What came out (the autoencoder was not run). Where the loss has a floor (noisy-regression) the curvature earns its cost:
the share alone asks for a tenth of a loss that cannot be had. Elsewhere the two are about their deviations apart, in
favour of the curvature on fashion-bn and fashion-mlp and of the share alone on fashion-cnn. The same batch's model
fails.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor, nn

from quadric import Objective, problems
from quadric.optim.model import LocalModel
from quadric.optim.muon import Muon
from quadric.optim.optimizer import Weights
from quadric.optim.quadratic_step import QuadraticStep
from quadric.problems.data import mnist
from quadric.problems.networks import mlp
from quadric.problems.problem import Draw
from quadric.problems.randomness import initialised, stream
from records import RESULTS, header, header_text, markdown_table, write

Batch = tuple[Tensor, Tensor]
SEEDS = (1, 2, 3)
TUNING_SEED = 1001


# ---- problems


@dataclass(frozen=True)
class Instance:
    """A model, its loss, batches without end, and what the train loss is measured on."""

    model: nn.Module
    loss_fn: nn.Module
    batches: Iterator[Batch]
    train: list[Batch]


@dataclass(frozen=True)
class Task:
    """A problem with the length of a run. `chosen_on`: the rules' constants were chosen on it."""

    title: str
    draw: Callable[[int], Instance]
    steps: int
    chosen_on: bool
    scale: float = 1.0
    directions: tuple[str, ...] = ("adam", "muon")


@cache
def opened(name: str) -> Draw:
    """A problem with its data, read once."""
    return problems.get(name).open(None, torch.device("cpu"))


@cache
def pixels() -> Tensor:
    """10,000 MNIST images with values in [0, 1]."""
    images = mnist.load().train_inputs[:10_000].reshape(-1, 784)
    return (images * mnist.DEVIATION + mnist.MEAN).clamp(0, 1)


def named(name: str, network: Callable[[], nn.Module] | None = None) -> Callable[[int], Instance]:
    """One of quadric's own problems, perhaps with another network."""

    def draw(seed: int) -> Instance:
        instance = opened(name)(seed)
        model = instance.model if network is None else initialised(network, seed)

        def batches() -> Iterator[Batch]:
            epoch = 0
            while True:
                yield from instance.epoch(epoch)
                epoch += 1

        return Instance(model, nn.CrossEntropyLoss(), batches(), list(instance.train)[:2])

    return draw


def endless(inputs: Tensor, targets: Tensor, size: int, seed: int) -> Iterator[Batch]:
    """Batches drawn without replacement, epoch after epoch."""
    epoch = 0
    while True:
        for rows in torch.randperm(len(inputs), generator=stream(seed, "order", epoch)).split(size):
            yield inputs[rows], targets[rows]
        epoch += 1


def autoencoder(seed: int) -> Instance:
    """MNIST, 784-500-250-125-30 and back, tanh, linear code, binary cross-entropy, 10,000 images, batches of 250."""
    x = pixels()

    def network() -> nn.Module:
        return nn.Sequential(mlp(784, 500, 250, 125, 30), mlp(30, 125, 250, 500, 784))

    model = initialised(network, seed)
    return Instance(model, nn.BCEWithLogitsLoss(), endless(x, x, 250, seed), [(x[:2000], x[:2000])])


def noisy_regression(seed: int) -> Instance:
    """y = teacher(x) + N(0, 1), an MLP 20-64-64-1, batches of 64: the loss has a floor of 1, far from 0."""
    generator = stream(0, "teacher")
    x = torch.randn(20_000, 20, generator=generator)
    teacher = initialised(lambda: mlp(20, 32, 1), 77)
    with torch.no_grad():
        clean = teacher(x)
        y = 2 * (clean - clean.mean()) / clean.std() + torch.randn(len(x), 1, generator=generator)
    return Instance(initialised(lambda: mlp(20, 64, 64, 1), seed), nn.MSELoss(), endless(x, y, 64, seed), [(x, y)])


def bn_cnn() -> nn.Module:
    """Three convolutions with BatchNorm and dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10),
    )  # fmt: skip


ALL = ("momentum", "adam", "muon")
TASKS: dict[str, Task] = {
    "fashion-mlp": Task("Fashion-MNIST, MLP, batch 128", named("fashion-mnist-mlp"), 400, True),
    "fashion-cnn": Task("Fashion-MNIST, CNN, batch 128", named("fashion-mnist-cnn"), 120, True, directions=("adam",)),
    "autoencoder": Task("MNIST autoencoder, batch 250, loss per image", autoencoder, 150, True, 784.0, ("muon",)),
    "noisy-regression": Task("regression with noise 1, batch 64", noisy_regression, 600, False, directions=ALL),
    "fashion-bn": Task(
        "Fashion-MNIST, CNN with BatchNorm and dropout, batch 128", named("fashion-mnist-cnn", bn_cnn), 120, False
    ),
}

GRIDS = {"momentum": (0.01, 0.03, 0.1), "adam": (3e-4, 1e-3, 3e-3), "muon": (3e-4, 1e-3, 3e-3)}
MAKE: dict[str, Callable[[Objective], torch.optim.Optimizer]] = {
    "momentum": lambda o: torch.optim.SGD(list(o.parameters), lr=1.0, momentum=0.9),
    "adam": lambda o: torch.optim.Adam(list(o.parameters), lr=1.0),
    "muon": lambda o: Muon(o, lr=1.0, weight_decay=0.0),
}


# ---- rules


class Average:
    """A running mean without its start's bias."""

    def __init__(self, memory: float) -> None:
        self.memory, self.total, self.weight = memory, 0.0, 0.0

    def add(self, value: float) -> float:
        self.total = self.memory * self.total + (1 - self.memory) * value
        self.weight = self.memory * self.weight + 1 - self.memory
        return self.total / self.weight


class Rule:
    """`size` gives a for this step, from the loss, g·d, the model along d and along the last direction."""

    same = False
    """Whether dᵀGd of this batch is wanted."""
    last = False
    """Whether g·d and dᵀGd of the last direction are wanted."""

    def size(self, loss: float, slope: float, curvature: float, last: tuple[float, float] | None) -> float:
        raise NotImplementedError


class Share(Rule):
    """a = c f̄ / mean(g·d)."""

    def __init__(self, share: float = 0.1) -> None:
        self.share, self.loss, self.slope = share, Average(0.9), Average(0.9)

    def size(self, loss: float, slope: float, curvature: float, last: tuple[float, float] | None) -> float:
        f, s = self.loss.add(loss), self.slope.add(slope)
        return self.share * f / s if s > 0 else 0.0


class SameBatch(Rule):
    """a = mean(g·d) / mean(dᵀGd)."""

    same = True

    def __init__(self) -> None:
        self.slope, self.curvature = Average(0.95), Average(0.95)

    def size(self, loss: float, slope: float, curvature: float, last: tuple[float, float] | None) -> float:
        s, c = self.slope.add(slope), self.curvature.add(curvature)
        return max(s / c, 0.0) if c > 0 else 0.0


class NextBatch(Rule):
    """a moves towards gain · N̄/D̄ by at most a fifth, N = a D + g·d and D = dᵀGd of the last d on this batch."""

    last = True

    def __init__(self, cap: Share | None, gain: float) -> None:
        self.cap, self.first, self.gain = cap, Share(0.1), gain
        self.n, self.d = Average(0.95), Average(0.95)
        self.a: float | None = None

    def size(self, loss: float, slope: float, curvature: float, last: tuple[float, float] | None) -> float:
        most = (self.cap or self.first).size(loss, slope, curvature, last) if self.cap or self.a is None else math.inf
        if self.a is None or last is None:
            self.a = most
        else:
            n, d = self.n.add(self.a * last[1] + last[0]), self.d.add(last[1])
            wanted = self.gain * n / d if d > 0 else self.a
            self.a = min(max(wanted, self.a / 1.2), self.a * 1.2, most)
        return self.a


class Constant(Rule):
    """a given."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def size(self, loss: float, slope: float, curvature: float, last: tuple[float, float] | None) -> float:
        return self.lr


SHIPPED = "QuadraticStep"
PEER = "GeN"
RULES: dict[str, Callable[[], Rule | None]] = {
    "same batch": SameBatch,
    SHIPPED: lambda: None,
    "gain 1.8": lambda: NextBatch(Share(0.1), 1.8),
    "no cap": lambda: NextBatch(None, 1.0),
    "share": lambda: Share(0.1),
    PEER: lambda: None,
}


# ---- one run


def dot(a: list[Tensor], b: list[Tensor]) -> float:
    return float(torch.stack([(x * y).sum(dtype=torch.float64) for x, y in zip(a, b, strict=True)]).sum())


def train(task: Task, direction: str, rule: Rule | None, seed: int, title: str = "") -> dict[str, object]:
    """Final train loss, and the median size of the last tenth of the steps."""
    torch.manual_seed(seed)
    instance = task.draw(seed)
    objective = Objective(instance.model, instance.loss_fn)
    optimizer = MAKE[direction](objective)
    if title == PEER:
        for group in optimizer.param_groups:
            group["lr"] = GRIDS[direction][0]
        step = generalised_newton(optimizer, objective, instance)
    else:
        step = shipped(optimizer, objective) if rule is None else ruled(optimizer, objective, rule)
    sizes: list[float] = []
    for _ in range(task.steps):
        loss, a = step(next(instance.batches))
        if not math.isfinite(loss):
            return {"loss": math.inf, "size": None}
        sizes.append(a)
    final = evaluate(instance) * task.scale
    tail = sorted(sizes[-len(sizes) // 10 :])
    return {"loss": final if math.isfinite(final) else math.inf, "size": tail[len(tail) // 2]}


def shipped(optimizer: torch.optim.Optimizer, objective: Objective) -> Callable[[Batch], tuple[float, float]]:
    """A step of QuadraticStep: its loss and size."""
    quadratic = QuadraticStep(optimizer, objective)

    def step(batch: Batch) -> tuple[float, float]:
        loss = float(quadratic.step(objective.on(batch)))
        return loss, quadratic.size.value

    return step


def generalised_newton(
    optimizer: torch.optim.Optimizer, objective: Objective, instance: Instance
) -> Callable[[Batch], tuple[float, float]]:
    """A step as gen-optim's page shows it."""
    from GeN import lr_parabola

    def step(batch: Batch) -> tuple[float, float]:
        closure = objective.on(batch)
        loss = float(closure())
        more = instance.batches
        lr_parabola(instance.model, optimizer, instance.loss_fn, tr_iter=more, device="cpu", task="image_cls")
        optimizer.step(lambda: loss)
        return loss, float(optimizer.param_groups[0]["lr"])

    return step


def ruled(optimizer: torch.optim.Optimizer, objective: Objective, rule: Rule) -> Callable[[Batch], tuple[float, float]]:
    """The same with a rule of this file."""
    parameters = list(objective.parameters)
    tensors = [p.detach() for p in parameters]
    weights = Weights(parameters, [1.0] * len(tensors), [0.0] * len(tensors), list(range(len(tensors))))
    d: list[Tensor] = []

    def step(batch: Batch) -> tuple[float, float]:
        model = LocalModel(objective.on(batch), weights, 1.0 if rule.same or rule.last else 0.0)
        gradient, _ = model.start(None, retain=True)
        loss = float(model.loss)
        last = None
        if rule.last and d:
            curvature, _, slope = model.gram([model.push(d)])
            last = float(slope[0]), float(curvature[0, 0])
        before = [t.clone() for t in tensors]
        for p, g in zip(parameters, gradient, strict=True):
            p.grad = g
        optimizer.step()
        d[:] = [b - t for b, t in zip(before, tensors, strict=True)]
        torch._foreach_copy_(tensors, before)
        here = float(model.gram([model.push(d)])[0][0, 0]) if rule.same else 0.0
        a = rule.size(loss, dot(gradient, d), here, last)
        torch._foreach_add_(tensors, d, alpha=-a)
        torch.autograd.graph.increment_version(parameters)
        return loss, a

    return step


def evaluate(instance: Instance) -> float:
    """The train loss in evaluation mode."""
    instance.model.eval()
    with torch.no_grad():
        values = [float(instance.loss_fn(instance.model(x), t)) * len(x) for x, t in instance.train]
    instance.model.train()
    return sum(values) / sum(len(x) for x, _ in instance.train)


# ---- the table


def study(name: str, direction: str, seeds: tuple[int, ...], rules: list[str]) -> list[dict[str, object]]:
    """Every rule on one problem with one direction."""
    task, rows = TASKS[name], []
    tuned = {lr: train(task, direction, Constant(lr), TUNING_SEED)["loss"] for lr in GRIDS[direction]}
    lr = min(tuned, key=lambda rate: tuned[rate])
    makers: dict[str, Callable[[], Rule | None]] = {f"tuned lr ({lr:g})": lambda: Constant(lr)}
    for title, make in {**makers, **{rule: RULES[rule] for rule in rules}}.items():
        if title in ("same batch", "no cap") and name != "noisy-regression":
            continue  # looked at on one problem only
        runs = [train(task, direction, make(), seed, title) for seed in seeds]
        losses = [float(str(run["loss"])) for run in runs]
        row = {"problem": name, "direction": direction, "rule": title, "losses": losses, "runs": runs}
        print(f"{name:18}{direction:10}{title:22}" + "  ".join(f"{loss:.4f}" for loss in losses), flush=True)
        rows.append(row)
    return rows


def section(name: str, rows: list[dict[str, object]]) -> str:
    """One problem's table: final train loss, mean ± deviation over the seeds."""
    task = TASKS[name]
    origin = "used for choosing the constants" if task.chosen_on else "used for choosing the gain alone"
    lines = []
    for row in rows:
        losses = row["losses"]
        assert isinstance(losses, list)
        spread = f" ± {stdev(losses):.4f}" if len(losses) > 1 and all(map(math.isfinite, losses)) else ""
        mean = f"{fmean(losses):.4f}" if all(map(math.isfinite, losses)) else "diverged"
        lines.append([str(row["direction"]), str(row["rule"]), mean + spread])
    table = markdown_table(["direction", "rule", "final train loss"], lines)
    return f"## {name}: {task.title}, {task.steps} steps ({origin})\n\n{table}\n"


def main() -> None:
    """Run the ablation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join(TASKS))
    parser.add_argument("--directions", default="", help="comma-separated; by default those of each problem")
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="other problems' results there are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    top = header(options.seeds)
    rules = options.rules.split(",")
    seeds, stored = SEEDS[: options.seeds], options.out / "quadratic_step.json"
    results = json.loads(stored.read_text(encoding="utf-8"))["problems"] if stored.exists() else {}
    for name in options.problems.split(","):
        chosen = options.directions.split(",") if options.directions else TASKS[name].directions
        results[name] = [row for direction in chosen for row in study(name, direction, seeds, rules)]
        text = "# Step sizes without tuning\n\n" + header_text(top) + f"\n\n{__doc__}\n"
        text += "".join("\n" + section(done, rows) for done, rows in results.items())
        write(options.out, "quadratic_step", {"header": top, "problems": results}, text)


if __name__ == "__main__":
    main()
