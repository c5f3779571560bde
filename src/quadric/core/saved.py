"""Results that save to a file and load from it: NumPy's npz, never a pickle, each written whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

FORMAT = 1


class Saved:
    """For frozen dataclasses of tensors, numbers, strings, None, tuples of these, and other such results.

    A class that is no dataclass says with `_saved` what it is made of.
    """

    _kinds: ClassVar[dict[str, type[Saved]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        Saved._kinds[cls.__name__] = cls

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to `path` (".npz" is usual), in place of what was there."""
        arrays: dict[str, Any] = {}
        tree = _packed(self, arrays)
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, _tree=np.array(json.dumps({"format": FORMAT, "result": tree})), **arrays)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _saved(self) -> dict[str, Any]:
        """The keyword arguments that make the same result again."""
        assert is_dataclass(self)
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a result back; tensors come to the CPU. Raises ValueError where the file holds something else."""
        if not zipfile.is_zipfile(path):  # a pickle among others, which is never opened
            if not Path(path).exists():
                raise FileNotFoundError(f"There is no file {path}.")
            raise ValueError(f"{path} is not a result that quadric saved, or is damaged.")
        try:
            with np.load(path, allow_pickle=False) as file:
                content = json.loads(str(file["_tree"][()]))
                if content["format"] != FORMAT:
                    raise ValueError(f"{path} has format {content['format']}, this version reads {FORMAT}.")
                result = _unpacked(content["result"], {name: file[name] for name in file.files if name != "_tree"})
        except (KeyError, TypeError, AttributeError, zipfile.BadZipFile, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a result that quadric saved, or is damaged.") from error
        if not isinstance(result, cls):
            raise ValueError(f"{path} holds {type(result).__name__}, not {cls.__name__}.")
        return result


def _packed(value: Any, arrays: dict[str, Any]) -> Any:
    """The value as JSON, its tensors under names in `arrays`."""
    if isinstance(value, Tensor):
        name = f"array{len(arrays)}"
        arrays[name] = value.detach().cpu().numpy()
        return {"tensor": name}
    if isinstance(value, Saved):
        inside = {name: _packed(part, arrays) for name, part in value._saved().items()}
        return {"kind": type(value).__name__, "fields": inside}
    if isinstance(value, (tuple, list)):
        return {"tuple": [_packed(part, arrays) for part in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"Expected tensors, numbers, strings and results, got {type(value).__name__}.")


def _unpacked(value: Any, arrays: dict[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.from_numpy(arrays[value["tensor"]].copy())
    if "tuple" in value:
        return tuple(_unpacked(part, arrays) for part in value["tuple"])
    kind = Saved._kinds[value["kind"]]
    return kind(**{name: _unpacked(part, arrays) for name, part in value["fields"].items()})
