"""A problem small enough to train in milliseconds, and a record made by hand."""

from dataclasses import asdict, replace

import torch

from quadric import problems
from quadric.bench.records import End, Evaluation, Header, Reached
from quadric.bench.runner import Entry

CPU = torch.device("cpu")
SEARCH = {"setting": "lr", "tried": {"0.01": [1, 30.0, 0.2], "0.1": [0, 20.0, 0.01], "1": [2, None, None]}}


def digits(**changes):
    """The digits problem with some fields changed, and its draw."""
    problem = replace(problems.get("digits-mlp"), **changes)
    return problem, problem.open(None, CPU)


def header(names=("curveball", "sgd"), seeds=(0, 1)):
    """A header as `quadric compare` writes it."""
    return Header(
        problem={
            "name": "digits-mlp",
            "summary": "digits & <tags>",
            "batch_size": 128,
            "target": {"text": "train loss ≤ 0.1", "metric": "train_loss", "threshold": 0.1, "origin": "chosen"},
            "facts": {"data": "digits"},
        },
        optimizers=[
            asdict(Entry(name, {"lr": 0.1}, "searched", "tuned", SEARCH) if name == "sgd" else Entry(name))
            for name in names
        ],
        epochs=2,
        seeds=list(seeds),
        environment={"torch": "2"},
    )


def passes(steps):
    """One forward and one backward pass a step, and no curvature."""
    return {"forward": steps, "backward": steps, "curvature": 0}


def run(optimizer, seed, losses, reached=None, status="finished", quantities=None):
    """The events of a run that is evaluated every 10 steps, half a second apart."""
    events = [
        Evaluation(
            *(optimizer, seed, 10 * i, i / 2, 0.5 * i),
            *(loss, loss / 10, 2 * loss, loss / 5),
            passes(10 * i),
            quantities or {},
        )
        for i, loss in enumerate(losses)
    ]
    if reached is not None:
        events.append(Reached(optimizer, seed, reached, reached / 20, passes(reached)))
    last = events[len(losses) - 1]
    return (
        events
        if status is None
        else [
            *events,
            End(optimizer, seed, status, "because", last.step, last.seconds, passes(last.step)),
        ]
    )
