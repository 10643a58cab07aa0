"""What is measured: how each server is started and which wire its clients speak."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Mock, Protocol
from bench.nginx import find_nginx, write_configuration
from bench.process import Cores, Tree, free_port, running, wait_for_port
from bench.toolchain import HERE

LEGATO_ENV: Mapping[str, str] = {
    "LEGATO_AUTH": "none",
    "OPENAI_API_KEY": "sk-bench",
    "LEGATO_MODEL": "mock-model",
    "LEGATO_DURABILITY": "power",
    "LEGATO_MAX_ACTIVE_RUNS": "8000",
    "LEGATO_MAX_READERS": "8000",
    # One upstream call a turn, as at the other targets.
    "LEGATO_TITLES": "words",
    # Idle streams are silent for longer than a model should be.
    "LEGATO_TOKEN_TIMEOUT_S": "300",
}
"""Legato as it is measured: durable to power loss, limits above the largest load, its own steps at work."""

CONTEXT_WINDOW = 8192
"""Tokens that the mock model is said to take."""

START_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one server runs: its port, its upstream and a folder of its own."""

    port: int
    mock: Mock
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server under test."""

    name: str
    protocol: Protocol
    command: Callable[[Place], Sequence[str]]
    env: Callable[[Place], Mapping[str, str]]
    most_streams: int | None = None
    """Streams at 20 tokens/s that it can still serve, where that is fewer than asked."""
    start_limit_s: float = START_LIMIT_S
    """Seconds until it accepts connections, at most."""
    path: str | None = None
    """Where it is posted to, if not where its protocol is at home."""
    sign_in: Callable[[int], str] | None = None
    """Returns a bearer token, given the port; None: it takes any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running target."""

    target: Target
    port: int
    tree: Tree
    token: str | None
    """What its clients carry; None: anything does."""


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _tls_env(place: Place) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(place.mock.certificate)} if place.mock.certificate else {}


def _legato_command(place: Place) -> list[str]:
    data = place.folder / "data"
    data.mkdir(exist_ok=True)
    # A window makes a long conversation's context what it is in life: the latest turns, not all.
    (place.folder / "legato.toml").write_text(
        f'[models.mock-model]\nbase_url = "{place.mock.url}"\ncontext_window = {CONTEXT_WINDOW}\n'
    )
    arguments = ["--host", "127.0.0.1", "--port", str(place.port), "--data-dir", str(data)]
    return _python("-m", "legato", "serve", *arguments)


def _legato_env(place: Place) -> dict[str, str]:
    return {**LEGATO_ENV, "OPENAI_BASE_URL": place.mock.url, **_tls_env(place)}


def _nginx_command(place: Place) -> list[str]:
    path = write_configuration(
        place.folder,
        port=place.port,
        upstream_url=place.mock.url,
        certificate=place.mock.certificate,
    )
    return [str(find_nginx()), "-p", str(place.folder), "-c", str(path)]


def _peer(module: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        arguments = ["--port", str(place.port), "--upstream", place.mock.url]
        return _python("-m", f"bench.peers.{module}", *arguments)

    return command


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(name="legato", protocol="native", command=_legato_command, env=_legato_env),
        Target(name="nginx", protocol="openai", command=_nginx_command, env=lambda place: {}),
        Target(name="relay", protocol="native", command=_peer("relay"), env=_tls_env),
        Target(
            name="tutorial",
            protocol="native",
            command=_peer("tutorial"),
            env=_tls_env,
            most_streams=100,
        ),
    )
}


@contextmanager
def serving(target: Target, mock: Mock, cores: Cores, folder: Path) -> Iterator[Server]:
    """Run a target in `folder`, pinned to the server's core, once it accepts connections."""
    place = Place(port=free_port(), mock=mock, folder=folder)
    command, env = target.command(place), target.env(place)
    limit_s = target.start_limit_s
    with listening(target.name, command, env, port=place.port, cores=cores, folder=folder, limit_s=limit_s) as tree:
        token = target.sign_in(place.port) if target.sign_in else None
        yield Server(target=target, port=place.port, tree=tree, token=token)


@contextmanager
def listening(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    port: int,
    cores: Cores,
    folder: Path,
    limit_s: float = START_LIMIT_S,
) -> Iterator[Tree]:
    """Run a server in `folder`, pinned to the server's core, once it accepts connections on `port`."""
    log = folder / f"{name}.log"
    log.touch()
    # Nothing of the caller's own configuration may reach a server under test.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LEGATO_", "OPENAI_"))}
    environment.update({"PYTHONPATH": str(HERE.parent), **env})
    with running(command, cores=cores.server, log=log, env=environment, cwd=folder) as process:
        wait_for_port(port, process, log=log, limit_s=limit_s)
        yield Tree(process.pid)
