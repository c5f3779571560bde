"""What a comparison leaves behind: one JSON object per line, appended whole as it happens and never changed.

The first line is the header. Every later line is an `Evaluation`, a `Reached` (the target), an `End` (of a run) or a
`Resumed` (a comparison that goes on), and its `kind` says which. A run without an `End` was interrupted; if it was
begun again after a `Resumed`, the later attempt is the one that counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from quadric.core.records import Layout, append, line, mend, write_atomically

FORMAT = 2
LAYOUT = Layout("header", FORMAT, "run the comparison again")
BEGINNING = '{"kind": "header"'
"""How every record file begins."""
Status = Literal["finished", "diverged", "interrupted"]


@dataclass(frozen=True)
class Header:
    """What was compared, with what code, on what machine. `optimizers` are `Entry` objects as dictionaries.

    A run lasts `epochs` epochs or `seconds` of training, whichever end first; `None` sets no end.
    `warm_up` has each optimiser's seconds for two steps on a copy before the clock ran, compilation included.
    """

    problem: dict[str, Any]
    optimizers: list[dict[str, Any]]
    epochs: int | None
    seeds: list[int]
    environment: dict[str, str]
    warm_up: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    format: int = FORMAT

    @property
    def title(self) -> str:
        """The problem's name, with its scale if it has several."""
        scale = self.problem.get("scale")
        return f"{self.problem['name']}, {scale} scale" if scale else str(self.problem["name"])


@dataclass(frozen=True)
class Resumed:
    """The comparison went on from here, for these seeds, in what may be another environment."""

    seeds: list[int]
    environment: dict[str, str]


@dataclass(frozen=True)
class Evaluation:
    """A look at a run after `step` steps and `seconds` of training (evaluation not counted).

    `passes` counts forward, backward and curvature passes through the model until then, as `core.passes` defines them;
    `quantities` holds what our own optimisers report of their last step: damping, momentum, step_size, …
    """

    optimizer: str
    seed: int
    step: int
    epoch: float
    seconds: float
    train_loss: float | None
    train_error: float | None
    test_loss: float | None
    test_error: float | None
    passes: dict[str, int] = field(default_factory=dict)
    quantities: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Reached:
    """The run met the problem's target."""

    optimizer: str
    seed: int
    step: int
    seconds: float
    passes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """The run is over, and why."""

    optimizer: str
    seed: int
    status: Status
    reason: str
    steps: int
    seconds: float
    passes: dict[str, int] = field(default_factory=dict)


Event = Evaluation | Reached | End
Line = Event | Resumed
KINDS: dict[str, type[Line]] = {"evaluation": Evaluation, "reached": Reached, "end": End, "resumed": Resumed}
KIND_OF = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class Run:
    """Everything recorded of one optimiser with one seed."""

    optimizer: str
    seed: int
    evaluations: list[Evaluation]
    reached: Reached | None
    end: End | None

    @property
    def status(self) -> Status:
        """How the run ended."""
        return self.end.status if self.end else "interrupted"


@dataclass(frozen=True)
class Record:
    """A record file: its header, its runs in the order of header and seeds, and what is wrong with it, if anything.

    `resumed` has what was written where the comparison went on.
    """

    header: Header
    runs: list[Run]
    damage: str | None
    resumed: list[Resumed] = field(default_factory=list)

    def runs_of(self, optimizer: str) -> list[Run]:
        """The runs of one optimiser, one per seed."""
        return [run for run in self.runs if run.optimizer == optimizer]

    @property
    def seeds(self) -> list[int]:
        """Every seed that was asked for, at the start or later."""
        return all_seeds(self.header, self.resumed)

    @property
    def environments(self) -> list[dict[str, str]]:
        """Where it was begun, and where it went on."""
        return [self.header.environment, *(each.environment for each in self.resumed)]

    @property
    def over(self) -> set[tuple[str, int]]:
        """Optimiser and seed of the runs that came to an end."""
        return {(run.optimizer, run.seed) for run in self.runs if run.end}


class Recorder:
    """Writes to a record file, each event as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begin(cls, path: Path, header: Header) -> Recorder:
        """A new file, in the place of any other."""
        write_atomically(path, line("header", asdict(header)).encode())
        return cls(path)

    @classmethod
    def resume(cls, path: Path, resumed: Resumed) -> Recorder:
        """Go on with a file; a last line that was cut off is taken away."""
        mend(path)
        recorder = cls(path)
        recorder.write(resumed)
        return recorder

    def write(self, event: Line) -> None:
        """Append `event` and hand it to the operating system. Where that fails the file stays as it was."""
        append(self.path, line(KIND_OF[type(event)], asdict(event)).encode())


def read_header(path: Path) -> Header:
    """The header of a record file.

    Raises:
        ValueError: `path` does not begin as a record file of this format does.
    """
    return LAYOUT.read_header(path, lambda values: Header(**values))


def read(path: Path) -> Record:
    """The record in `path`. A last line that is cut off is left out and said so in `damage`.

    Raises:
        ValueError: the header or a line before the last cannot be read.
        FileNotFoundError: there is no such file.
    """
    header = read_header(path)
    lines, damage = LAYOUT.read_lines(path, lambda values: KINDS[values.pop("kind")](**values))
    return gathered(header, lines, damage)


def gathered(header: Header, lines: list[Line], damage: str | None = None) -> Record:
    """The record that a header and the lines after it make."""
    attempts: dict[tuple[str, int], list[list[Event]]] = {}
    resumed: list[Resumed] = []
    part: dict[tuple[str, int], list[Event]] = {}
    for entry in lines:
        if isinstance(entry, Resumed):
            resumed.append(entry)
            part = {}
            continue
        key = entry.optimizer, entry.seed
        if key not in part:
            part[key] = []
            attempts.setdefault(key, []).append(part[key])
        part[key].append(entry)
    keys = [(entry["name"], seed) for entry in header.optimizers for seed in all_seeds(header, resumed)]
    return Record(header, [assembled(*key, attempts.get(key, [[]])[-1]) for key in keys], damage, resumed)


def all_seeds(header: Header, resumed: list[Resumed]) -> list[int]:
    """The header's seeds and those that came later, once each."""
    return list(dict.fromkeys([*header.seeds, *(seed for part in resumed for seed in part.seeds)]))


def assembled(optimizer: str, seed: int, events: list[Event]) -> Run:
    """The events of one attempt at a run put together."""
    return Run(
        optimizer,
        seed,
        evaluations=[event for event in events if isinstance(event, Evaluation)],
        reached=next((event for event in events if isinstance(event, Reached)), None),
        end=next((event for event in events if isinstance(event, End)), None),
    )
