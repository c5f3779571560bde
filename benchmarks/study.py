"""The study: tuned and untuned methods on every problem, by `quadric tune` and `quadric compare`, in parts that resume.

make study                                                       # all of it, then docs/study.md
python benchmarks/study.py --seconds 10 --workers 2              # cut to the time at hand; says how long it will take
python benchmarks/study.py --problems digits-mlp --methods momentum,kfac --out runs/short

For each problem: a search for every tuned method, all with as many trials in spaces of the same size (two numbers, one
over four decades; damping is one of them) that the trials fill evenly, judged by the train loss after as many seconds.
The first-order method that came lowest is run again with fresh seeds, and the median of what it reaches in three
quarters of that time is the target. Then all methods, the tuned ones and those that run as they are, with every seed. A
method whose trials all diverged is left out of the comparison. Small problems get a share of --seconds, larger ones a
multiple: to their end the first-order methods should be at work on the loss, and the slowest steps still be many. On
two problems λ and α run over a grid by themselves. On a transformer, and over a grid of widths and depths, a few
methods run without searches.

Each part is one command, which is printed, and keeps its own records below --out. What is recorded is not run again:
after Ctrl-C or a kill the same command goes on. `study_page.py` makes the page.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from quadric import problems
from quadric.bench import records
from quadric.bench.continuation import differences
from quadric.bench.rates import FIRST_ORDER
from quadric.bench.search import records as searches
from quadric.core.records import FILE_NAME, write_atomically
from quadric.problems.width_depth import GRID

PROBLEMS = {
    "mnist-mlp": 1.0,
    "mnist-autoencoder": 1.2,
    "cifar10-cnn-bn": 1.5,
    "vanishing-tanh": 0.2,
    "fashion-mnist-cnn": 1.5,
    "digits-mlp": 0.1,
    "shakespeare-transformer": 3.0,
    **{problem.name: 0.2 for problem in GRID},
}
"""How long the runs on each are, in the unit of --seconds."""
PLAIN = ("shakespeare-transformer", *(problem.name for problem in GRID))
PLAIN_METHODS, PLAIN_SEEDS = ("curveball", "kfac", "momentum", "adam"), 3
"""On these no search is made: fewer methods as they are, or with the package's learning rates, and its targets."""
TUNED = {
    "momentum": "lr=log:1e-3:10,momentum=0.8:0.98",
    "adamw": "lr=log:1e-5:1e-1,eps=log:1e-8:1e-4",
    "soap": "lr=log:1e-5:1e-1,eps=log:1e-8:1e-4",
    "curveball": "damping=log:1e-3:10,lr=log:0.5:2",
    "kfac": "damping=log:1e-5:1e-1,lr=log:0.5:2",
    "newton": "damping=log:1e-5:1e-1,correction=log:1e-4:1,curvature=fisher,structure=kronecker",
}
"""The spaces; the usual learning rate or damping is in the middle."""
ALONE = {
    "curveball": ("curveball", "damping=log:1e-3:100"),
    "kfac": ("kfac", "damping=log:1e-6:1"),
    "newton": ("newton", "damping=log:1e-6:1,curvature=fisher,structure=kronecker,adapt=false"),
    "newton-correction": (
        "newton",
        "correction=log:1e-3:100,damping=1.0,curvature=fisher,structure=kronecker,adapt=false",
    ),
}
"""λ or α over a grid by itself, all else as it comes; Newton keeps both as they are."""
ALONE_ON, POINTS = ("mnist-mlp", "vanishing-tanh"), 7
SELF_TUNING = ("curveball", "kfac")
"""What also runs as it is, and searches nothing."""
TARGET_SEEDS, FIRST_TARGET_SEED, TARGET_AT = 6, 2001, 0.75
OVERHEAD = 2.0
"""Training and evaluations, as a multiple of training."""
START = 10.0
"""Seconds that a part takes beside its runs: the start, tries of the ends of a space, the report."""
PROGRAM = "from quadric.cli.app import main; main()"


@dataclass(frozen=True)
class Study:
    """What is asked for: names, how long and how often, and where the records are."""

    problems: list[str]
    methods: list[str]
    trials: int
    seconds: float
    seeds: int
    workers: int
    out: Path

    @property
    def minutes(self) -> float:
        """About how long it takes: runs one after the other in each worker, and the starts of the parts."""
        plain = [problem for problem in self.problems if problem in PLAIN]
        tuned = [problem for problem in self.problems if problem not in PLAIN]
        seconds = sum(map(self.length, tuned))
        searches = math.ceil(len(self.methods) / self.workers)
        rounds, target = (math.ceil(seeds / self.workers) for seeds in (self.seeds, TARGET_SEEDS))
        runs = self.trials * searches + TARGET_AT * target + len(self.entries) * rounds
        grids = [self.length(problem) for problem in self.problems if problem in ALONE_ON]
        alone = POINTS * math.ceil(len(self.alone) / self.workers) * sum(grids)
        few = math.ceil(PLAIN_SEEDS / self.workers) * len(PLAIN_METHODS) * sum(map(self.length, plain))
        return (OVERHEAD * (runs * seconds + alone + few) + START * ((searches + 2) * len(tuned) + len(plain))) / 60

    def length(self, problem: str) -> float:
        """Seconds of training of a run on a problem."""
        return PROBLEMS.get(problem, 1.0) * self.seconds

    @property
    def entries(self) -> list[str]:
        """The methods of the comparisons: those that run as they are, then the tuned ones."""
        tuned = [name if name in FIRST_ORDER else f"{name}@tuned" for name in self.methods]
        return [*(name for name in SELF_TUNING if name in self.methods), *tuned]

    @property
    def alone(self) -> list[str]:
        """The grids of the methods that take part."""
        return [name for name, (method, _) in ALONE.items() if method in self.methods]

    def tuning(self, problem: str, method: str, space: str, out: Path) -> list[str]:
        """A search, but for how settings are chosen."""
        words = ["tune", "--problem", problem, "--optimizer", method, "--space", space, "--holdout", "0"]
        words += ["--seeds", "1", "--seconds", f"{self.length(problem):g}", "--threads", "1", "--out", str(out)]
        return words

    def comparing(self, problem: str, part: str, names: Sequence[str], share: float, seeds: int) -> list[str]:
        """A comparison for a share of the problem's seconds."""
        out, seconds = self.out / problem / part, share * self.length(problem)
        words = ["compare", "--problem", problem, "--optimizers", ",".join(names), "--seconds", f"{seconds:g}"]
        words += ["--seeds", str(seeds), "--workers", str(min(self.workers, seeds)), "--threads", "1"]
        return [*words, "--resume", "--out", str(out)]

    def carry_out(self) -> None:
        """Run what is missing, problem by problem. Raises SystemExit where a part fails, or another study is there."""
        lock = locked(self.out)
        self.settle()
        for problem in self.problems:
            if problem in PLAIN:
                command = self.comparing(problem, "compare", PLAIN_METHODS, 1.0, PLAIN_SEEDS)
                self.part(problem, "compare", command, PLAIN_SEEDS * len(PLAIN_METHODS), lock)
            else:
                self.search(problem, lock)
                self.compare(problem, lock)

    def settle(self) -> None:
        """Note what every part of the study shares, or check it: parts of other lengths are another study's."""
        path = self.out / "study.json"
        asked = {"seconds": self.seconds, "trials": self.trials, "methods": ", ".join(self.methods)}
        differs = differences(json.loads(path.read_text()), asked) if path.exists() else ""
        if differs:
            raise SystemExit(f"{self.out} holds another study: {differs}. Name another --out.")
        write_atomically(path, json.dumps(asked).encode())

    def search(self, problem: str, lock: IO[str]) -> None:
        """The searches on a problem. Whether one is done its record says: it fails, too, where every trial diverged."""
        even, grid = ["--search", "halton", "--trials", str(self.trials)], ["--search", "grid", "--points", str(POINTS)]
        folder = self.out / problem
        parts = {folder / "tune" / name: (name, TUNED[name], even, self.trials) for name in self.methods}
        if problem in ALONE_ON:
            parts |= {folder / "alone" / name: (*ALONE[name], grid, POINTS) for name in self.alone}

        def missing() -> list[Path]:
            return [out for out, (*_, count) in parts.items() if tried(out) < count]

        commands = [[*self.tuning(problem, *parts[out][:2], out), *parts[out][2]] for out in missing()]
        together(commands, self.workers, lock)
        if missing():
            raise SystemExit(f"These searches failed: {', '.join(map(str, missing()))}.")

    def compare(self, problem: str, lock: IO[str]) -> None:
        """The re-runs that set the target, then the comparison."""
        folder = self.out / problem
        found = {name: lowest(folder / "tune" / name) for name in self.methods}
        best = min((name for name in self.methods if name in FIRST_ORDER), key=found.__getitem__)
        names = [name for name in self.entries if name in SELF_TUNING or found[name.partition("@")[0]] < math.inf]
        settings = ["--searches", str(folder / "tune")]
        target = self.comparing(problem, "target", [best], TARGET_AT, TARGET_SEEDS)
        target += [*settings, "--first-seed", str(FIRST_TARGET_SEED)]
        self.part(problem, "target", target, TARGET_SEEDS, lock)
        final = self.comparing(problem, "compare", names, 1.0, self.seeds)
        final += [*settings, "--target-from", str(folder / "target")]
        self.part(problem, "compare", final, self.seeds * len(names), lock)

    def part(self, problem: str, name: str, command: list[str], runs: int, lock: IO[str]) -> None:
        """One comparison, unless all its runs are recorded. Raises SystemExit where they are not afterwards."""
        folder = self.out / problem / name
        if ended(folder) < runs:
            together([command], 1, lock)
        if ended(folder) < runs:
            raise SystemExit(f"The part {folder} failed.")


def tried(directory: Path) -> int:
    """Trials that a search has recorded."""
    path = directory / FILE_NAME
    return len(searches.read(path).trials) if path.exists() else 0


def lowest(directory: Path) -> float:
    """The lowest train loss of a search; infinite where nothing finished."""
    finished = searches.read(directory / FILE_NAME).finished
    return finished[0].value if finished else math.inf


def ended(directory: Path) -> int:
    """Runs that a comparison has recorded to their end."""
    path = directory / FILE_NAME
    return len(records.read(path).over) if path.exists() else 0


def locked(directory: Path) -> IO[str]:
    """A lock on the directory that every part shares, so that none of a study that was killed still writes there.

    Raises SystemExit where it is held.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = (directory / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(
            f"{directory} is in use: another study, or a part of one that was killed, still runs."
        ) from None
    return lock


def together(commands: list[list[str]], workers: int, lock: IO[str]) -> None:
    """Run quadric with each of the commands, so many at a time; end them after Ctrl-C."""
    waiting, running = list(commands), []
    shared = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "pass_fds": [lock.fileno()], "stdout": subprocess.DEVNULL}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                command = waiting.pop(0)
                print("quadric " + shlex.join(command), flush=True)
                running.append(subprocess.Popen([sys.executable, "-c", PROGRAM, *command], **shared))
            running = [process for process in running if process.poll() is None]
            time.sleep(0.1)
    finally:
        for process in running:
            process.terminate()
            process.wait()


def parse(arguments: Sequence[str] | None = None) -> Study:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="with commas between them")
    parser.add_argument("--methods", default=",".join(TUNED), help="with commas; a first-order one among them")
    parser.add_argument("--trials", type=int, default=6, help="of each search")
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, the unit of each trial and each run")
    parser.add_argument("--seeds", type=int, default=6, help="of the comparisons")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder for the records and reports")
    options = parser.parse_args(arguments)
    chosen, methods = options.problems.split(","), options.methods.split(",")
    for name in methods:
        if name not in TUNED:
            parser.error(f"expected methods among {', '.join(TUNED)}, got {name}")
    if not set(methods) & set(FIRST_ORDER):
        parser.error("the target comes from a first-order method: name momentum or adamw, too")
    if min(options.trials, options.seeds, options.workers) < 1 or not options.seconds > 0:
        parser.error("expected trials, seeds and workers of 1 or more, and seconds above 0")
    for name in chosen:
        try:
            problems.get(name).open(None, torch.device("cpu"))
        except (ValueError, OSError, RuntimeError) as error:
            parser.error(str(error))
    return Study(chosen, methods, options.trials, options.seconds, options.seeds, options.workers, options.out)


def main() -> None:
    """Run the study."""
    study = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as after Ctrl-C, the parts are ended, too
    print(f"about {study.minutes:.0f} minutes from the start, less what is recorded in {study.out}", flush=True)
    study.carry_out()
    print(f"records: {study.out}; `python benchmarks/study_page.py {study.out}` makes the page of them")


if __name__ == "__main__":
    main()
