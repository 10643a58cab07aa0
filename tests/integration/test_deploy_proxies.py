"""The proxies of deploy/ at work: a real stream through each to a real server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.client import Client, Connection, Head, Stream, request_bytes, text_of
from tests.server import ServerProcess, free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
WAIT_S = 20.0
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Door:
    """A proxy that runs.

    Args:
        tls: What its certificate is checked by; None where it speaks plainly.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self.port = port
        self._tls = tls

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[Head, Connection]:
        connection = Connection(self.port)
        if self._tls is not None:
            connection.sock = self._tls.wrap_socket(connection.sock, server_hostname="localhost")
        connection.send(request_bytes(method, path, body, {"Host": f"localhost:{self.port}"}))
        return connection.read_head(), connection


@contextmanager
def running(command: list[str], folder: Path, door: Door, **variables: str) -> Iterator[Door]:
    """Run a proxy until the end of the block."""
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | variables, stdout=said, stderr=said)
    try:
        until_s = time.monotonic() + WAIT_S
        while True:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", door.port)) == 0:
                    break
            assert process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < until_s, (folder / "said").read_text()
            time.sleep(0.02)
        yield door
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


@contextmanager
def nginx(folder: Path, ports: list[int]) -> Iterator[Door]:
    """Run nginx on the sample, with addresses and certificates of this test in the place of the example's."""
    assert NGINX is not None
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    port = free_port()
    text = (DEPLOY / "nginx.conf").read_text()
    servers = iter(ports)
    text = re.sub(r"10\.0\.0\.1\d:3111", lambda _: f"127.0.0.1:{next(servers)}", text)
    text = re.sub(r"^ *listen \[.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
    text = text.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    text = text.replace("/etc/ssl/certs/chat.example.org.pem", str(folder / "cert.pem"))
    text = text.replace("/etc/ssl/private/chat.example.org.key", str(folder / "key.pem"))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {folder}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {temporary} {text} }}"
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t", "-q"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with running(command, folder, Door(port, tls)) as door:
        yield door


@contextmanager
def caddy(folder: Path, ports: list[int]) -> Iterator[Door]:
    """Run Caddy on the sample, which takes its addresses from the environment."""
    program = str(Path(sysconfig.get_path("scripts")) / "caddy")
    port = free_port()
    command = [program, "run", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"]
    with running(
        command,
        folder,
        Door(port, None),
        SITE_ADDRESS=f"http://localhost:{port}",
        NODES=" ".join(f"127.0.0.1:{each}" for each in ports),
        CADDY_ADMIN=f"127.0.0.1:{free_port()}",
        HOME=str(folder),
        XDG_CONFIG_HOME=str(folder),
        XDG_DATA_HOME=str(folder),
    ) as door:
        yield door


@pytest.fixture(
    scope="module",
    params=[pytest.param(nginx, marks=pytest.mark.skipif(NGINX is None, reason="nginx is not installed")), caddy],
    ids=lambda proxy: proxy.__name__,
)
def door(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """A proxy before three nodes, of which one is there."""
    with request.param(tmp_path_factory.mktemp("proxy"), [free_port(), server.port, free_port()]) as opened:
        yield opened


def post(door: Door, message: str) -> Stream:
    head, connection = door.ask("POST", "/chat/stream", b'{"message": "%s"}' % message.encode())
    assert head.status == 200, connection.read_body(head)
    return Stream(connection, head)


def test_each_piece_of_a_reply_goes_on_at_once(door: Door, server: ServerProcess) -> None:
    """The first is here while the reply is still being made; the whole is what the node itself tells."""
    stream = post(door, "script: tokens=6 delay_ms=250 seed=3 stall=3")
    first = stream.take(1)
    with Client(server.port) as client:
        text = client.ask("GET", "/metrics").body.decode()
        assert 'legato_runs{state="running"} 0.0' not in text
        assert client.ask("POST", f"/chat/stream/{stream.run_id}/stop").status == 202
        rest = stream.rest()
        assert text_of(client.follow(stream.run_id).rest()) == text_of(first + rest)
    assert rest[-1].name == "complete"
    stream.close()


def test_nodes_that_are_away_are_passed_over(door: Door) -> None:
    """Whichever the turn comes to: two of three do not answer, and nobody notices."""
    for _ in range(9):
        stream = post(door, "script: tokens=1")
        assert stream.rest()[-1].name == "complete"
        stream.close()


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 404), ("/health/live", 404), ("/health/ready", 404), ("/models", 200)]
)
def test_what_is_for_machines_inside_is_not_shown(door: Door, path: str, status: int) -> None:
    """Everything else is."""
    head, connection = door.ask("GET", path)
    assert head.status == status
    connection.close()


def test_a_body_may_be_as_large_as_the_server_takes(door: Door) -> None:
    """1 MiB passes the proxy and is the server's to judge; more is refused."""
    for size, refused in ((1_000_000, False), (1_200_000, True)):
        head, connection = door.ask("POST", "/chat/stream", b'{"message": "' + b" " * size + b'"}')
        assert (head.status == 413) == refused, head
        connection.close()
