"""What a comparison leaves behind: one JSON object per line, written and flushed as it happens.

The first line is the header. Every later line is an `Evaluation`, a `Reached` (the target) or an `End` (of a run), and
its `kind` says which. A run without an `End` was interrupted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from quadric.core.records import Layout, line, write_atomically

FORMAT = 1
LAYOUT = Layout("header", FORMAT, "run the comparison again")
BEGINNING = '{"kind": "header"'
"""How every record file begins."""
Status = Literal["finished", "diverged", "interrupted"]


@dataclass(frozen=True)
class Header:
    """What was compared, with what code, on what machine. `optimizers` are `Entry` objects as dictionaries."""

    problem: dict[str, Any]
    optimizers: list[dict[str, Any]]
    epochs: int
    seeds: list[int]
    environment: dict[str, str]
    format: int = FORMAT


@dataclass(frozen=True)
class Evaluation:
    """A look at a run after `step` steps and `seconds` of training (evaluation not counted).

    `quantities` holds what our own optimisers report of their last step: damping, momentum, step_size, …
    """

    optimizer: str
    seed: int
    step: int
    epoch: float
    seconds: float
    train_loss: float | None
    train_error: float | None
    test_error: float | None
    quantities: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Reached:
    """The run met the problem's target."""

    optimizer: str
    seed: int
    step: int
    seconds: float


@dataclass(frozen=True)
class End:
    """The run is over, and why."""

    optimizer: str
    seed: int
    status: Status
    reason: str
    steps: int
    seconds: float


Event = Evaluation | Reached | End
KINDS: dict[str, type[Event]] = {"evaluation": Evaluation, "reached": Reached, "end": End}
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
    """A record file: its header, its runs in the order of header and seeds, and what is wrong with it, if anything."""

    header: Header
    runs: list[Run]
    damage: str | None

    def runs_of(self, optimizer: str) -> list[Run]:
        """The runs of one optimiser, one per seed."""
        return [run for run in self.runs if run.optimizer == optimizer]


class Recorder:
    """Writes a record file: the header at once, then each event as it comes."""

    def __init__(self, path: Path, header: Header) -> None:
        write_atomically(path, line("header", asdict(header)).encode())
        self.file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def write(self, event: Event) -> None:
        """Append `event` and hand it to the operating system."""
        self.file.write(line(KIND_OF[type(event)], asdict(event)))
        self.file.flush()


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
    events, damage = LAYOUT.read_lines(path, lambda values: KINDS[values.pop("kind")](**values))
    keys = [(entry["name"], seed) for entry in header.optimizers for seed in header.seeds]
    return Record(header, [assemble(optimizer, seed, events) for optimizer, seed in keys], damage)


def assemble(optimizer: str, seed: int, events: list[Event]) -> Run:
    """The events of one run put together."""
    own = [event for event in events if (event.optimizer, event.seed) == (optimizer, seed)]
    return Run(
        optimizer,
        seed,
        evaluations=[event for event in own if isinstance(event, Evaluation)],
        reached=next((event for event in own if isinstance(event, Reached)), None),
        end=next((event for event in own if isinstance(event, End)), None),
    )
