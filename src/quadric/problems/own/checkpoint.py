"""Weights from a checkpoint into a model. Tensors only: nothing in a checkpoint is ever executed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before every name."""
LISTED = 4
FORBIDDEN = re.compile(r"GLOBAL (\S+)")
"""What torch's loader says of code that a pickle asks for."""


def load(model: nn.Module, path: Path, key: str | None = None) -> None:
    """Copy the checkpoint's weights into `model`. `key` says which entry of the file holds them, if several could.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds more than tensors and plain values, no weights or several, or weights that don't fit.
    """
    state = _without_prefix(weights(contents(path), path, key), model)
    _check_fit(model, state, path)
    model.load_state_dict(state, strict=False)


def contents(path: Path) -> Any:
    """What the file holds, on the CPU: `.safetensors`, or what `torch.save` wrote."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    safe = path.suffix == ".safetensors"
    if safe and find_spec("safetensors") is None:
        raise ValueError(f"{path} needs the package safetensors: pip install 'quadric[safetensors]'")
    try:
        return _safetensors(path) if safe else _pickled(path)
    except Exception as error:
        found = FORBIDDEN.search(str(error))
        if found:
            raise ValueError(
                f"{path} is not loaded: besides tensors and plain values it names {found.group(1)}, and unpickling "
                "that could run code. Save the weights alone: torch.save(model.state_dict(), path)."
            ) from error
        said = f"{type(error).__name__}: {error}".split("\n")[0].split(". ")[0]
        raise ValueError(
            f"{path} is not a checkpoint of tensors, or is damaged ({said}); nothing in it was executed. Expected what "
            "torch.save(model.state_dict(), path) writes, or a .safetensors file."
        ) from error


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _pickled(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the pickle's protocol
        return torch.load(path, map_location="cpu", weights_only=True)


def weights(content: Any, path: Path, key: str | None = None) -> State:
    """The one dictionary of named tensors in a checkpoint: the file itself, or an entry of it."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds {type(content).__name__}; expected a state_dict, names with their tensors.")
    found = {"": dict(content)} if _is_state(content) else _states(content)
    if key is not None:
        if key not in found:
            raise ValueError(f"{path} has no weights under {key!r}. There are: {_listed(found) or 'none'}.")
        return found[key]
    if not found:
        raise ValueError(f"{path} holds no weights, only {_listed(map(str, content)) or 'nothing'}.")
    if len(found) > 1:
        raise ValueError(f"{path} holds several sets of weights: {_listed(found)}. Say which with --key.")
    return next(iter(found.values()))


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(part, Tensor) for name, part in value.items())
    )


def _states(content: Mapping[Any, Any], outer: str = "") -> dict[str, State]:
    """The dictionaries of named tensors among the entries, and among those of their entries."""
    found: dict[str, State] = {}
    for name, value in content.items():
        if _is_state(value):
            found[f"{outer}{name}"] = dict(value)
        elif isinstance(value, Mapping) and not outer:
            found.update(_states(value, f"{name}."))
    return found


def _without_prefix(state: State, model: nn.Module) -> State:
    """Names as the model has them, where all that differs is what a wrapper put before each."""
    known = model.state_dict().keys()
    for prefix in PREFIXES * 2:  # one may be around another
        if all(name.startswith(prefix) for name in state) and not any(name.startswith(prefix) for name in known):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _check_fit(model: nn.Module, state: State, path: Path) -> None:
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    places = {(value.data_ptr(), value.shape) for name, value in own.items() if name in state}
    missing = [name for name, v in own.items() if name not in state and (v.data_ptr(), v.shape) not in places]  # tied
    unexpected = [name for name in state if name not in own]
    wrong = [
        f"{name} ({list(value.shape)}, the model has {list(own[name].shape)})"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    if any(problems.values()):
        said = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
        raise ValueError(f"{path} does not fit {type(model).__name__}. Weights {said}.")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
