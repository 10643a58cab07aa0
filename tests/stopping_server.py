"""The server, made to stop itself (SIGSTOP) in the midst of the transaction that ends a reply, once STOP_FILE is there.

Run as a script: `python tests/stopping_server.py serve …`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from legato.cli.main import main
from legato.runs.end import EndRun
from legato.storage.statement import Transaction


def install(stop_file: Path) -> None:
    """Put the stop behind what the end of a run writes, before its COMMIT."""
    apply = EndRun.apply

    def stopped(self: EndRun, tx: Transaction) -> Any:
        value = apply(self, tx)
        if stop_file.exists():
            stop_file.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
            # It may be another thread that is told first: this one must not commit meanwhile.
            time.sleep(0.5)
        return value

    EndRun.apply = stopped  # type: ignore[method-assign]


if __name__ == "__main__":
    install(Path(os.environ["STOP_FILE"]))
    main()
