"""What options of several commands stand for, or the reason why they can't be used."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import torch


WORKERS = "Processes that share the seeds, with one thread each; 1 runs them here."


class Scale(StrEnum):
    """The size of a problem or of a table."""

    small = "small"
    full = "full"


def chosen_device(device: str) -> torch.device:
    """The device of that name. Raises BadParameter where it is not there."""
    import torch

    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise typer.BadParameter(f"{device!r} cannot be used here: {reason}", param_hint="--device") from error
    return place


def check_seconds(seconds: float | None, hint: str = "--seconds") -> None:
    """Raise BadParameter for a number of seconds that is not above 0."""
    if seconds is not None and not seconds > 0:
        raise typer.BadParameter(f"Expected seconds above 0, got {seconds:g}.", param_hint=hint)


def check_workers(workers: int, place: torch.device, threads: int | None) -> None:
    """Raise BadParameter where several workers can't be had: on other devices than the CPU, or with more threads."""
    if workers > 1 and (place.type != "cpu" or (threads or 1) > 1):
        raise typer.BadParameter("Workers run on the CPU with one thread each.", param_hint="--workers")


def names_in(text: str) -> list[str]:
    """The names in a list with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen_names(text: str, known: Iterable[str], kind: str) -> tuple[str, ...]:
    """Different names from `known`, with commas between them. Raises BadParameter for others, or for none."""
    from quadric.core.errors import unknown_name

    names, known = names_in(text), list(known)
    for name in names:
        if name not in known:
            raise typer.BadParameter(str(unknown_name(kind, name, known)), param_hint=f"--{kind}")
    if not names or len(set(names)) < len(names):
        raise typer.BadParameter(f"Expected different names, got {text!r}.", param_hint=f"--{kind}")
    return tuple(names)
