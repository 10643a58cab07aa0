"""`legato serve`: what it prints, what it refuses, and how it starts anew."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli_process import WAIT_S, ended, environment, launch, legato, read_until
from tests.faults.client import call
from tests.faults.watcher import wait_until
from tests.server import ServerProcess, free_port

SECRET = "sk-very-secret-0123456789"
LAST_LINE = b"twice: at once.\n"
TAKEN = '''
from legato import Context, Legato

app = Legato()


@app.http("GET", "/conversations")
async def mine(ctx: Context) -> str:
    """Says something."""
    return "mine"
'''
"""A bot with a path that is the server's."""


def start_text(process: subprocess.Popen[bytes]) -> str:
    """Return what a server prints at its start."""
    assert process.stdout is not None
    out = process.stdout
    return read_until(lambda: os.read(out.fileno(), 4096), LAST_LINE).decode()


@pytest.fixture
def port() -> int:
    """A free port."""
    return free_port()


@pytest.mark.slow
def test_the_start_says_all_that_is_needed(tmp_path: Path, port: int) -> None:
    """Address, models in order, data and a curl line, which works as it stands; SIGTERM ends it with 0."""
    with ended(
        launch(tmp_path, "serve", LEGATO_PORT=port, LEGATO_MODEL="scripted,m1", OPENAI_API_KEY=SECRET)
    ) as server:
        text = start_text(server)
        assert f"listening on http://localhost:{port}\n" in text
        assert "model   scripted" in text
        assert "then    m1 (openai), https://api.openai.com/v1" in text
        assert "data/legato.db" in text
        curl = text[text.index("  curl -N") : text.index("\n\nCtrl-C")]
        done = subprocess.run(curl, shell=True, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=True)
        assert "event: complete" in done.stdout
        server.send_signal(signal.SIGTERM)
        rest, said = server.communicate(timeout=WAIT_S)
    assert server.returncode == 0
    assert SECRET not in text + rest.decode() + said.decode()
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.slow
def test_a_server_whose_words_find_no_room_serves(tmp_path: Path, port: int) -> None:
    """What it prints and logs goes to a disk that is full: replies are whole, and SIGTERM ends it as ever."""

    def is_ready() -> bool:
        try:
            return call(port, "GET", "/health/ready").status == 200
        except OSError:
            return False

    settings: dict[str, Any] = {
        "LEGATO_PORT": port,
        "LEGATO_MODEL": "scripted",
        "LEGATO_LOG_LEVEL": "debug",
        "PYTHONUNBUFFERED": "",
    }
    with (
        Path("/dev/full").open("wb") as full,
        ended(launch(tmp_path, "serve", output=full.fileno(), **settings)) as server,
    ):
        assert wait_until(is_ready, WAIT_S)
        reply = call(port, "POST", "/chat/stream", {"message": "script: seed=3 tokens=30"})
        assert b"event: complete" in reply.body
        server.send_signal(signal.SIGTERM)
        assert server.wait(WAIT_S) == 0


@pytest.mark.parametrize(("end", "code"), [("leave_unsaid()", 0), ("", 120)])
def test_what_could_not_be_said_does_not_become_the_exit_code(end: str, code: int) -> None:
    """Python flushes at its end, and that fails where what is left finds no room."""
    program = f"from legato.cli.serve import leave_unsaid; print('a'); {end}"
    env = environment(PYTHONUNBUFFERED="")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, env=env, timeout=WAIT_S, check=False)
    assert done.returncode == code


@pytest.mark.slow
def test_the_line_for_a_server_with_keys_works_too(tmp_path: Path, port: int) -> None:
    """It makes a key and uses it."""
    script = f'#!/bin/sh\nexec {sys.executable} -m legato "$@"\n'
    (tmp_path / "legato").write_text(script)
    (tmp_path / "legato").chmod(0o755)
    options = ("--port", str(port), "--data-dir", "my data")
    with ended(launch(tmp_path, "serve", *options, LEGATO_MODEL="scripted", LEGATO_AUTH="keys")) as server:
        text = start_text(server)
        lines = text[text.index("  export ") : text.index("\n\nCtrl-C")]
        done = subprocess.run(
            lines,
            shell=True,
            cwd=tmp_path,
            env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
            capture_output=True,
            encoding="utf-8",
            timeout=WAIT_S,
            check=True,
        )
    assert "event: complete" in done.stdout


@pytest.mark.slow
def test_without_weights_it_starts_and_says_what_to_set(tmp_path: Path, port: int) -> None:
    """The server is there, and the person knows what to do."""
    with ended(launch(tmp_path, "serve", LEGATO_PORT=port, LEGATO_MODELS_DIR=tmp_path / "none")) as server:
        text = start_text(server)
    for word in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LEGATO_MODEL=/path/to/model.gguf", "No model can answer yet"):
        assert word in text


def test_the_data_folder_serves_one_server(server: ServerProcess) -> None:
    """A second server on it is refused with one sentence and exit 78."""
    done = legato(server.folder, "serve", "--port", "0", LEGATO_MODEL="scripted", LEGATO_DATA_DIR=server.data_dir)
    assert_refused(done, "another legato server uses the data folder")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """One sentence, exit 78."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = legato(tmp_path, "serve", "--port", str(port), LEGATO_MODEL="scripted")
    assert_refused(done, f"port {port} is in use")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "values", "said"),
    [
        (["--workers", "2"], {}, "one process writes an SQLite file; more need PostgreSQL"),
        ([], {"LEGATO_PROT": "1"}, "unknown setting LEGATO_PROT: did you mean LEGATO_PORT?"),
        ([], {"LEGATO_PORT": "x"}, "port: "),
        (["--host", "0.0.0.0"], {}, "LEGATO_AUTH=keys"),
        ([], {"LEGATO_MODEL": "gpt-5"}, "needs OPENAI_API_KEY"),
        (["--database-url", "mysql://x/y"], {}, "postgresql://user:password@host:port/name"),
        (["typo.py"], {}, "typo.py: unknown setting prot"),
        ([], {"LEGATO_APPROVAL_TIMEOUT_S": "601"}, "approval_timeout_s: input should be less than or equal to 600"),
        (["taken.py"], {}, "step mine: GET /conversations is Legato's own (GET /conversations): take another path"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    tmp_path: Path, arguments: list[str], values: dict[str, str], said: str
) -> None:
    """Exit 78, the sentence on standard error, no traceback and no secret."""
    (tmp_path / "typo.py").write_text("from legato.app import Legato\napp = Legato(prot=1)\n")
    (tmp_path / "taken.py").write_text(TAKEN)
    assert_refused(legato(tmp_path, "serve", *arguments, **{"LEGATO_MODEL": "scripted"} | values), said)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["bot.py", "bot:app", "bot.py:app"])
def test_a_target_brings_its_settings(tmp_path: Path, port: int, target: str) -> None:
    """An app's settings are defaults: the environment and options go first."""
    (tmp_path / "beside.py").write_text("NAME = 'scripted'\n")
    (tmp_path / "bot.py").write_text(
        "from beside import NAME\nfrom legato.app import Legato\napp = Legato(model=[NAME], port=1, data_dir='own')\n"
    )
    with ended(launch(tmp_path, "serve", target, "--port", str(port))) as server:
        text = start_text(server)
    assert f"http://localhost:{port}\n" in text
    assert "own/legato.db" in text
    assert "model   scripted" in text


@pytest.mark.slow
@pytest.mark.parametrize("started_in", [".", "elsewhere"])
def test_reload_starts_anew_and_ends_with_one_signal(tmp_path: Path, port: int, started_in: str) -> None:
    """A change of a file, wherever the bot lies, brings a new server; a broken one waits for the next change; SIGTERM
    ends all."""
    folder = tmp_path / started_in
    folder.mkdir(exist_ok=True)
    bot = tmp_path / "bot.py"
    make = "from legato.app import Legato\napp = Legato(model=['scripted'], data_dir='{}')\n"
    bot.write_text(make.format("first"))
    arguments = ("serve", os.path.relpath(bot, folder), "--reload", "--port", str(port))
    with (tmp_path / "said").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "legato", *arguments], cwd=folder, env=environment(), stdout=log, stderr=log
        )
    with ended(process):

        def wait_for(word: str) -> None:
            until = time.monotonic() + WAIT_S
            while not re.search(word, (tmp_path / "said").read_text()):
                assert process.poll() is None
                assert time.monotonic() < until, (tmp_path / "said").read_text()
                time.sleep(0.05)

        wait_for(r"first/legato\.db(.|\n)*at once\.")
        bot.write_text("1 / 0\n")
        wait_for("ZeroDivisionError(.|\n)*starts again at the next change")
        bot.write_text(make.format("second"))
        wait_for(r"second/legato\.db(.|\n)*at once\.")
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def assert_refused(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert said in done.stderr
    assert done.returncode == 78
    assert done.stderr.startswith("legato: ")
    assert done.stderr.count("\n") == 1
    assert "listening" not in done.stdout
