"""The compiled form of what happens to a chunk does what the form in Python does, or leaves it to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from legato.core.compiled import ChunkFrames, PlainTexts, chunk_frames, plain_texts
from legato.core.event import LogItem, ReasoningDelta, RunStarted
from legato.core.log import RunLog
from legato.core.run_errors import RunError
from legato.providers.base import Pausable
from legato.providers.openai_answer import Answer
from legato.wire import native
from tests.contract.upstream_server import chunked

T = TypeVar("T")
PLAIN: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hel"}, "logprobs": None, "finish_reason": None}],
}


@pytest.fixture(scope="module")
def read() -> PlainTexts:
    return _there(plain_texts)


@pytest.fixture(scope="module")
def write() -> ChunkFrames:
    return _there(chunk_frames)


def _there(function: T | None) -> T:
    if function is None:
        if shutil.which("cc") or shutil.which("gcc"):
            pytest.fail("the compiled form is not there: run `python hatch_build.py`")
        pytest.skip("there is no C compiler here")
    return function


def event(value: object) -> bytes:
    return b"data: %b\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())


def with_choice(**changes: object) -> dict[str, Any]:
    return PLAIN | {"choices": [PLAIN["choices"][0] | changes]}


STARTED = RunStarted(conversation_id="c", session_id="s", user_message_id="m1", message_id="m2", at_ms=0)


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []

    def opened(self, flow: Pausable | None) -> None: ...

    def text(self, delta: str) -> None:
        if delta:
            self.texts.append(delta)

    def reasoning(self, delta: str) -> None:
        self.thoughts.append(delta)


class Still:
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def in_python(body: bytes) -> Sequence[str] | None:
    """Return the texts of a body that holds plain text deltas alone, by the form in Python; None for any other."""
    sink = Heard()
    ends: list[None] = []
    answer = Answer(sink, host="h", url="http://h/", secret=None, nearly=lambda: ends.append(None))
    answer.head(200, {"content-type": "text/event-stream"}, Still())
    try:
        answer.body(event({"choices": []}))
        answer.body(body)
    except RunError:
        return None
    if sink.thoughts or ends or answer.done or not answer.is_between:
        return None
    return sink.texts


@pytest.mark.parametrize(
    "chunk",
    [
        PLAIN,
        with_choice(delta={"role": "assistant", "content": "Hel", "refusal": None, "tool_calls": None}),
        with_choice(delta={"reasoning_content": None, "reasoning": None, "content": "Hel"}),
        PLAIN | {"usage": None, "system_fingerprint": "fp", "service_tier": "default", "x": [1, {"y": [True]}, -2]},
        {"choices": [{"delta": {"content": "Hel"}}]},
        json.dumps(PLAIN, separators=(",", ":")).encode(),
    ],
)
def test_usual_chunks_are_taken(read: PlainTexts, chunk: object) -> None:
    """What servers send most of the time does not take the long way."""
    data = chunked(event(chunk)) + chunked(event(chunk) * 2)
    texts: list[str] = []
    assert read(data, texts) == len(data)
    assert texts == ["Hel"] * 3


@pytest.mark.parametrize(
    "body",
    [
        event(with_choice(finish_reason="stop")),
        event(with_choice(delta={"content": ""})),
        event(with_choice(delta={"content": None})),
        event(with_choice(delta={"content": "a", "reasoning": "b"})),
        event(with_choice(delta={"content": "a", "tool_calls": []})),
        event(with_choice(delta={"content": "a", "function_call": {}})),
        event(with_choice(message={"content": "b"})),
        event(PLAIN | {"usage": {"prompt_tokens": 1}}),
        event(PLAIN | {"error": {"message": "no"}}),
        event(PLAIN | {"choices": PLAIN["choices"] * 2}),
        event(PLAIN | {"choices": []}),
        event(b'{"choices":[{"delta":{"content":"a","content":"b"}}]}'),
        event(b'{"choices":[{"delta":{"content":"a"},"delta":{"content":"b"}}]}'),
        event(b'{"choices":[{"delta":{"content":"a"}}],"choices":[{"delta":{"content":"b"}}]}'),
        event(b'{"choices":[{"delta":{"content":"a\\ud800"}}]}'),
        event(b'{"choices":[{"delta":{"content":"\\udc00a"}}]}'),
        event(b'{"choices":[{"delta":{"content":"\\ud800\\u0041"}}]}'),
        event(b'{"choices":[{"delta":{"content":"\\u12"}}]}'),
        event(b'{"choices":[{"delta":{"content":"\\u12g4"}}]}'),
        event(b'{"choices":[{"delta":{"content":"\\x"}}]}'),
        event(b'{"choices":[{"delta":{"content":"a\xff"}}]}'),
        event(b'{"choices":[{"delta":{"content":"a\tb"}}]}'),
        event(b'{"choices":[{"delta":{"content":"a"}}],"n":01}'),
        event(b'{"choices":[{"delta":{"content":"a"}}],"n":1.5e3}'),
        event(b'{"choices":[{"delta":{"content":"a"}}],}'),
        event(b'{"choices":[{"delta":{"content":"a"}}]}}'),
        event(b'{"choices":[{"delta":{"c\\u006fntent":"a"}}]}'),
        event(b'{"choices":[{"delta":{"content":"a"}}],"n":' + b"[" * 40 + b"]" * 40 + b"}"),
        b"data: [DONE]\n\n",
        b": comment\n\n",
        b"event: x\n" + event(PLAIN),
        event(PLAIN)[:-1],
        event(PLAIN).replace(b"\n", b"\r\n"),
        event(PLAIN) + b": \n\n",
    ],
)
def test_everything_else_is_left_alone(read: PlainTexts, body: bytes) -> None:
    """Nothing of an unusual chunk is taken, not even what stands before the unusual part."""
    texts: list[str] = []
    before = chunked(event(PLAIN))
    assert read(before + chunked(body), texts) == len(before)
    assert texts == ["Hel"]


@pytest.mark.parametrize(
    "data",
    [b"", b"0\r\n\r\n", b"5\r\n", b"ffffff\r\n", b"fffffff\r\n", b"-1\r\n", b"5;x=y\r\n", b"\r\n", b"5\n", b"g\r\n"],
)
def test_odd_framing_is_left_alone(read: PlainTexts, data: bytes) -> None:
    """Sizes that are none, too large, or carry more than a number are the parser's."""
    texts: list[str] = []
    assert read(data, texts) == 0
    assert texts == []


def test_a_chunk_that_is_cut_is_left_whole(read: PlainTexts) -> None:
    """Wherever a read ends, only whole HTTP chunks are taken."""
    data = chunked(event(PLAIN))
    for end in range(len(data)):
        texts: list[str] = []
        assert read(data + data[:end], texts) == len(data)
        assert texts == ["Hel"]


NAMES = st.sampled_from(
    ["content", "delta", "choices", "usage", "error", "message", "finish_reason", "reasoning", "refusal", "x", "ü"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
CHUNKS = st.builds(
    lambda content, delta, choice, chunk: {
        **chunk,
        "choices": [{**choice, "delta": {**delta, "content": content}, "finish_reason": None}],
    },
    st.text(max_size=8),
    st.dictionaries(NAMES, st.none() | JSON, max_size=2),
    st.dictionaries(NAMES, st.none() | JSON, max_size=2),
    st.dictionaries(NAMES, st.none() | JSON, max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(CHUNKS, st.booleans(), st.integers(0, 400), st.none() | st.integers(0, 255))
def test_what_is_taken_is_what_python_takes(
    read: PlainTexts, chunk: object, ascii_only: bool, place: int, byte: int | None
) -> None:
    """For any chunk, also one with a wrong byte: the same text, or nothing."""
    body = bytearray(event(json.dumps(chunk, ensure_ascii=ascii_only).encode()))
    if byte is not None and place < len(body):
        body[place] = byte
    texts: list[str] = []
    data = chunked(bytes(body))
    taken = read(data, texts)
    if taken:
        assert taken == len(data)
        assert texts == in_python(bytes(body))
    else:
        assert texts == []


@settings(max_examples=300, deadline=None)
@example(["data: data: ", "data:", " x", "\x85\u2028\u2029", '\x00\x1f\x7f"\\/', "é漢😀", "dataxdata: "], 0, 0)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.integers(0, 10**9), st.integers(0, 10**9))
def test_frames_are_the_same_bytes(write: ChunkFrames, items: list[str], seq: int, index: int) -> None:
    """For any text: what Python renders."""
    head, end = b"event: chunk\nid: run_1.0.", b',"conversationId":"c"}\n\n'
    expected = b"".join(
        b'%b%d\ndata: {"content":%b,"index":%d%b' % (head, seq + at, native.encode_json(item), index + at + 1, end)
        for at, item in enumerate(items)
    )
    assert write(head, seq, index, end, items) == expected


def test_a_large_text_is_rendered_whole(write: ChunkFrames) -> None:
    """No bound of a buffer is one of a text: here each character takes six bytes."""
    frame = write(b"h", 0, 0, b"e", ["\x01" * 100_000])
    assert frame is not None
    assert frame.count(b"\\u0001") == 100_000


def test_a_renderer_gives_the_same_with_it_and_without(write: ChunkFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that hold more than text take the way in Python, and the counts go on behind either."""

    def rendered() -> list[bytes]:
        log = RunLog()
        log.extend([STARTED], 0)
        renderer = native.NativeRenderer("run_1", log)
        found = [renderer.render(0, [STARTED])]
        batches: list[list[LogItem]] = [["a"], ["b", "c"], ["d", ReasoningDelta(text="t"), "e"], ["f"]]
        for items in batches:
            first = len(log)
            log.extend(items, 0)
            found.append(renderer.render(first, items))
        return found

    with_it = rendered()
    monkeypatch.setattr(native, "chunk_frames", None)
    assert rendered() == with_it


def test_wrong_arguments_are_refused(read: PlainTexts, write: ChunkFrames) -> None:
    """With a TypeError, or for numbers that are out of range an OverflowError; never with a crash."""
    wrong: list[tuple[Any, ...]] = [(), (1,), (None, None), ("a", "b", "c"), (1, "frames", True), (b"", 0, 0, b"", ())]
    for function in (read, write):
        for arguments in wrong:
            with pytest.raises(TypeError):
                function(*arguments)
    for number in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            write(b"", number, 0, b"", [])
        with pytest.raises(OverflowError):
            write(b"", 0, number, b"", [])
