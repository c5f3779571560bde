"""Table 1 of the CurveBall paper: steps to solve Rosenbrock's function, with and without noise, and Rahimi and Recht's
network, for every method over many seeds. Recorded in blocks of seeds, so that what was interrupted goes on.

Reference: Henriques, Ehrhardt, Albanie, Vedaldi (2019), "Small steps and giant leaps", section 4.1 and table 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from quadric.bench.journal import Journal
from quadric.bench.paper.columns import COLUMNS, Column
from quadric.bench.paper.contenders import CONTENDERS, Contender
from quadric.bench.watch import Watch
from quadric.core.records import Layout

LAYOUT = Layout("table1", 1, "run it again with --overwrite")
SCALES = {"small": 20, "full": 100}
"""Runs of each method on each problem."""
BLOCK = 20
"""So many seeds are run together and recorded as one line. Rounding may depend on it, so it is always the same."""


@dataclass(frozen=True)
class Block:
    """Seeds `first`, `first` + 1, … of one method on one problem: the step that solves, None where none does.

    `reasons` says of each unsolved run, by its seed as text, how it ended.
    """

    method: str
    problem: str
    first: int
    steps: list[int | None]
    reasons: dict[str, str]


@dataclass(frozen=True)
class Count:
    """What the runs of one method on one problem came to; mean and deviation are over the solved ones."""

    runs: int
    solved: int
    mean: float
    std: float
    reasons: list[str]


def header(environment: dict[str, str]) -> dict[str, Any]:
    """What a record of the table begins with: everything that its numbers depend on."""
    return {"settings": settings(), "environment": environment}


def settings() -> dict[str, Any]:
    """The settings of every method on every problem, and where a run ends."""
    return {
        column.problem: {
            "below": column.task.target.threshold,
            "most steps": column.task.epochs,
            **{contender.name: contender.settings(column) for contender in CONTENDERS},
        }
        for column in COLUMNS
    }


def read(path: Path) -> tuple[dict[str, Any], list[Block]]:
    """The header and the blocks of a record file; a last line that is cut off is left out.

    Raises:
        ValueError: the file cannot be read as one of this table.
    """
    kinds = {"block": Block}
    top = LAYOUT.read_header(path, dict)
    blocks, _ = LAYOUT.read_lines(path, lambda values: kinds[values.pop("kind")](**values))
    return top, blocks


def missing(blocks: Iterable[Block], runs: int) -> list[tuple[Column, Contender, int]]:
    """What is still to be run for `runs` seeds: column, method, first seed of the block."""
    done = {(block.problem, block.method, block.first) for block in blocks}
    return [
        (column, contender, first)
        for first in range(0, runs, BLOCK)
        for column in COLUMNS
        for contender in CONTENDERS
        if (column.problem, contender.name, first) not in done
    ]


def run(column: Column, contender: Contender, first: int, size: int = BLOCK, most_steps: int | None = None) -> Block:
    """Run one block. Every method sees the same starts; those that step once a draw see the same noise, too."""
    draw, target = column.task.open(None, torch.device("cpu")), column.task.target
    seeds = range(first, first + size)
    watches = [Watch(most_steps or column.task.epochs, target.threshold) for _ in seeds]
    contender.run(column, [draw(seed) for seed in seeds], watches)
    return Block(
        contender.name,
        column.problem,
        first,
        [watch.steps if watch.solved else None for watch in watches],
        {
            str(seed): f"{watch.status}: {watch.reason}"
            for seed, watch in zip(seeds, watches, strict=True)
            if not watch.solved
        },
    )


def record(path: Path, environment: dict[str, str], runs: int) -> Iterator[tuple[Block, int]]:
    """Run what the record file lacks, and yield each block as it is recorded, with the number of blocks left.

    Raises:
        ValueError: the file is of other settings.
    """
    done: list[Block] = []
    if path.exists():
        top, done = read(path)
        if top["settings"] != settings():
            raise ValueError(f"{path} was recorded with other settings. Name another directory, or add --overwrite.")
    todo = missing(done, runs)
    with Journal(path, LAYOUT, header(environment)) as lines:
        for left, (column, contender, first) in zip(reversed(range(len(todo))), todo, strict=True):
            block = run(column, contender, first)
            lines.write("block", asdict(block))
            yield block, left


def count(blocks: Iterable[Block], method: str, problem: str) -> Count:
    """The runs of a method on a problem, added up."""
    own = [block for block in blocks if (block.method, block.problem) == (method, problem)]
    steps = [step for block in own for step in block.steps]
    solved = [step for step in steps if step is not None]
    return Count(
        len(steps),
        len(solved),
        fmean(solved) if solved else math.nan,
        stdev(solved) if len(solved) > 1 else math.nan,
        [reason for block in own for reason in block.reasons.values()],
    )
