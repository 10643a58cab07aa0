"""A node that kills or stops itself at a chosen place on PostgreSQL: `python -m tests.faults.cluster_server serve …`.

    FAULT_FUSE  a file that `Arm` writes; nothing happens as long as it is not armed

The fuse lies in every place from the node's start, and is armed while it works.
"""

from __future__ import annotations

import mmap
import os
import signal
from pathlib import Path
from typing import Any

from legato.cli.main import main
from legato.http.edge import Edge
from legato.runs import lease, recover, takeover
from legato.runs.end import EndRun
from legato.runs.start import StartRun
from legato.runs.tail import Tail
from legato.runs.takeover import Adopt
from legato.storage.committer import Appending, Committer
from legato.storage.postgres_transaction import Session
from legato.storage.postgres_writer import PostgresWriter
from tests.faults.crashing_server import Fuse

SEAMS = (
    "append-after",
    "written-before",
    "written-after",
    "begun-after",
    "commit-before",
    "commit-after",
    "publish-before",
    "publish-after",
    "write-before",
    "write-after",
    "finish-before",
    "start-apply-after",
    "start-committed-before",
    "start-committed-after",
    "end-apply-before",
    "end-apply-after",
    "end-committed-before",
    "end-committed-after",
    "renew-before",
    "renew-after",
)
"""Passed while replies are made."""
TAKING_SEAMS = ("fence-before", "fence-after", "adopt-before", "adopt-after", "adopted-before", "adopted-after")
"""Passed while another node's replies are taken over."""
LEAVING_SEAMS = ("offer-before", "offer-after")
"""Passed while the node's own replies are handed over."""


_ARMED, _ORDER = 0, 1
"""Where in the file stand the number of the order (0: none) and its words."""
_FILE_BYTES = 128


class Arm:
    """Tells a node that runs at which place to end; what it says is known there at once.

    Args:
        path: Of the file, made anew: a node that has it from before keeps its own.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(bytes(_FILE_BYTES))
        self._shared = _shared(path)
        self._orders = 0

    def set(self, seam: str, at: int, how: str) -> None:
        """Have the node end at the `at`th pass of a seam from now on.

        Args:
            how: `kill` (SIGKILL) or `stop` (SIGSTOP: it goes on when it is told to).
        """
        self._orders = self._orders % 255 + 1
        self._shared[_ORDER:] = f"{seam} {at} {how}".encode().ljust(_FILE_BYTES - _ORDER, b"\0")
        self._shared[_ARMED] = self._orders

    def unset(self) -> None:
        self._shared[_ARMED] = 0


class ArmedFuse(Fuse):
    """A fuse that is given its place while the process runs."""

    def __init__(self, path: Path) -> None:
        super().__init__("", 0, None)
        self._shared = _shared(path)
        self._taken = 0

    def passes(self, seam: str) -> None:
        if number := self._shared[_ARMED]:
            with self._lock:
                self._take(number)
                if seam == self._seam:
                    self._left -= 1
                    if self._left == 0:
                        self.burn()

    def _take(self, number: int) -> None:
        if number != self._taken:
            seam, at, how = self._shared[_ORDER:].rstrip(b"\0").decode().split()
            self._taken, self._seam, self._left = number, seam, int(at)
            self._number = signal.SIGSTOP if how == "stop" else signal.SIGKILL


def _shared(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), _FILE_BYTES)


def install(fuse: Fuse) -> None:
    """Put the fuse into every place."""
    append = Committer.append

    def append_and_pass(self: Committer, run: Appending, item: Any) -> None:
        append(self, run, item)
        fuse.passes("append-after")

    Committer.append = append_and_pass  # type: ignore[method-assign]
    fuse.around(PostgresWriter, "append", "written")
    fuse.around(PostgresWriter, "_begin", "begun", before=False)
    fuse.around(Session, "commit", "commit")
    fuse.around(Tail, "publish", "publish")
    fuse.around(Edge, "write", "write")
    fuse.around(Edge, "finish", "finish", after=False)
    fuse.around(StartRun, "apply", "start-apply")
    fuse.around(StartRun, "committed", "start-committed")
    fuse.around(EndRun, "apply", "end-apply")
    fuse.around(EndRun, "committed", "end-committed")
    fuse.around(Adopt, "apply", "adopt")
    fuse.around(Adopt, "committed", "adopted")
    fuse.around(takeover, "fence", "fence")
    fuse.around(lease, "renew", "renew")
    fuse.around(recover, "offer", "offer")


def begin() -> None:
    """Be the server that the command line says."""
    if path := os.environ.get("FAULT_FUSE"):
        install(ArmedFuse(Path(path)))
    main()


if __name__ == "__main__":
    begin()
