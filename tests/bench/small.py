"""A problem small enough to train in milliseconds, and a record made by hand."""

from dataclasses import replace

import torch

from quadric import problems
from quadric.bench.records import End, Evaluation, Header, Reached

CPU = torch.device("cpu")


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
            {"name": name, "hyper": {"lr": 0.1} if name == "sgd" else {}, "origin": "searched"} for name in names
        ],
        epochs=2,
        seeds=list(seeds),
        environment={"torch": "2"},
    )


def run(optimizer, seed, losses, reached=None, status="finished", quantities=None):
    """The events of a run that is evaluated every 10 steps, half a second apart."""
    events = [
        Evaluation(optimizer, seed, 10 * i, i / 2, 0.5 * i, loss, loss / 10, loss / 5, quantities or {})
        for i, loss in enumerate(losses)
    ]
    if reached is not None:
        events.append(Reached(optimizer, seed, reached, reached / 20))
    last = events[len(losses) - 1]
    return events if status is None else [*events, End(optimizer, seed, status, "because", last.step, last.seconds)]
