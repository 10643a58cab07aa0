"""`legato` as a process of its own, and a proxy that cuts what passes through it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.nursery import shared_nursery

WAIT_S = 30.0


def environment(**values: object) -> dict[str, str]:
    """This process's environment without any setting, as an 80-column terminal has it, and `values`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LEGATO_", "OPENAI_")) and "PROXY" not in name.upper()
    }
    return inherited | {"COLUMNS": "80"} | {name: str(value) for name, value in values.items()}


def launch(
    folder: Path, *arguments: str, stdin: int = subprocess.DEVNULL, output: int = subprocess.PIPE, **values: object
) -> subprocess.Popen[bytes]:
    """Start `legato` with `arguments` in `folder`; its output is piped, or goes to the descriptor `output`."""
    return subprocess.Popen(
        [sys.executable, "-m", "legato", *arguments],
        cwd=folder,
        env=environment(**values),
        stdin=stdin,
        stdout=output,
        stderr=output,
    )


def legato(
    folder: Path, *arguments: str, stdin: str | None = None, **values: object
) -> subprocess.CompletedProcess[str]:
    """Run `legato` to its end, in a process that is forked from one with everything imported."""
    with tempfile.TemporaryDirectory() as own:
        given, out, err = (Path(own) / name for name in ("in", "out", "err"))
        given.write_text(stdin or "", "utf-8")
        process = shared_nursery().launch(arguments, folder, environment(**values), out, errors=err, stdin=given)
        try:
            code = process.wait(WAIT_S * 2)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            raise
        said = [path.read_text("utf-8") if path.exists() else "" for path in (out, err)]
    return subprocess.CompletedProcess(["legato", *arguments], code, *said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command has ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def legato_inside(folder: Path, *arguments: str, **values: object) -> Ended:
    """Run `legato` to its end in this process, where it takes no second to start: what only asks for its answer.

    Nothing else may change this process's folder, arguments or environment meanwhile.
    """
    from legato.cli.main import main

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    code: Any = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "environ", environment(**values))
        patch.setattr(sys, "argv", ["legato", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
    said = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        said.append(stream.read())
    return Ended(returncode=int(code), stdout=said[0], stderr=said[1])


class CuttingProxy:
    """Forwards connections to a server and cuts each after a number of bytes of its answer.

    Args:
        port: The server's.
        cuts: For each connection in turn, after how many bytes; connections beyond them are not cut.
    """

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target = port
        self._cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # A thread that waits in accept is woken only by this.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            limit = self._cuts.pop(0) if self._cuts else None
            threading.Thread(target=self._serve, args=(client, limit), daemon=True).start()

    def _serve(self, client: socket.socket, limit: int | None) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target), timeout=WAIT_S) as server:
            server.settimeout(WAIT_S)
            pump = threading.Thread(target=_pump, args=(client, server), daemon=True)
            pump.start()
            passed = 0
            with contextlib.suppress(OSError):
                while limit is None or passed < limit:
                    piece = server.recv(65536 if limit is None else min(65536, limit - passed))
                    if not piece:
                        break
                    client.sendall(piece)
                    passed += len(piece)
            for sock in (client, server):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            pump.join(WAIT_S)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)


@contextlib.contextmanager
def cutting_proxy(port: int, *cuts: int) -> Iterator[CuttingProxy]:
    """Run a CuttingProxy."""
    proxy = CuttingProxy(port, list(cuts))
    try:
        yield proxy
    finally:
        proxy.close()


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Make sure that a process is gone, whatever the test found."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def read_until(read: Callable[[], bytes], wanted: bytes) -> bytes:
    """Read until `wanted` has come; whoever hangs is ended by the test's time limit."""
    seen = b""
    while wanted not in seen:
        piece = read()
        assert piece, f"it ended before {wanted!r}: {seen!r}"
        seen += piece
    return seen
