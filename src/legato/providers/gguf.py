"""The head of a GGUF file: what a model says of itself, read without loading it."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO, Final

# GGUF's value types: bytes of the numbers by their tag, then the two that have a length.
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY, _UINT64 = 4, 8, 9, 10
_MOST_BYTES: Final = 1 << 20


def trained_context(path: Path) -> int | None:
    """Return the context that a GGUF file's model was trained with, in tokens; None if it says none.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no GGUF file, or is cut.

    Source:
        https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    with path.open("rb") as file:
        if _exactly(file, 4) != b"GGUF":
            raise ValueError("no GGUF file")
        version, _, pairs = struct.unpack("<IQQ", _exactly(file, 20))
        if version not in (2, 3):
            raise ValueError("an unknown version of GGUF")
        for _ in range(pairs):
            key = _exactly(file, struct.unpack("<Q", _exactly(file, 8))[0])
            (kind,) = struct.unpack("<I", _exactly(file, 4))
            if key.endswith(b".context_length") and kind in (_UINT32, _UINT64):
                return int.from_bytes(_exactly(file, _SIZES[kind]), "little")
            _skip_value(file, kind)
    return None


def _skip_value(file: IO[bytes], kind: int) -> None:
    if kind == _STRING:
        file.seek(struct.unpack("<Q", _exactly(file, 8))[0], os.SEEK_CUR)
    elif kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        if inner in _SIZES:
            file.seek(count * _SIZES[inner], os.SEEK_CUR)
        else:
            for _ in range(count):
                _skip_value(file, inner)
    elif kind in _SIZES:
        file.seek(_SIZES[kind], os.SEEK_CUR)
    else:
        raise ValueError("an unknown type of GGUF value")


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(min(size, _MOST_BYTES))
    if len(data) != size:
        raise ValueError("a GGUF file that is cut")
    return data
