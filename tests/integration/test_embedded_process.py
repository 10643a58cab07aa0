"""The child process of the embedded model: its start, its death and its end; files that are no model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from legato.core.run_errors import NoModel, UpstreamBroken, UpstreamUnavailable
from legato.providers.embedded import EmbeddedProvider
from tests.embedded_world import EMBEDDED, LONG, Recorder, ask, child_pid, its_weights

pytestmark = [pytest.mark.alone, *EMBEDDED]


@pytest.fixture(scope="module")
def weights() -> Path:
    return its_weights()


async def test_start_returns_before_the_model_is_loaded(weights: Path) -> None:
    """The server can listen while the model loads; a call waits for it."""
    provider = EmbeddedProvider("embedded", weights=weights)
    await provider.start()
    assert provider._launch is not None
    assert not provider._launch.done()
    assert (await provider.call(ask("Hi", max_tokens=2), Recorder())).reason == "length"
    await provider.close()


async def test_a_killed_child_breaks_its_calls_and_the_next_call_works(weights: Path) -> None:
    """kill -9 of the engine costs the calls in flight and nothing else, three times over."""
    provider = EmbeddedProvider("embedded", weights=weights)
    await provider.start()
    for _ in range(3):
        sink = Recorder()
        call = asyncio.create_task(provider.call(ask(LONG, max_tokens=500), sink))
        await sink.first.wait()
        waiting = asyncio.create_task(provider.call(ask("other " * 2000), Recorder()))
        await asyncio.sleep(0.1)
        os.kill(await child_pid(provider), signal.SIGKILL)
        with pytest.raises(UpstreamBroken, match="SIGKILL"):
            await call
        with pytest.raises(UpstreamUnavailable) as unbegun:
            await waiting
        assert not isinstance(unbegun.value, UpstreamBroken)
    assert (await provider.call(ask("Hi", max_tokens=3), Recorder())).reason == "length"
    await provider.close()


async def test_a_child_does_not_outlive_its_parent(weights: Path) -> None:
    """A server that is killed leaves no engine behind."""
    program = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from legato.providers.embedded import EmbeddedProvider\n"
        "async def main():\n"
        "    provider = EmbeddedProvider('embedded', weights=Path(sys.argv[1]))\n"
        "    await provider.start()\n"
        "    print('pid', (await provider._process()).pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(weights)]
    parent = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    line = b""
    while not line.startswith(b"pid"):
        line = await parent.stdout.readline()
    parent.kill()
    await parent.wait()
    assert await asyncio.to_thread(_is_gone_within, int(line.split()[1]), 30.0)


def _is_gone_within(pid: int, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _inet_sockets(pid: int) -> set[str]:
    """Return those of the process's open files that are TCP sockets."""
    of_process = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines() for name in ("tcp", "tcp6")]
    of_network = {f"socket:[{row.split()[9]}]" for table in tables for row in table[1:]}
    return of_process & of_network


def _environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_the_child_listens_nowhere_and_knows_no_keys(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own server has no port and leaves no file, in however deep a folder; keys stay here."""
    scratch = tmp_path / ("deep" * 40)
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-the-child")
    provider = EmbeddedProvider("embedded", weights=weights, parallel=1)
    await provider.start()
    pid = await child_pid(provider)
    assert await provider.count_tokens("Hello world") == 2
    assert _inet_sockets(pid) == set()
    assert b"sk-not-for-the-child" not in _environment(pid)
    assert list(scratch.iterdir()) == []
    await provider.close()


async def test_close_ends_the_child_and_its_calls(weights: Path) -> None:
    """After close there is no process, and a call in flight has failed."""
    provider = EmbeddedProvider("embedded", weights=weights)
    await provider.start()
    sink = Recorder()
    call = asyncio.create_task(provider.call(ask(LONG, max_tokens=500), sink))
    await sink.first.wait()
    pid = await child_pid(provider)
    await provider.close()
    assert not _alive(pid)
    with pytest.raises(UpstreamBroken):
        await call


async def test_close_ends_a_child_that_is_still_loading(weights: Path) -> None:
    """A server that stops at once leaves no child behind."""
    provider = EmbeddedProvider("embedded", weights=weights)
    await provider.start()
    await asyncio.sleep(0.1)
    await provider.close()
    with pytest.raises(UpstreamUnavailable, match="shutting down"):
        await provider.call(ask("Hi"), Recorder())


def _cut_in_half(whole: Path, target: Path) -> None:
    target.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda whole, target: None, "cannot be read"),
        (lambda whole, target: target.write_bytes(b"<html>not found</html>" * 9), "no GGUF file"),
        (lambda whole, target: target.write_bytes(whole.read_bytes()[:100]), "a GGUF file that is cut"),
        (_cut_in_half, "could not load"),
    ],
    ids=["missing", "html", "cut in its head", "cut in its weights"],
)
async def test_a_file_that_is_no_model_is_a_clear_error_and_no_spin(
    weights: Path, tmp_path: Path, make: Callable[[Path, Path], object], said: str
) -> None:
    """start() succeeds, each call says what to set, counts are None, and few children are started."""
    broken = tmp_path / "broken.gguf"
    make(weights, broken)
    provider = EmbeddedProvider("embedded", weights=broken)
    await provider.start()
    for _ in range(2):
        with pytest.raises(NoModel, match=said) as refused:
            await provider.call(ask("Hi"), Recorder())
        assert "OPENAI_API_KEY" in refused.value.message
        assert str(tmp_path) not in refused.value.message
    assert await provider.count_tokens("Hi") is None
    starts_children = make is _cut_in_half
    assert (provider._failures > 0) == starts_children
    if starts_children:
        provider._failures = 9
    launch = provider._launch
    with pytest.raises(NoModel, match=said) as refused:
        await provider.call(ask("Hi"), Recorder())
    # No child is started or waited for.
    assert (provider._launch is launch) == starts_children
    assert provider._failures == (9 if starts_children else 0)
    assert (refused.value.retry_after_s is not None) == starts_children
    await provider.close()


async def test_weights_that_come_while_the_server_runs_are_used(weights: Path, tmp_path: Path) -> None:
    """Whoever fetches them neither starts the server again nor waits, however often was asked before."""
    late = tmp_path / weights.name
    provider = EmbeddedProvider("embedded", weights=late)
    await provider.start()
    for _ in range(6):
        with pytest.raises(NoModel):
            await provider.call(ask("Hi"), Recorder())
    late.symlink_to(weights)
    sink = Recorder()
    await provider.call(ask("Hi"), sink)
    assert str(sink)
    await provider.close()
