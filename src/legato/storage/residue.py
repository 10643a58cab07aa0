"""What is left of deleted rows in the pages of an SQLite file, where zeros are written over what is deleted.

Rows that SQLite has moved to a neighbouring page leave a copy behind, in the part of the page that no row stands in;
when they are deleted later, only the place where they stood then is zeroed. Writing the file anew (VACUUM) leaves
nothing behind. https://www.sqlite.org/fileformat2.html has the format of pages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 134_217_728
"""A larger file is not written anew beside a server that writes: that would take seconds, and as much memory."""
CLEAN: Final = 0
RESIDUE: Final = 10
"""How the process that looks ends."""
_PAGES: Final = 256
"""Pages that are read at once."""
_HEADER: Final = {0x02: 12, 0x05: 12, 0x0A: 8, 0x0D: 8}
"""Bytes of a page's header, by its kind: inner and leaf pages of indexes and of tables."""


def has_residue(path: Path) -> bool:
    """Whether some page of a file has anything in the part that no row stands in; nothing of it is in its log.

    Another process looks: where one closes a file, all locks that it has on it are gone (POSIX), those of its SQLite
    connections too, and with them what keeps the write-ahead log from being deleted by whoever comes next.

    Raises:
        OSError: The file cannot be read.
    """
    looked = subprocess.run([sys.executable, "-I", "-S", __file__, str(path)], stdin=subprocess.DEVNULL, check=False)
    if looked.returncode not in (CLEAN, RESIDUE):
        raise OSError(f"{path.name} cannot be read: the process that looks at it ended with {looked.returncode}")
    return looked.returncode == RESIDUE


def _look(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(100)
        size = int.from_bytes(head[16:18], "big")
        size = 65_536 if size == 1 else size
        if size < 512:
            return False
        file.seek(0)
        first = True
        while chunk := file.read(size * _PAGES):
            for start in range(0, len(chunk), size):
                if _in_gap(chunk[start : start + size], 100 if first else 0):
                    return True
                first = False
    return False


def may_be_written_anew(path: Path) -> bool:
    """Whether it is small enough for that to be over in a moment."""
    return os.stat(path).st_size <= MOST_BYTES


def _in_gap(page: bytes, begin: int) -> bool:
    header = _HEADER.get(page[begin]) if len(page) > begin else None
    if header is None:
        # What a row has too much of for its page, or a free page: both are zeroed as a whole.
        return False
    cells = int.from_bytes(page[begin + 3 : begin + 5], "big")
    content = int.from_bytes(page[begin + 5 : begin + 7], "big") or 65_536
    return bool(page[begin + header + 2 * cells : content].strip(b"\0"))


if __name__ == "__main__":
    sys.exit(RESIDUE if _look(Path(sys.argv[1])) else CLEAN)
