"""What every shape of a stream means, and that it means the same however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.core.run_errors import RunError, UpstreamBroken, UpstreamInvalid
from legato.providers.base import CallEnd, Pausable
from legato.providers.openai_answer import HELD_LIMIT_BYTES, Answer
from tests.contract.upstream_shapes import (
    DONE,
    END,
    HI,
    SHAPES,
    STREAMED_CALL,
    Shape,
    delta,
    text,
    with_made_ids_left_out,
)


class Deltas:
    """A sink that remembers, as (kind, text)."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def opened(self, flow: Pausable | None) -> None:
        self.all.append(("opened", ""))

    def text(self, delta: str) -> None:
        if delta:
            self.all.append(("text", delta))

    def reasoning(self, delta: str) -> None:
        self.all.append(("reasoning", delta))

    def of(self, kind: str) -> tuple[str, ...]:
        return tuple(text for of, text in self.all if of == kind)


def take(pieces: list[bytes], sink: Deltas) -> CallEnd:
    """Give an answer its pieces as a transport does."""
    answer = Answer(sink, host="model.test", url="http://model.test/", secret=None, nearly=nothing)
    answer.head(200, {"content-type": "text/event-stream"}, NO_FLOW)
    for piece in pieces:
        if piece and not answer.done:
            answer.body(piece)
    if not answer.done:
        answer.end(clean=True)
    return answer.result()


def nothing() -> None: ...


class _NoFlow:
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


NO_FLOW: Pausable = _NoFlow()


def outcome(pieces: list[bytes]) -> tuple[list[tuple[str, str]], object]:
    """Return the deltas and the end, or the error's type and message."""
    sink = Deltas()
    try:
        call_end = take(pieces, sink)
        end: object = (call_end.reason, call_end.usage, with_made_ids_left_out(call_end.tool_calls))
    except RunError as error:
        end = (type(error), error.message)
    return sink.all, end


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_gives_its_deltas_and_its_end(shape: Shape) -> None:
    """Each row of the table: deltas, reasoning, tool calls, end reason and usage, or the error."""
    sink = Deltas()
    if shape.error is None:
        end = take([shape.body], sink)
        assert (end.reason, end.usage) == (shape.reason, shape.usage)
        assert with_made_ids_left_out(end.tool_calls) == shape.calls
    else:
        with pytest.raises(RunError) as caught:
            take([shape.body], sink)
        assert type(caught.value) is shape.error
        assert shape.message in caught.value.message
    assert sink.of("text") == shape.texts
    assert sink.of("reasoning") == shape.reasoning
    for _, delta_text in sink.all:
        delta_text.encode("utf-8")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_one_byte_a_read_changes_nothing(shape: Shape) -> None:
    """The smallest pieces give what the whole gives."""
    body = shape.body[:3000]
    pieces = [body[i : i + 1] for i in range(len(body))]
    assert outcome(pieces) == outcome([body])


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_cut_at_any_place_changes_nothing(shape: Shape) -> None:
    """Two pieces, cut at each byte: inside UTF-8 sequences, line ends and field names."""
    body = shape.body[:1500]
    whole = outcome([body])
    for cut in range(1, len(body)):
        assert outcome([body[:cut], body[cut:]]) == whole, cut


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream of known frames and stray bytes in any order, and its pieces."""
    frames = st.sampled_from(
        [
            *(shape.body for shape in SHAPES if len(shape.body) < 600),
            text("Hel"),
            text("日本").replace(b"\n", b"\r\n"),
            text("👩").replace(b"\n", b"\r"),
            delta(reasoning="Hm"),
            b'data: {"choices":\n[{"delta":{"content":"x"}}]}\n\n',
            b'data: {"choices":\r[{"delta":{"content":"x"}}]}\n\n',
            b": comment\n\n",
            b"\n",
            b"\r",
            b"\r\n",
            END,
            DONE,
        ]
    )
    parts = draw(st.lists(st.one_of(frames, st.binary(max_size=8)), max_size=8))
    body = b"".join(parts)
    cuts = sorted(draw(st.sets(st.integers(0, len(body)), max_size=12)))
    edges = [0, *cuts, len(body)]
    return body, [body[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_delta_is_given_with_its_last_byte(line_end: bytes, cut: int) -> None:
    """Whatever the line ends, no delta waits for the next one: a stream streams."""
    sink = Deltas()
    answer = Answer(sink, host="model.test", url="http://model.test/", secret=None, nearly=nothing)
    answer.head(200, {}, NO_FLOW)
    for count in (1, 2, 3):
        frame = text("Hel").replace(b"\n", line_end)
        # The LF of a last CRLF is not waited for.
        for piece in (frame[: len(frame) - cut], frame[len(frame) - cut :]):
            if piece:
                answer.body(piece)
        assert len(sink.of("text")) == count


@settings(deadline=None, max_examples=300)
@given(cut_streams())
def test_any_split_gives_the_same_deltas(stream: tuple[bytes, list[bytes]]) -> None:
    """How the network cuts a stream is never seen, whatever the stream holds."""
    body, pieces = stream
    assert outcome(pieces) == outcome([body])


@pytest.mark.parametrize("start", [b"data: {", b'data: {"a":\r\n', b"{", b"data: x\ndata: "])
def test_a_line_without_end_is_refused(start: bytes) -> None:
    """What waits for its end is bounded, so that no server can fill the memory."""
    piece = b"x" * 65_536
    pieces = [start] + [piece] * (HELD_LIMIT_BYTES // len(piece) + 1)
    assert outcome(pieces)[1] == (
        UpstreamInvalid,
        f"the answer of model.test holds a line of more than {HELD_LIMIT_BYTES} bytes",
    )


def test_many_data_lines_without_a_blank_line_are_refused() -> None:
    """An event that never ends is bounded like a line."""
    pieces = [b"data: x\r\n" * 10_000] * 100
    assert outcome(pieces)[1][0] is UpstreamInvalid  # type: ignore[index]


def test_a_cut_after_the_finish_reason_is_an_end() -> None:
    """A reply that is whole is not failed, or made again, for the want of [DONE]."""
    sink = Deltas()
    answer = Answer(sink, host="model.test", url="http://model.test/", secret=None, nearly=nothing)
    answer.head(200, {}, NO_FLOW)
    answer.body(HI.removesuffix(DONE))
    answer.end(clean=False)
    assert answer.result() == CallEnd(reason="stop")


def test_a_cut_completion_that_is_not_streamed_is_broken() -> None:
    """Half a JSON text is a cut, not an answer of another kind."""
    answer = Answer(Deltas(), host="model.test", url="http://model.test/", secret=None, nearly=nothing)
    answer.head(200, {}, NO_FLOW)
    answer.body(b'{"choices": [')
    answer.end(clean=False)
    with pytest.raises(UpstreamBroken):
        answer.result()


def test_a_tool_call_on_its_way_is_a_sign_of_life() -> None:
    """Arguments may take long and show nothing: each piece tells the sink that the model is at work."""

    class Signs(Deltas):
        def text(self, delta: str) -> None:
            self.all.append(("text", delta))

    sink = Signs()
    take([STREAMED_CALL, END], sink)
    assert sink.of("text") == ("", "", "")


def test_what_is_nearly_whole_is_said_once() -> None:
    """From the finish reason on, the wait for the rest is bounded."""
    said: list[str] = []
    answer = Answer(Deltas(), host="h", url="http://h/", secret=None, nearly=lambda: said.append("nearly"))
    answer.head(200, {}, NO_FLOW)
    answer.body(text("Hello"))
    assert said == []
    answer.body(HI)
    assert said == ["nearly"]
