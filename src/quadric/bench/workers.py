"""Several processes that share a comparison's rounds: one thread each, one round at a time, one writer."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from quadric import problems
from quadric.bench.records import Event
from quadric.bench.runner import Entry, Round, run_round, warm_up
from quadric.core.allocator import keep_freed_memory
from quadric.problems import Target


@dataclass(frozen=True)
class Work:
    """What a worker has to know: the problem by its label, its target and looks, what is compared, and how long."""

    problem: str
    target: Target
    evaluate_every: int
    entries: list[Entry]
    epochs: int | None
    data_dir: Path | None
    seconds: float | None = None


def share(work: Work, rounds: Sequence[Round], workers: int) -> Generator[Event, None, None]:
    """What happens in all rounds, as it happens, run by that many processes on the CPU with one thread each.

    A round is never split, so its runs keep taking turns in one process. Whoever stops iterating ends the workers.
    Raises what a worker raised, and RuntimeError where one vanished.
    """
    context = get_context("spawn")  # a fork of a process with threads may hang
    waiting = list(reversed(rounds))
    processes: dict[Connection, Any] = {}
    try:
        for number in range(min(workers, len(rounds))):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(work, theirs), name=f"worker {number}", daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
            ours.send(waiting.pop())
        while processes:
            for connection in wait(list(processes)):
                assert isinstance(connection, Connection)
                yield from answered(connection, processes, waiting)
    finally:
        for process in processes.values():
            process.terminate()


def answered(connection: Connection, processes: dict[Connection, Any], waiting: list[Round]) -> Iterator[Event]:
    """What one message from a worker means; a worker that is done with its round gets the next one, or goes."""
    try:
        message = connection.recv()
    except (EOFError, ConnectionError):
        process = processes[connection]
        process.join()
        raise RuntimeError(
            f"{process.name} stopped with exit status {process.exitcode}, out of memory perhaps; "
            "what was recorded is kept: add --resume to go on."
        ) from None
    if isinstance(message, Exception):
        raise message
    if message is not None:
        yield message
    elif waiting:
        connection.send(waiting.pop())
    else:
        connection.send(None)
        processes.pop(connection).join()


def serve(work: Work, connection: Connection) -> None:
    """Run the rounds that come, until `None` comes or nobody listens; sends events, and `None` after each round."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent handles it
    keep_freed_memory()
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    try:
        problem = problems.labelled(work.problem)
        problem = replace(problem, target=work.target, evaluate_every=work.evaluate_every)
        draw = problem.open(work.data_dir, cpu)
        warm_up(problem, work.entries, draw, cpu)
        while (each := connection.recv()) is not None:
            for event in run_round(problem, each, draw, epochs=work.epochs, device=cpu, seconds=work.seconds):
                connection.send(event)
            connection.send(None)
    except (BrokenPipeError, EOFError):
        return
    except Exception as error:
        connection.send(error)
