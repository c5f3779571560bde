"""Seconds and steps to a target that tuned AdamW sets: tuned first-order methods beside untuned curvature.

    QUADRIC_DATA=... python benchmarks/time_to_target.py
    python benchmarks/time_to_target.py --problems mnist-autoencoder --seconds 10 --seeds 1

Every run trains for the same number of seconds (evaluation is off the clock). The learning rates of the first-order
methods are the best of a grid by their final train loss, on a seed of its own. The target is the median over seeds of
the best train loss that tuned AdamW reaches. All methods advance in turns of a second, so that a machine that gets
slower does so for all. Every evaluation is kept: writes results/time_to_target.json and results/time_to_target.md,
after each problem.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from quadric import problems
from quadric.bench.runner import Entry, Training
from quadric.core.randomness import RandomState, replayed
from quadric.problems import Problem
from quadric.problems.problem import Draw
from records import RESULTS, header, header_text, markdown_table, write

CPU = torch.device("cpu")
TUNED = {"adamw": (5e-4, 1e-3, 2e-3, 5e-3), "muon": (2e-3, 5e-3, 1e-2, 2e-2)}
PAPER = "curveball, the paper's rule, λ₀ = "
UNTUNED: dict[str, Entry] = {
    "curveball": Entry("curveball"),
    PAPER + "1": Entry("curveball", {"damping": 1.0}),
    PAPER + "10": Entry("curveball", {"damping": 10.0}),
    "kfac": Entry("kfac"),
    "ekfac": Entry("ekfac"),
    "newton-cg": Entry("newton-cg"),
    "soap": Entry("soap"),
}
TASKS = ("mnist-autoencoder", "fashion-mnist-mlp", "fashion-mnist-cnn")
SEEDS = 3
TUNING_SEED = 1001
TURN = 1.0


@dataclass
class Course:
    """One run: what was seen of it at each evaluation, [steps, seconds, train loss]."""

    title: str
    entry: Entry
    seed: int
    points: list[list[float]] = field(default_factory=list)
    test_loss: float = math.inf
    failure: str | None = None

    def best(self) -> float:
        """The lowest train loss."""
        return min((p[2] for p in self.points), default=math.inf)

    def first(self, target: float) -> tuple[float, float]:
        """Steps and seconds at the first evaluation at or below the target; infinite where there is none."""
        return next(((p[0], p[1]) for p in self.points if p[2] <= target), (math.inf, math.inf))


class Runner:
    """A course under way."""

    def __init__(self, course: Course, problem: Problem, draw: Draw, seconds: float) -> None:
        self.course, self.limit = course, seconds
        with replayed(RandomState.seeded(course.seed, CPU)):
            self.training = Training(course.entry, problem, draw(course.seed), course.seed, CPU)
            self.random = RandomState.now(CPU)
        self.epoch, self.batches, self.next_look = 0, self.training.instance.epoch(0), 0.0

    def turn(self, pause: float) -> bool:
        """Train for about a second of its own clock, with evaluations `pause` seconds apart; False when it is over."""
        watch, until = self.training.watch, self.training.watch.seconds + TURN
        with replayed(self.random), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                while watch.seconds < min(until, self.limit):
                    if watch.seconds >= self.next_look:
                        self.look()
                        self.next_look = watch.seconds + pause
                    if self.training.step(self.batches) is None:
                        self.epoch += 1
                        self.batches = self.training.instance.epoch(self.epoch)
            except Exception as error:
                self.course.failure = f"{type(error).__name__}: {error}"[:200]
            self.random = RandomState.now(CPU)
        over = watch.seconds >= self.limit or self.course.failure is not None
        if over:
            self.look()
            objective, test = self.training.objective, self.training.instance.test
            self.course.test_loss = objective.evaluate(list(test)) if test else math.inf
        return not over

    def look(self) -> None:
        """Evaluate the train loss, off the clock."""
        training = self.training
        loss = training.objective.evaluate(list(training.instance.train))
        self.course.points.append([training.steps, training.watch.seconds, loss])


def main() -> None:
    """Run the benchmark."""
    options = parse()
    torch.set_num_threads(options.threads)
    top = header(options.seeds) | {"seconds_per_run": options.seconds}
    print(header_text(top), flush=True)
    done: list[dict[str, object]] = []
    for name in options.problems:
        done.append(study(name, options))
        print("\n" + section(done[-1]), flush=True)
        text = "# Time to target\n\n" + header_text(top).replace("rounds", "seeds") + "\n\n"
        text += EXPLANATION.format(seconds=options.seconds) + "\n" + "".join("\n" + section(d) for d in done)
        for path in write(options.out, "time_to_target", {"header": top, "problems": done}, text):
            print(f"wrote {path}", flush=True)


EXPLANATION = (
    "Each run trains for {seconds:g} seconds. Target: the median over seeds of tuned AdamW's best train loss. Steps "
    "and seconds: median over seeds to the first evaluation at the target, misses counting as infinite; all seeds in "
    "brackets. Ratios: to tuned AdamW's seconds. Test loss: of the same loss, at the end, median over seeds. Only "
    "adamw and muon are tuned."
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument("--methods", type=lambda text: text.split(","), help="untuned ones; default all")
    parser.add_argument("--seconds", type=float, default=15.0, help="of training, for each run")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    for name in options.problems:
        if name not in TASKS:
            parser.error(f"expected problems among {', '.join(TASKS)}, got {name}")
    return options


def study(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Tune, then run everything."""
    problem = problems.get(name)
    draw = problem.open(None, CPU)
    entries: dict[str, Entry] = {}
    for method, grid in TUNED.items():
        tried = {lr: Course(method, Entry(method, {"lr": lr}), TUNING_SEED) for lr in grid}
        train(problem, draw, list(tried.values()), options.seconds / 2)
        rate = min(tried, key=lambda lr: tried[lr].best())
        entries[f"{method}, tuned (lr {rate:g})"] = Entry(method, {"lr": rate})
    entries |= {t: e for t, e in UNTUNED.items() if options.methods is None or e.name in options.methods}
    courses = []
    for seed in range(options.seeds):
        batch = [Course(title, entry, seed) for title, entry in entries.items()]
        train(problem, draw, batch, options.seconds)
        courses += batch
    adamw = next(title for title in entries if title.startswith("adamw"))
    target = median(c.best() for c in courses if c.title == adamw)
    return {"problem": name, "title": problem.summary, "target": target, "rows": rows(courses, target, adamw)}


def train(problem: Problem, draw: Draw, courses: list[Course], seconds: float) -> None:
    """Let the runs take turns until all are over."""
    live = [Runner(course, problem, draw, seconds) for course in courses]
    while live:
        live = [runner for runner in live if runner.turn(pause=seconds / 40)]


def rows(courses: list[Course], target: float, adamw: str) -> list[dict[str, object]]:
    """One row per method."""
    found: list[dict[str, object]] = []
    titles = list(dict.fromkeys(c.title for c in courses))
    unit = median(c.first(target)[1] for c in courses if c.title == adamw)
    for title in titles:
        own = [c for c in courses if c.title == title]
        firsts = [c.first(target) for c in own]
        seconds = median(f[1] for f in firsts)
        found.append(
            {
                "method": title,
                "steps": [finite(f[0]) for f in firsts],
                "seconds": [finite(f[1]) for f in firsts],
                "median_steps": finite(median(f[0] for f in firsts)),
                "median_seconds": finite(seconds),
                "ratio": finite(seconds / unit),
                "best_train": median(c.best() for c in own),
                "test": finite(median(c.test_loss for c in own)),
                "milliseconds": 1e3 * median(c.points[-1][1] / max(1, c.points[-1][0]) for c in own),
                "failures": [c.failure for c in own if c.failure],
                "curves": [c.points for c in own],
            }
        )
    return found


def finite(value: float) -> float | None:
    """`None` for infinity."""
    return value if math.isfinite(value) else None


def section(result: dict[str, object]) -> str:
    """One problem's table."""
    lines = []
    table = result["rows"]
    assert isinstance(table, list)
    for row in table:
        each = ", ".join("–" if s is None else f"{s:.1f}" for s in row["seconds"])
        steps = "never" if row["median_steps"] is None else f"{row['median_steps']:.0f}"
        seconds = f"never [{each}]" if row["median_seconds"] is None else f"{row['median_seconds']:.1f} [{each}]"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        test = "" if row["test"] is None else f"{row['test']:.4f}"
        name = row["method"] + (f" ({len(row['failures'])} failed)" if row["failures"] else "")
        lines.append([name, steps, seconds, ratio, f"{row['best_train']:.4f}", test, f"{row['milliseconds']:.0f}"])
    columns = ["method", "steps", "seconds", "ratio", "best train loss", "test loss", "ms a step"]
    return (
        f"## {result['problem']}\n\n{result['title']}. Target: train loss ≤ {result['target']:.4f}.\n\n"
        f"{markdown_table(columns, lines)}\n"
    )


if __name__ == "__main__":
    main()
