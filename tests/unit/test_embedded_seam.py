"""Where a continued reply joins on, and how a call's replies reach its sink: no engine needed."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.run_errors import ContextExceeded, RunError, UpstreamBroken, UpstreamRefused, UpstreamUnavailable
from legato.providers import embedded, gguf
from legato.providers.base import CallEnd, Pausable, Provider
from legato.providers.embedded import EmbeddedProvider
from legato.providers.embedded_call import EngineCall
from legato.providers.embedded_engine import _Seam, opening_grammar, split_to_heal
from legato.providers.embedded_messages import Delta, Ended, Fault, Opened, Reply


class Recorder:
    """A sink that notes what came in order, and pauses the flow after a chosen text."""

    def __init__(self, pause_after: str | None = None) -> None:
        self.seen: list[str] = []
        self.flow: Pausable | None = None
        self._pause_after = pause_after

    def opened(self, flow: Pausable | None) -> None:
        self.flow = flow
        self.seen.append("opened")

    def text(self, delta: str) -> None:
        self.seen.append(delta)
        if delta == self._pause_after and self.flow is not None:
            self.flow.pause_reading()

    def reasoning(self, delta: str) -> None:
        self.seen.append(f"({delta})")


def an_end(reason: str = "stop") -> Ended:
    return Ended(id=1, reason=reason, input_tokens=3, output_tokens=2, cached_tokens=0)


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("", ""),
        ("The capi", " capi"),
        ("The capital ", " capital "),
        ("One.\n\nTwo", "\n\nTwo"),
        ("One.\n\n", "One.\n\n"),
        ("Word", "Word"),
        ("   ", "   "),
        ("a " + "x" * 100, "x" * 32),
    ],
)
def test_the_last_word_goes_back(text: str, tail: str) -> None:
    """What the model says again is the last word with the white space around it."""
    assert split_to_heal(text) == (text[: len(text) - len(tail)], tail)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_head_and_tail_are_the_text(text: str) -> None:
    """Nothing is lost at the seam, and a reply that has begun is always healed."""
    head, tail = split_to_heal(text)
    assert head + tail == text
    assert bool(tail) is bool(text)


@given(st.text(min_size=1, max_size=20), st.text(max_size=20), st.integers(1, 7))
def test_the_seam_cuts_the_tail_however_it_is_divided(tail: str, new: str, size: int) -> None:
    """The forced tail is removed whatever deltas it comes in, and nothing else."""
    seam, whole = _Seam(tail), tail + new
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert "".join(seam.cut(piece) for piece in pieces) == new


def test_a_reply_that_does_not_join_on_is_refused() -> None:
    """A continuation that begins otherwise would put wrong text after what was shown."""
    with pytest.raises(ValueError, match="join"):
        _Seam(" capital").cut(" city")


def test_a_grammar_quotes_whatever_the_text_holds() -> None:
    """Quotes, backslashes, brackets and emoji cannot end the grammar's literal."""
    assert opening_grammar('"\\😀') == 'root ::= "\\U00000022\\U0000005C\\U0001F600" [^\\x00]*'


async def test_replies_reach_the_sink_in_order() -> None:
    """Text, reasoning and the end arrive as they were sent."""
    sink = Recorder()
    call = EngineCall(3072, sink)
    replies: list[Reply] = [Opened(id=1), Delta(id=1, reasoning="hm"), Delta(id=1, text="a"), an_end("length")]
    for reply in replies:
        call.take(reply)
    end: CallEnd = await call.done
    assert sink.seen == ["opened", "(hm)", "a"]
    assert end.reason == "length"
    assert end.usage is not None
    assert (end.usage.input_tokens, end.usage.output_tokens) == (3, 2)


async def test_a_pause_in_mid_flow_keeps_the_order() -> None:
    """A sink that pauses again while it is being resumed gets nothing twice and nothing early."""
    sink = Recorder(pause_after="b")
    call = EngineCall(3072, sink)
    call.take(Opened(id=1))
    call.pause_reading()
    for text in "abc":
        call.take(Delta(id=1, text=text))
    call.take(an_end())
    assert sink.seen == ["opened"]
    call.resume_reading()
    assert sink.seen == ["opened", "a", "b"]
    assert not call.done.done()
    call.resume_reading()
    assert sink.seen == ["opened", "a", "b", "c"]
    assert (await call.done).reason == "stop"


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("context", ContextExceeded, ContextExceeded),
        ("refused", UpstreamRefused, UpstreamRefused),
        ("engine", UpstreamUnavailable, UpstreamBroken),
        ("ended", UpstreamUnavailable, UpstreamBroken),
    ],
)
async def test_a_fault_is_the_error_that_fits(
    kind: str, before: type[RunError], after: type[RunError], begun: bool
) -> None:
    """What may be retried before the first delta is `broken` after it."""
    call = EngineCall(3072, Recorder())
    if begun:
        call.take(Delta(id=1, text="a"))
    match kind:
        case "context" | "refused" | "engine":
            call.take(Fault(id=1, kind=kind, tokens=4000))
        case _:
            call.ended("SIGKILL")
    with pytest.raises(RunError) as failed:
        await call.done
    assert type(failed.value) is (after if begun else before)


async def test_a_sink_that_fails_ends_only_its_own_call() -> None:
    """An error of the sink is its call's result; the process that others share never sees it."""

    class Broken(Recorder):
        def text(self, delta: str) -> None:
            raise ZeroDivisionError

    call = EngineCall(3072, Broken())
    call.take(Delta(id=1, text="a"))
    with pytest.raises(ZeroDivisionError):
        await call.done


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("_has_avx2", lambda: False, "AVX2"),
        ("_has_libgomp", lambda: False, "libgomp1"),
    ],
)
async def test_a_machine_without_what_the_engine_needs_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: object, said: str
) -> None:
    """The server starts; `supported` and each call name what is missing and what to set."""
    monkeypatch.setattr(embedded, name, value)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert said in (embedded.supported() or "")
    provider: Provider = EmbeddedProvider("embedded", weights=tmp_path / "absent.gguf")
    await provider.start()
    assert await provider.count_tokens("Hi") is None
    await provider.close()


@pytest.mark.parametrize(
    ("flags", "has"), [("flags : sse4_2 avx avx2", True), ("flags : sse4_2 avx", False), ("", True)]
)
def test_avx2_is_read_from_the_processors_flags(tmp_path: Path, flags: str, has: bool) -> None:
    """A processor that does not say is tried."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\n{flags}\n")
    assert embedded._has_avx2(cpuinfo) is has


@pytest.mark.parametrize(
    ("quota", "most"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 8), ("nonsense", 8)]
)
def test_threads_stay_within_a_containers_quota(tmp_path: Path, quota: str, most: int) -> None:
    """One processor's worth of quota is one thread, however many processors there are."""
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(quota)
    assert 1 <= embedded._processors(cpu_max) <= most


def _gguf(*pairs: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + b"".join(pairs)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("pairs", "context"),
    [
        ([], None),
        ([_pair("llama.context_length", 4, struct.pack("<I", 2048))], 2048),
        ([_pair("llama.context_length", 10, struct.pack("<Q", 4096))], 4096),
        (
            [
                _pair("general.name", 8, _string("a name")),
                _pair("tokenizer.tokens", 9, struct.pack("<IQ", 8, 2) + _string("a") + _string("bc")),
                _pair("tokenizer.scores", 9, struct.pack("<IQ", 6, 3) + bytes(12)),
                _pair("general.flag", 7, b"\x01"),
                _pair("qwen3.context_length", 4, struct.pack("<I", 512)),
            ],
            512,
        ),
    ],
)
def test_the_trained_context_is_read_from_the_files_head(
    tmp_path: Path, pairs: list[bytes], context: int | None
) -> None:
    """Whatever stands before it is skipped by its own length."""
    file = tmp_path / "model.gguf"
    file.write_bytes(_gguf(*pairs))
    assert gguf.trained_context(file) == context


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", _gguf(version=1), _gguf(_pair("a", 99, b"")), _gguf(b"\xff" * 8), _gguf(_pair("a", 8, b""))],
    ids=["empty", "html", "version", "type", "endless key", "cut"],
)
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, data: bytes) -> None:
    """Neither a wrong file nor a hostile length costs more than an error."""
    file = tmp_path / "model.gguf"
    file.write_bytes(data)
    with pytest.raises(ValueError, match="GGUF"):
        gguf.trained_context(file)


async def test_a_provider_that_is_away_backs_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pause grows from nothing to 30 s while no call comes to its end."""
    provider = EmbeddedProvider("embedded", weights=tmp_path / "absent.gguf")
    now_s = asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
    pauses = []
    for _ in range(12):
        provider._note_failure(UpstreamUnavailable("it ended"))
        pauses.append(round(provider._backoff_s(), 3))
    assert pauses == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
