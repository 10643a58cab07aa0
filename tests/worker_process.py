"""A stand-in for a worker: takes its seat, answers each connection with its pid, and does what a file says.

`python -m tests.worker_process FOLDER --seat …`; each start adds a line to FOLDER/starts. FOLDER/how says `serve`,
`end N` (with that code, before it serves), `fall N` (the same as soon as it serves), or `hang` (it serves, then its
event loop stands still).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

from legato.cli.seat import Seat, Worker

DRAIN_S = 0.2
DRAINED = 7
"""Its exit code after SIGTERM; SIGINT's is 0."""


async def main(folder: Path, seat: Seat, worker: Worker, how: list[str]) -> int:
    """Serve until told to end."""
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, told.set_result, each)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{seat.number} {os.getpid()}".encode())
        await writer.drain()
        writer.close()

    servers = [await asyncio.start_server(answer, sock=sock) for sock in worker.sockets]
    worker.serves()
    await asyncio.sleep(0)
    match how:
        case ["hang"]:
            (folder / "hung").write_text(str(os.getpid()))
            threading.Event().wait(60)
        case ["fall", code]:
            return int(code)
    number = await told
    for server in servers:
        server.close()
    await asyncio.sleep(DRAIN_S)
    (folder / f"drained-{seat.number}").touch()
    return DRAINED if number == signal.SIGTERM else 0


if __name__ == "__main__":
    place = Path(sys.argv[1])
    own = Seat.parse(sys.argv[sys.argv.index("--seat") + 1])
    taken = own.take()
    with (place / "starts").open("a") as starts:
        starts.write(f"{own.number} {os.getpid()} {time.monotonic()}\n")
    words = (place / "how").read_text().split()
    if words[0] == "end":
        sys.exit(int(words[1]))
    sys.exit(asyncio.run(main(place, own, taken, words)))
