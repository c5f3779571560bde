"""The IDX format of MNIST and Fashion-MNIST: a magic number, the sizes, then bytes."""

from __future__ import annotations

import struct
from math import prod

import numpy as np
import numpy.typing as npt

UNSIGNED_BYTE = 0x08


def parse(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes.

    Raises:
        ValueError: `content` is not such a file, or is shorter or longer than its header says.
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise ValueError(
            f"{name}: expected an IDX file of unsigned bytes, which begins with 00 00 08, got "
            f"{content[:3].hex(' ') or 'nothing'}. Fetch the file again."
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"{name}: the file ends within its IDX header. Fetch the file again.")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != prod(shape):
        raise ValueError(
            f"{name}: its IDX header promises {prod(shape):,} bytes of data, got {len(content) - start:,}. "
            "Fetch the file again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
