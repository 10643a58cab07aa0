"""The embedded model, for real: the default weights in a child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from legato.core.errors import ContextExceeded, NoModel, UpstreamBroken, UpstreamUnavailable
from legato.providers.base import CallEnd, CallRequest, ChatMessage, Pausable
from legato.providers.embedded import EmbeddedProvider, supported
from legato.providers.weights import default_weights, fetch_weights, weights_present
from legato.settings import default_models_dir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(supported() is not None, reason=f"{supported()}"),
]

SEA = "Tell me about the sea."
LONG = "Write a long story about a lighthouse and its keeper."
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Recorder:
    """A sink that keeps what came, and can wait for the first of it."""

    def __init__(self) -> None:
        self.deltas: list[str] = []
        self.opened_with: Pausable | None = None
        self.first = asyncio.Event()

    def opened(self, flow: Pausable | None) -> None:
        self.opened_with = flow

    def text(self, delta: str) -> None:
        self.deltas.append(delta)
        self.first.set()

    def reasoning(self, delta: str) -> None:
        raise AssertionError("this model does not reason")

    def __str__(self) -> str:
        return "".join(self.deltas)


def ask(text: str, *, max_tokens: int = 40, so_far: str | None = None) -> CallRequest:
    messages = [ChatMessage(role="user", content=text)]
    if so_far is not None:
        messages.append(ChatMessage(role="assistant", content=so_far))
    return CallRequest(
        run_id="run-1",
        messages=messages,
        temperature=0.0,
        max_tokens=max_tokens,
        continues=so_far is not None,
    )


async def reply_to(provider: EmbeddedProvider, request: CallRequest) -> tuple[str, CallEnd]:
    sink = Recorder()
    end = await provider.call(request, sink)
    return str(sink), end


async def child_pid(provider: EmbeddedProvider) -> int:
    return (await provider._process()).pid


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def work_until_idle_s(pid: int, threads: int) -> float:
    """Return how long the engine still works, were the machine its own: CPU time, divided by its threads."""
    begun_s = cpu_s(pid)
    while True:
        before_s = cpu_s(pid)
        await asyncio.sleep(0.4)
        if cpu_s(pid) - before_s <= 0.02:
            return (before_s - begun_s) / threads


@pytest.fixture(scope="module")
def weights() -> Path:
    folder = default_models_dir(os.environ)
    if weights_present(folder):
        return default_weights(folder)
    return fetch_weights(folder, lambda done, total: None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(weights: Path) -> AsyncIterator[EmbeddedProvider]:
    provider = EmbeddedProvider("embedded", weights=weights)
    await provider.start()
    yield provider
    await provider.close()


async def test_start_returns_before_the_model_is_loaded(weights: Path) -> None:
    """The server can listen while the model loads; a call waits for it."""
    provider = EmbeddedProvider("embedded", weights=weights)
    begun = time.monotonic()
    await provider.start()
    assert time.monotonic() - begun < 0.3
    assert (await provider.call(ask("Hi", max_tokens=2), Recorder())).reason == "length"
    await provider.close()


async def test_a_reply_arrives_in_several_deltas(provider: EmbeddedProvider) -> None:
    """Text streams, the usage is the engine's, and an end at the limit says so."""
    sink = Recorder()
    end = await provider.call(ask(SEA, max_tokens=20), sink)
    assert len(sink.deltas) >= 10
    assert sink.opened_with is not None
    assert end.reason == "length"
    assert end.usage is not None
    assert end.usage.output_tokens == 20
    assert end.usage.input_tokens is not None
    assert end.usage.input_tokens > 5


async def test_a_reply_that_is_complete_ends_with_stop(provider: EmbeddedProvider) -> None:
    """The model's own end is `stop`."""
    _, end = await reply_to(provider, ask("Say hello.", max_tokens=300))
    assert end.reason == "stop"


async def test_the_same_question_at_temperature_0_gets_the_same_reply(provider: EmbeddedProvider) -> None:
    """Temperature 0 is deterministic, with or without a cached prompt."""
    replies = {(await reply_to(provider, ask(SEA)))[0] for _ in range(3)}
    assert len(replies) == 1


async def test_a_plain_question_gets_a_plain_answer(provider: EmbeddedProvider) -> None:
    """Without a system prompt of one's own the small model is asked in the way that it answers best."""
    said, _ = await reply_to(provider, ask("What is the capital of France?"))
    assert "Paris" in said


async def test_deltas_are_whole_characters(provider: EmbeddedProvider) -> None:
    """A character of several tokens is held back until it is whole, whatever the limit cuts."""
    said = ""
    for max_tokens in range(1, 5):
        text, _ = await reply_to(provider, ask("🎉🎉", max_tokens=max_tokens, so_far="🎉😀😃😄"))
        assert "�" not in text
        said += text
    assert said.encode()


async def test_tokens_are_counted_by_the_models_tokenizer(provider: EmbeddedProvider) -> None:
    """A count is the model's, not an estimate."""
    assert await provider.count_tokens("Hello world") == 2
    assert await provider.count_tokens("") == 0


async def test_the_context_window_is_that_of_one_slot(provider: EmbeddedProvider, weights: Path) -> None:
    """A conversation longer than one slot is refused; a window beyond the training is cut to it."""
    assert provider.context_window == 3072
    with pytest.raises(ContextExceeded, match="takes 3072"):
        await provider.call(ask("word " * 3100), Recorder())
    large = EmbeddedProvider("embedded", weights=weights, context_window=100_000, parallel=1)
    await large.start()
    assert large.context_window == 8192
    await large.close()


async def test_a_paused_call_gives_nothing_and_then_everything(provider: EmbeddedProvider) -> None:
    """A paused flow holds deltas and end back, and resuming gives them in order."""
    whole, _ = await reply_to(provider, ask(SEA))
    sink = Recorder()
    call = asyncio.create_task(provider.call(ask(SEA), sink))
    await sink.first.wait()
    assert sink.opened_with is not None
    sink.opened_with.pause_reading()
    held_at = len(sink.deltas)
    await asyncio.sleep(0.6)
    assert len(sink.deltas) == held_at
    assert not call.done()
    sink.opened_with.resume_reading()
    await call
    assert str(sink) == whole


@pytest.mark.slow
async def test_four_calls_share_the_engine(provider: EmbeddedProvider) -> None:
    """Calls run side by side: each has its first delta long before any has its last."""
    sinks = [Recorder() for _ in range(4)]
    calls = [
        asyncio.create_task(provider.call(ask(f"Tell me about the number {index}.", max_tokens=60), sink))
        for index, sink in enumerate(sinks)
    ]
    await asyncio.gather(*(sink.first.wait() for sink in sinks))
    assert not any(call.done() for call in calls)
    await asyncio.gather(*calls)
    assert len({str(sink) for sink in sinks}) == 4


@pytest.mark.slow
async def test_a_fifth_call_waits_for_a_slot(provider: EmbeddedProvider) -> None:
    """More calls than slots all come to their end."""
    requests = [ask(f"Count to {index}.", max_tokens=10) for index in range(6)]
    ends = await asyncio.gather(*(provider.call(request, Recorder()) for request in requests))
    assert len(ends) == 6


@pytest.mark.slow
@pytest.mark.parametrize("text", [LONG, "other " * 2500], ids=["generating", "reading the prompt"])
async def test_a_cancelled_call_stops_within_a_second(provider: EmbeddedProvider, text: str) -> None:
    """The engine stops working on a reply that nobody waits for."""
    pid = await child_pid(provider)
    call = asyncio.create_task(provider.call(ask(text, max_tokens=1000), Recorder()))
    await asyncio.sleep(1)
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await work_until_idle_s(pid, provider._threads) <= 1.0


@pytest.mark.slow
async def test_a_continuation_joins_on_wherever_the_reply_was_cut(provider: EmbeddedProvider) -> None:
    """At temperature 0 a cut reply goes on as it would have, in mid-word or after white space too."""
    whole, _ = await reply_to(provider, ask(SEA, max_tokens=130))
    for cut in range(7, len(whole) - 150, (len(whole) - 150) // 12):
        rest, end = await reply_to(provider, ask(SEA, max_tokens=25, so_far=whole[:cut]))
        assert whole[cut:].startswith(rest), (cut, whole[cut - 20 : cut], rest)
        assert end.usage is not None
        assert end.usage.output_tokens is not None
        assert end.usage.output_tokens <= 26


async def test_a_continuation_of_a_whole_reply_says_nothing_more(provider: EmbeddedProvider) -> None:
    """A reply that was cut just before its end ends; it does not begin again."""
    whole, end = await reply_to(provider, ask("Say hello.", max_tokens=300))
    assert end.reason == "stop"
    rest, end = await reply_to(provider, ask("Say hello.", max_tokens=50, so_far=whole))
    assert (rest, end.reason) == ("", "stop")


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert await asyncio.to_thread(_is_gone_within, int(line.split()[1]), 2.0)


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
    begun = time.monotonic()
    with pytest.raises(NoModel, match=said) as refused:
        await provider.call(ask("Hi"), Recorder())
    assert time.monotonic() - begun < 0.1
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
