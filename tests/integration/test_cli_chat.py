"""`legato chat` against real servers, cut and killed."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from legato.providers.scripted import reply
from tests.cli_process import WAIT_S, cutting_proxy, ended, environment, launch, legato, read_until
from tests.conftest import StartServer
from tests.integration.held_models import WAITING_BOT
from tests.server import ServerProcess, free_port

SCRIPT = "script: tokens=40 delay_ms=20 seed=1"
REPLY = reply(1, 40) + "\n"
ASK = 'tool=ask:{"key":"k"}@1'


def test_one_message_prints_just_the_reply(server: ServerProcess, tmp_path: Path) -> None:
    """Exactly the reply on standard output, nothing on standard error, exit 0."""
    done = legato(tmp_path, "chat", "--url", server.address, "script: tokens=40", "seed=1")
    assert (done.stdout, done.stderr, done.returncode) == (REPLY, "", 0)


def test_a_pipe_is_the_message(server: ServerProcess, tmp_path: Path) -> None:
    """What is piped in is what is said."""
    done = legato(tmp_path, "chat", "--url", server.address, stdin="two\nlines script: tokens=3 seed=4\n")
    assert (done.stdout, done.returncode) == (reply(4, 3) + "\n", 0)
    assert legato(tmp_path, "chat", "--url", server.address, stdin=" \n").returncode == 2


def test_a_failed_reply_exits_1(server: ServerProcess, tmp_path: Path) -> None:
    """The failure is one sentence on standard error."""
    done = legato(tmp_path, "chat", "--url", server.address, "script: tokens=3 fail=400")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("legato: the reply failed: ")
    assert done.stderr.count("\n") == 1


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Says how to start one; exit 69."""
    done = legato(tmp_path, "chat", "--url", f"http://127.0.0.1:{free_port()}", "hi")
    assert done.returncode == 69
    assert "legato serve" in done.stderr
    assert "connection refused" in done.stderr


def test_an_address_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    """Exit 2, as for every wrong command line."""
    assert legato(tmp_path, "chat", "--url", "ftp://example.org", "hi").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [(0,), (30, 0), (500, 700, 1, 2500)])
def test_a_cut_reply_is_read_to_its_end(server: ServerProcess, tmp_path: Path, cuts: tuple[int, ...]) -> None:
    """Cut before the headers, inside them, inside events: the reply comes whole, once, and one run was made."""
    before = len(server.calls())
    with cutting_proxy(server.port, *cuts) as proxy:
        done = legato(tmp_path, "chat", "--url", f"http://127.0.0.1:{proxy.port}", SCRIPT)
        assert proxy.connections == len(cuts) + 1
    assert (done.stdout, done.returncode) == (REPLY, 0)
    assert done.stderr.count("reconnecting") >= 1
    assert len(server.calls()) == before + 1


@pytest.mark.slow
def test_a_reply_outlives_the_servers_death(start_server: StartServer, tmp_path: Path) -> None:
    """After `kill -9` and a new start the reply goes on where it was, to its end."""
    server = start_server()
    # In its first call it says no more than half: it is not over before the server is killed.
    with ended(launch(tmp_path, "chat", "--url", server.address, f"{SCRIPT} stall=20@1")) as client:
        assert client.stdout is not None
        out = client.stdout
        seen = read_until(lambda: os.read(out.fileno(), 4096), b"1.8")
        server.restart()
        rest, said = client.communicate(timeout=WAIT_S)
    assert (seen + rest).decode() == REPLY
    assert client.returncode == 0
    assert b"reconnecting" in said


@pytest.mark.slow
def test_ctrl_c_stops_the_reply(server: ServerProcess, tmp_path: Path) -> None:
    """The server is asked to stop, what was said is kept, exit 130."""
    with ended(launch(tmp_path, "chat", "--url", server.address, "script: tokens=900 delay_ms=20 seed=1")) as client:
        assert client.stdout is not None
        out = client.stdout
        seen = read_until(lambda: os.read(out.fileno(), 4096), b"1.8")
        client.send_signal(signal.SIGINT)
        rest, said = client.communicate(timeout=WAIT_S)
    assert client.returncode == 130
    assert said == b"legato: stopped\n"
    assert reply(1, 900).startswith((seen + rest).decode().rstrip("\n"))


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    """Also where the server says nothing at all."""
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        ended(launch(tmp_path, "chat", "--url", f"http://127.0.0.1:{mute.getsockname()[1]}", "hi")) as client,
    ):
        mute.settimeout(WAIT_S)
        connection, _ = mute.accept()
        with connection:
            connection.recv(10)
            client.send_signal(signal.SIGINT)
            # One that is still on its way and another would be the same one.
            while is_pending(client.pid, signal.SIGINT):
                time.sleep(0.01)
            time.sleep(0.3)
            assert client.poll() is None
            client.send_signal(signal.SIGINT)
            assert client.wait(WAIT_S) == 130


@pytest.mark.slow
def test_a_key_is_asked_for_and_taken(start_server: StartServer, tmp_path: Path) -> None:
    """Without one, the answer says how to get it; option, environment and .env give it; it is never shown."""
    server = start_server(auth="keys", rate_limit="off")
    place = ("--data-dir", str(server.data_dir))
    made = legato(tmp_path, "keys", "create", "--name", "ann", *place)
    key = made.stdout.strip()
    ask = ("chat", "--url", server.address, "script: tokens=3 seed=1")
    refused = legato(tmp_path, *ask)
    assert refused.returncode == 1
    assert "legato keys create" in refused.stderr
    wrong = legato(tmp_path, *ask, "--key", "lk_0_wrong")
    assert wrong.returncode == 1
    assert "wrong" not in wrong.stderr
    assert legato(tmp_path, *ask, "--key", key).stdout == reply(1, 3) + "\n"
    assert legato(tmp_path, *ask, LEGATO_CHAT_KEY=key).returncode == 0
    (tmp_path / ".env").write_text(f"LEGATO_CHAT_KEY={key}\n")
    assert legato(tmp_path, *ask).returncode == 0
    assert key.split("_", 2)[2] not in server.log


def test_a_full_server_says_when_to_try_again(tmp_path: Path) -> None:
    """429 and 503 are one sentence with the pause that Retry-After names."""
    body = b'{"title":"Service Unavailable","code":"overloaded","detail":"full \\u001b[31m"}'
    answer = (
        b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%b"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                # All of it: closed with something unread, the connection would be reset before the answer is read.
                read_until(lambda: connection.recv(65536), b"}")
                connection.sendall(answer % (len(body), body))

        thread = threading.Thread(target=serve)
        thread.start()
        done = legato(tmp_path, "chat", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "hi")
        thread.join(WAIT_S)
    assert done.returncode == 1
    assert done.stderr == "legato: full ␛[31m (503 overloaded); try again in 7 s\n"


@pytest.mark.slow
def test_a_conversation_at_a_terminal(server: ServerProcess, tmp_path: Path) -> None:
    """Lines are answered in one conversation; Ctrl-C stops a reply and not the program; /quit leaves."""
    with at_terminal(tmp_path, server.address) as (terminal, client, until):
        until(b"> ")
        os.write(terminal, b"/help\r")
        until(b"/new")
        os.write(terminal, b"script: tokens=900 delay_ms=20 seed=1\r")
        until(b"1.9")
        os.write(terminal, b"\x03")
        until(b"(stopped)")
        until(b"> ")
        os.write(terminal, b"script: tokens=3 seed=2\r")
        until(b"2.2")
        until(b"> ")
        os.write(terminal, b"/quit\r")
        assert b"legato chat --conversation c-" in until(b"goes on")
        assert client.wait(WAIT_S) == 0


@pytest.fixture(scope="module")
def tool_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with tools, one of which needs approval."""
    command = (str(Path(__file__).parents[1] / "tool_server.py"), "serve")
    server = ServerProcess(tmp_path_factory.mktemp("tools"), command=command).start()
    yield server
    server.kill()


def test_tools_are_told_beside_the_reply(tool_server: ServerProcess, tmp_path: Path) -> None:
    """Calls and failures are lines on standard error; the reply on standard output stays exactly the reply."""
    words = 'script: tokens=3 seed=1 upto=2 tool=search:{"query":"x\\u001b"}@1 tool=search:{"q":"%s"}@1' % ("y" * 90)
    done = legato(tmp_path, "chat", "--url", tool_server.address, words)
    assert (done.stdout, done.returncode) == (reply(1, 3) + "\n", 0)
    first, second, failed = done.stderr.splitlines()
    assert first == 'legato: search({"query":"x\\u001b"})'
    assert second.endswith("yyy…)")
    assert failed.startswith("legato: search failed: ")


@pytest.mark.slow
@pytest.mark.parametrize("cut", [None, 300])
def test_without_a_terminal_it_is_said_how_to_approve(
    tool_server: ServerProcess, tmp_path: Path, cut: int | None
) -> None:
    """The line that is printed is one that works, also after a cut; the reply waits for it, and it is said once."""
    with cutting_proxy(tool_server.port, *([cut] if cut else [])) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        with ended(launch(tmp_path, "chat", "--url", url, f"script: tokens=3 seed=1 {ASK}")) as client:
            assert client.stderr is not None
            err = client.stderr
            said = read_until(lambda: os.read(err.fileno(), 4096), b"true}'\n").decode()
            assert 'ask({"key":"k"}) waits for approval: curl ' in said
            words = shlex.split(said[said.index("curl ") :])
            assert words[2:] == ["-H", "content-type: application/json", "-d", '{"granted": true}']
            assert httpx2.post(words[1], json={"granted": True}, trust_env=False).status_code == 200
            out, more = client.communicate(timeout=WAIT_S)
    assert (out.decode(), client.returncode) == (reply(1, 3) + "\n", 0)
    assert more == b"legato: ask was granted\n"


ASKING_BOT = f'''{WAITING_BOT}

@app.tool(needs_approval=True)
async def ask(key: str) -> str:
    """Does something that a person must agree to."""
    return key
'''


@pytest.mark.slow
def test_approvals_at_a_terminal(tmp_path: Path) -> None:
    """y allows a call, anything else denies it, Ctrl-C stops the reply; what was typed before is no answer."""
    server = ServerProcess(tmp_path / "server", command=("-m", "legato", "serve", "bot.py"))
    (server.folder / "bot.py").write_text(ASKING_BOT)
    go = server.folder / "go"
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        terminal, client, until = stack.enter_context(at_terminal(tmp_path, server.address))
        until(b"> ")
        for typed, told in ((b"\r", b"(ask was denied)"), (b"y\r", b"(ask was granted)"), (b"\x03", b"(stopped)")):
            # The y stands for typing ahead: it must not agree to what has not been asked yet.
            words = f"script: tokens=20 delay_ms=40 seed=1 upto=9 tool=wait upto=19@2 {ASK.replace('@1', '@2')}"
            os.write(terminal, f"{words}\r".encode())
            until(b"1.5")
            os.write(terminal, b"y\r")
            # Its echo: the terminal has it.
            until(b"y")
            go.touch()
            until(b'Allow ask({"key":"k"})? [y/N] ')
            while not is_listening(client.pid):
                time.sleep(0.01)
            go.unlink()
            os.write(terminal, typed)
            until(told)
            until(b"\n> ")
        os.write(terminal, b"/quit\r")
        assert client.wait(WAIT_S) == 0


@pytest.mark.slow
def test_an_approval_outlives_the_servers_death(tool_server: ServerProcess, tmp_path: Path) -> None:
    """The question is asked once; the answer reaches the server that goes on with the reply."""
    with at_terminal(tmp_path, tool_server.address) as (terminal, _, until):
        until(b"> ")
        os.write(terminal, f"script: tokens=3 seed=1 {ASK}\r".encode())
        until(b"? [y/N] ")
        tool_server.restart()
        os.write(terminal, b"y\r")
        rest = until(b"(ask was granted)") + until(b"\n> ")
        assert b"Allow" not in rest
        assert b"1.2" in rest


@contextlib.contextmanager
def at_terminal(folder: Path, url: str) -> Iterator[tuple[int, subprocess.Popen[bytes], Callable[[bytes], bytes]]]:
    """Run `legato chat` at a terminal of its own: its other end, the process, and how to read up to words."""
    ours, theirs = pty.openpty()
    client = subprocess.Popen(
        [*_legato(), "chat", "--url", url],
        cwd=folder,
        env=environment(TERM="xterm", NO_COLOR="1"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    seen = b""

    def until(wanted: bytes) -> bytes:
        """Return what is shown up to `wanted`; what follows is left for the next call."""
        nonlocal seen
        while wanted not in seen:
            seen += os.read(ours, 65536)
        before, _, seen = seen.partition(wanted)
        return before

    with ended(client):
        try:
            yield ours, client, until
        finally:
            os.close(ours)


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Return whether a signal is on its way to a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sets = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(each >> (number - 1) & 1 for each in sets)


def is_listening(pid: int) -> bool:
    """Return whether a process waits for what is typed: what was typed before it has dropped by then."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        # One that it closes meanwhile is gone.
        with contextlib.suppress(OSError):
            if any(line.split()[:2] == ["tfd:", "0"] for line in path.read_text().splitlines()):
                return True
    return False


def _legato() -> list[str]:
    import sys

    return [sys.executable, "-m", "legato"]


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
