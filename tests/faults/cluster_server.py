"""A node that kills or stops itself at a chosen place on PostgreSQL: `python -m tests.faults.cluster_server serve …`.

FAULT_SEAM, FAULT_AT, FAULT_ARM  as in tests.faults.crashing_server
FAULT_HOW                        `kill` (SIGKILL) or `stop` (SIGSTOP: it goes on when it is told to)
"""

from __future__ import annotations

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


if __name__ == "__main__":
    if seam := os.environ.get("FAULT_SEAM"):
        how = signal.SIGSTOP if os.environ.get("FAULT_HOW") == "stop" else signal.SIGKILL
        arm = os.environ.get("FAULT_ARM")
        install(Fuse(seam, int(os.environ.get("FAULT_AT", "1")), Path(arm) if arm else None, number=how))
    main()
