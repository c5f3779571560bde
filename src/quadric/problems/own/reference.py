"""What a reference such as `pkg.module:factory` stands for in the user's code."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

FORM = "pkg.module:name"


def find(reference: str) -> Any:
    """The object that `pkg.module:name` (or `:name.inner`) names; modules are also looked for in the working directory.

    Raises:
        ValueError: the reference has another form, the module or the name is not there (the nearest are listed), or
            importing the module fails.
    """
    module, colon, path = reference.partition(":")
    if not (module and colon and path):
        raise ValueError(f"Expected {FORM}, such as train:make_model, got {reference!r}.")
    value = _imported(module, reference)
    inside = module
    for name in path.split("."):
        if not hasattr(value, name):
            raise ValueError(f"{inside} has no {name!r} ({reference}).{_nearest(name, dir(value))}")
        value, inside = getattr(value, name), f"{inside}.{name}"
    return value


def call(reference: str, function: Callable[[], Any]) -> Any:
    """function(), for code of the user's named by `reference`.

    Raises:
        RuntimeError: it raised; the message says what, and where.
    """
    try:
        return function()
    except Exception as error:
        raise RuntimeError(f"{reference} failed: {described(error)}") from error


def described(error: Exception) -> str:
    """The error's kind and text, and its place where that is not here."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _imported(module: str, reference: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing != module and not module.startswith(missing + "."):
            raise ValueError(f"{module} ({reference}) imports {missing}, which is not installed.") from error
        parent, _, name = missing.rpartition(".")
        known = [found.name for found in pkgutil.iter_modules(_search_path(parent))]
        raise ValueError(
            f"There is no module {missing} ({reference}), neither installed nor in {here}.{_nearest(name, known)}"
        ) from error
    except Exception as error:
        raise ValueError(f"{module} ({reference}) cannot be imported: {described(error)}") from error


def _search_path(parent: str) -> list[str] | None:
    """Where submodules of `parent` lie; None for top-level modules."""
    return list(getattr(sys.modules.get(parent), "__path__", [])) if parent else None


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, [word for word in known if not word.startswith("_")], n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""
