"""Every shape of a stream met in the wild, as one table: the bytes of a body and what they mean."""

from __future__ import annotations

import json
from dataclasses import dataclass

from legato.core.run_errors import ContextExceeded, RunError, UpstreamBroken, UpstreamInvalid, UpstreamRateLimited
from legato.core.usage import Usage
from legato.providers.base import EndReason
from legato.providers.tool_deltas import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One body of an answer 200 and what it means.

    Attributes:
        texts: The deltas, each as the sink gets it.
        error: What the call ends in, if it is no end of the model's own.
        message: A part of that error's message.
        calls: (id, name, arguments) of the tool calls; the id is empty where the server gives none.
    """

    name: str
    body: bytes
    texts: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    reason: EndReason = "stop"
    usage: Usage | None = None
    error: type[RunError] | None = None
    message: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()


def with_made_ids_left_out(calls: tuple[ToolCall, ...]) -> tuple[tuple[str, str, str], ...]:
    """Return calls as `Shape.calls` has them: an id that this side has made says nothing."""
    return tuple(("" if len(call.id) == 29 else call.id, call.name, call.arguments) for call in calls)


def frame(value: object) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def delta(*, finish: str | None = None, **fields: object) -> bytes:
    return frame({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


def text(content: str) -> bytes:
    return delta(content=content)


STOP = delta(finish="stop")
DONE = b"data: [DONE]\n\n"
END = STOP + DONE
HI = text("Hel") + text("lo") + END
HELLO = ("Hel", "lo")
FULL_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
COUNTED = Usage(input_tokens=9, output_tokens=3, cache_read_tokens=4, reasoning_tokens=2)
WHOLE = {
    "object": "chat.completion",
    "choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
}


def _tool(
    arguments: object = None, *, index: object = 0, call_id: object = None, name: object = None
) -> dict[str, object]:
    entry: dict[str, object] = {"index": index, "function": {"name": name, "arguments": arguments}}
    return entry | ({"id": call_id, "type": "function"} if call_id else {})


def _calls(*entries: object, finish: str | None = None, **fields: object) -> bytes:
    return delta(tool_calls=list(entries), finish=finish, **fields)


TOOLS_END = delta(finish="tool_calls") + DONE
Q = '{"q":"añ 日本"}'
A_CALL = (("call_a", "search", Q),)
STREAMED_CALL = (
    _calls(_tool("", call_id="call_a", name="search"), role="assistant", content=None)
    + _calls(_tool(Q[:4]))
    + _calls(_tool(Q[4:]))
)


def _raw(content: bytes) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"' + content + b'"}}]}\n\n'


def _usage(value: object) -> bytes:
    return text("Hel") + text("lo") + STOP + frame({"choices": [], "usage": value}) + DONE


SHAPES = (
    Shape(name="plain", body=HI, texts=HELLO),
    Shape(name="role only, then text", body=delta(role="assistant", content="") + HI, texts=HELLO),
    Shape(name="empty delta", body=delta() + HI, texts=HELLO),
    Shape(name="null content", body=delta(content=None) + HI, texts=HELLO),
    Shape(name="null delta", body=frame({"choices": [{"delta": None}]}) + HI, texts=HELLO),
    Shape(name="null choices", body=frame({"choices": None}) + HI, texts=HELLO),
    Shape(name="null choice", body=frame({"choices": [None]}) + HI, texts=HELLO),
    Shape(name="no choices", body=frame({"choices": [], "id": "x"}) + HI, texts=HELLO),
    Shape(name="null error", body=frame({"choices": [], "error": None}) + HI, texts=HELLO),
    Shape(name="empty finish reason", body=delta(content="Hel", finish="") + text("lo") + END,
          texts=HELLO),
    Shape(name="text in the last chunk", body=text("Hel") + delta(content="lo", finish="stop"),
          texts=HELLO),
    Shape(name="usage", body=_usage(FULL_USAGE), texts=HELLO, usage=COUNTED),
    Shape(name="reasoning beside the output", texts=HELLO,
          body=_usage(FULL_USAGE | {"total_tokens": 14}),
          usage=Usage(input_tokens=9, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2)),
    Shape(name="more reasoning than output", texts=HELLO,
          body=_usage({"prompt_tokens": 9, "completion_tokens": 3,
                       "completion_tokens_details": {"reasoning_tokens": 7}}),
          usage=Usage(input_tokens=9, output_tokens=10, reasoning_tokens=7)),
    Shape(name="cached tokens by another name", texts=HELLO,
          body=_usage({"prompt_tokens": 9, "completion_tokens": 3, "prompt_cache_hit_tokens": 4}),
          usage=Usage(input_tokens=9, output_tokens=3, cache_read_tokens=4)),
    Shape(name="more tokens than there can be", texts=HELLO,
          body=_usage({"prompt_tokens": 10**30, "completion_tokens": 3}),
          usage=Usage(output_tokens=3)),
    Shape(name="usage without details", body=_usage({"prompt_tokens": 9, "completion_tokens": 3}),
          texts=HELLO, usage=Usage(input_tokens=9, output_tokens=3)),
    Shape(name="usage with null details",
          body=_usage({"prompt_tokens": 9, "prompt_tokens_details": None}),
          texts=HELLO, usage=Usage(input_tokens=9)),
    Shape(name="usage null", body=_usage(None), texts=HELLO),
    Shape(name="usage empty", body=_usage({}), texts=HELLO),
    Shape(name="usage with counts as floats",
          body=_usage({"prompt_tokens": 9.0, "completion_tokens": 3.0}),
          texts=HELLO, usage=Usage(input_tokens=9, output_tokens=3)),
    Shape(name="usage with counts that are none",
          body=_usage({"prompt_tokens": "many", "completion_tokens": -1}), texts=HELLO),
    Shape(name="usage with details of the wrong kind",
          body=_usage({**FULL_USAGE, "prompt_tokens_details": [], "completion_tokens_details": 1}),
          texts=HELLO, usage=Usage(input_tokens=9, output_tokens=3)),
    Shape(name="usage in every chunk",
          body=frame({"choices": [{"delta": {"content": "Hel"}}], "usage": {"prompt_tokens": 1}})
          + text("lo") + STOP + frame({"usage": FULL_USAGE}) + DONE,
          texts=HELLO, usage=COUNTED),
    Shape(name="usage beside an odd choice",
          body=HI.removesuffix(DONE)
          + frame({"choices": [{"delta": {"content": []}}], "usage": FULL_USAGE}),
          texts=HELLO, usage=COUNTED),
    Shape(name="reasoning_content", body=delta(reasoning_content="Hm") + HI, texts=HELLO,
          reasoning=("Hm",)),
    Shape(name="reasoning", body=delta(reasoning="Hm", content="") + HI, texts=HELLO,
          reasoning=("Hm",)),
    Shape(name="both names of reasoning", body=delta(reasoning="Hm", reasoning_content="Hm") + HI,
          texts=HELLO, reasoning=("Hm",)),
    Shape(name="reasoning and text at once", body=delta(reasoning="Hm", content="Hello") + END,
          texts=("Hello",), reasoning=("Hm",)),
    Shape(name="reasoning alone", body=delta(reasoning="Hm") + END, reasoning=("Hm",)),
    Shape(name="refusal", body=delta(refusal="No.") + END, texts=("No.",)),
    Shape(name="content as parts",
          body=delta(content=[{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]) + END,
          texts=("Hello",)),
    Shape(name="content as one part", body=delta(content={"type": "text", "text": "Hello"}) + END,
          texts=("Hello",)),
    Shape(name="content with thinking parts",
          body=delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}])
          + delta(content=[{"type": "text", "text": "Hello"}, "stray"]) + END,
          texts=("Hello",), reasoning=("Hm",)),
    Shape(name="content a number", body=delta(content=7) + HI, texts=HELLO),
    Shape(name="finish length", body=text("Hello") + delta(finish="length") + DONE,
          texts=("Hello",), reason="length"),
    Shape(name="finish content_filter", body=text("Hello") + delta(finish="content_filter") + DONE,
          texts=("Hello",), reason="content_filter"),
    Shape(name="finish tool_calls", body=text("Hello") + delta(finish="tool_calls") + DONE,
          texts=("Hello",)),
    Shape(name="finish function_call", body=text("Hello") + delta(finish="function_call") + DONE,
          texts=("Hello",)),
    Shape(name="finish unknown", body=text("Hello") + delta(finish="whim") + DONE, texts=("Hello",)),
    Shape(name="finish error", body=text("Hello") + delta(finish="error") + DONE,
          texts=("Hello",), error=UpstreamBroken, message="gave up"),
    Shape(name="CRLF", body=HI.replace(b"\n", b"\r\n"), texts=HELLO),
    Shape(name="CR", body=HI.replace(b"\n", b"\r"), texts=HELLO),
    Shape(name="mixed line ends",
          body=text("Hel") + text("l").replace(b"\n", b"\r\n") + text("o").replace(b"\n", b"\r")
          + END, texts=("Hel", "l", "o")),
    Shape(name="LF after CR", body=HI.replace(b"\n\n", b"\r\n\n"), texts=HELLO),
    Shape(name="three line ends", body=HI.replace(b"\n\n", b"\n\n\n"), texts=HELLO),
    Shape(name="one line end", body=HI.replace(b"\n\n", b"\n"), texts=HELLO),
    Shape(name="one line end, cut",
          body=(text("Hel") + text("lo")).replace(b"\n\n", b"\n") + b'data: {"choices":[{"del',
          texts=HELLO, error=UpstreamBroken),
    Shape(name="blank lines first", body=b"\n\n" + HI, texts=HELLO),
    Shape(name="no space after the colon", body=HI.replace(b"data: ", b"data:"), texts=HELLO),
    Shape(name="two spaces after the colon", body=HI.replace(b"data: ", b"data:  "), texts=HELLO),
    Shape(name="comments",
          body=b": ok\n\n" + text("Hel") + b":\n\n: PROCESSING\n\n" + text("lo") + b":x\n" + END,
          texts=HELLO),
    Shape(name="event, id and retry lines",
          body=b"event: chunk\nid: 1\n" + text("Hel") + b"retry: 3\nevent: chunk\n" + text("lo") + END,
          texts=HELLO),
    Shape(name="fields after the data",
          body=text("Hel").replace(b"\n\n", b"\nid: 1\n\n") + text("lo") + END, texts=HELLO),
    Shape(name="data in several lines",
          body=b'data: {"choices":\ndata: [{"delta":{"content":\ndata:"Hello"}}]}\n\n' + END,
          texts=("Hello",)),
    Shape(name="two chunks in one event",
          body=text("Hel").removesuffix(b"\n") + text("lo") + END, texts=HELLO),
    Shape(name="keep-alives that are no JSON", body=b"data: ping\n\ndata:\n\n" + HI, texts=HELLO),
    Shape(name="objects of other kinds", body=frame({"type": "ping"}) + HI, texts=HELLO),
    Shape(name="space inside the JSON", body=HI.replace(b"data: {", b"data: { "), texts=HELLO),
    Shape(name="byte order mark", body=b"\xef\xbb\xbf" + HI, texts=HELLO),
    Shape(name="U+2028, U+2029 and U+0085", body=text("a\u2028b\u2029c\u0085d") + END,
          texts=("a\u2028b\u2029c\u0085d",)),
    Shape(name="many scripts", body=text("añ") + text("日本") + text("👩‍👩‍👧") + END,
          texts=("añ", "日本", "👩‍👩‍👧")),
    Shape(name="escapes", body=_raw(rb"a\n\n\u00e9\ud83d\ude00\u0000") + END,
          texts=("a\n\né😀\0",)),
    Shape(name="lone high surrogate", body=_raw(rb"a\ud83db") + END, texts=("a\ufffdb",)),
    Shape(name="lone low surrogate", body=_raw(rb"a\ude00b") + END, texts=("a\ufffdb",)),
    Shape(name="invalid UTF-8", body=_raw(b"a\xffb") + END, texts=("a\ufffdb",)),
    Shape(name="raw control characters", body=_raw(b"a\tb") + END, texts=("a\tb",)),
    Shape(name="no [DONE]", body=text("Hel") + text("lo") + STOP, texts=HELLO),
    Shape(name="no [DONE], no last blank line",
          body=text("Hel") + text("lo") + STOP.rstrip(), texts=HELLO),
    Shape(name="[DONE] without a blank line", body=HI.rstrip(), texts=HELLO),
    Shape(name="[DONE] without a finish reason", body=text("Hel") + text("lo") + DONE, texts=HELLO),
    Shape(name="[DONE] without its space", body=text("Hello") + STOP + b"data:[DONE]\n\n",
          texts=("Hello",)),
    Shape(name="[DONE] alone", body=DONE),
    Shape(name="bytes after [DONE]", body=HI + text("more") + b"<html>\xff", texts=HELLO),
    Shape(name="end without a finish reason", body=text("Hel") + text("lo"), texts=HELLO,
          error=UpstreamBroken, message="before the reply was whole"),
    Shape(name="end inside a frame", body=text("Hel") + text("lo")[:30], texts=("Hel",),
          error=UpstreamBroken),
    Shape(name="comments and an end", body=b": PROCESSING\n\n", error=UpstreamBroken),
    Shape(name="error in mid-stream",
          body=text("Hel") + frame({"error": {"message": "boom sk-abc123def", "code": 502}}),
          texts=("Hel",), error=UpstreamBroken, message="reported an error: boom [removed]"),
    Shape(name="error as a string", body=text("Hel") + frame({"error": "boom"}), texts=("Hel",),
          error=UpstreamBroken, message="boom"),
    Shape(name="error by event type",
          body=text("Hel") + b'event: error\ndata: {"message": "boom"}\n\n', texts=("Hel",),
          error=UpstreamBroken, message="boom"),
    Shape(name="error first", body=frame({"error": {"message": "boom"}}), error=UpstreamBroken,
          message="boom"),
    Shape(name="error first, with a status",
          body=frame({"error": {"message": "slow down", "code": 429}}), error=UpstreamRateLimited,
          message="slow down"),
    Shape(name="error first, context exceeded",
          body=frame({"error": {"message": "too long", "type": "exceed_context_size_error"}}),
          error=ContextExceeded, message="too long"),
    Shape(name="broken JSON first", body=b"data: {nonsense}\n\n", error=UpstreamInvalid,
          message="not JSON"),
    Shape(name="broken JSON later", body=text("Hel") + b"data: {nonsense}\n\n", texts=("Hel",),
          error=UpstreamBroken, message="not JSON"),
    Shape(name="deep JSON", body=b"data: " + b'{"a":' * 5000 + b"\n\n", error=UpstreamInvalid),
    Shape(name="HTML", body=b"<!doctype html><html><body>Sign in</body></html>",
          error=UpstreamInvalid, message="HTML"),
    Shape(name="plain text", body=b"It works!\n", error=UpstreamInvalid, message="no chat completion"),
    Shape(name="empty", body=b"", error=UpstreamBroken),
    Shape(name="one whole completion", body=json.dumps(WHOLE, indent=1).encode(), texts=("Hello",),
          reason="length", usage=Usage(input_tokens=9, output_tokens=3)),
    Shape(name="one whole completion after a mark",
          body=b"\xef\xbb\xbf\r\n" + json.dumps(WHOLE).encode(), texts=("Hello",), reason="length",
          usage=Usage(input_tokens=9, output_tokens=3)),
    Shape(name="one whole completion as a chunk", body=frame(WHOLE) + DONE, texts=("Hello",),
          reason="length", usage=Usage(input_tokens=9, output_tokens=3)),
    Shape(name="the whole message again after its deltas",
          body=text("Hel") + text("lo")
          + frame({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}),
          texts=HELLO),
    Shape(name="a tool call in pieces", body=STREAMED_CALL + TOOLS_END, calls=A_CALL),
    Shape(name="a tool call behind text", body=text("Hel") + text("lo") + STREAMED_CALL + TOOLS_END,
          texts=HELLO, calls=A_CALL),
    Shape(name="a tool call, and finish stop", body=STREAMED_CALL + END, calls=A_CALL),
    Shape(name="a tool call, and finish length", body=STREAMED_CALL + delta(finish="length") + DONE,
          calls=A_CALL, reason="length"),
    Shape(name="a tool call without a finish reason", body=STREAMED_CALL + DONE, calls=A_CALL),
    Shape(name="a tool call in the last chunk",
          body=_calls(_tool(Q, call_id="call_a", name="search"), finish="tool_calls") + DONE,
          calls=A_CALL),
    Shape(name="a tool call without an id", body=_calls(_tool(Q, name="search")) + TOOLS_END,
          calls=(("", "search", Q),)),
    Shape(name="a tool call that is cut", body=STREAMED_CALL, error=UpstreamBroken),
    Shape(name="a tool call, then an error",
          body=STREAMED_CALL + frame({"error": {"message": "boom", "code": 429}}),
          error=UpstreamBroken, message="boom"),
    Shape(name="two tool calls at once",
          body=_calls(_tool("{}", call_id="call_a", name="now"),
                      _tool(Q, index=1, call_id="call_b", name="search")) + TOOLS_END,
          calls=(("call_a", "now", "{}"), ("call_b", "search", Q))),
    Shape(name="two tool calls, interleaved, beside text",
          body=_calls(_tool("", call_id="call_a", name="now"), content="Hel")
          + _calls(_tool(Q[:3], index=1, call_id="call_b", name="search"), content="lo")
          + _calls(_tool("{}")) + _calls(_tool(Q[3:], index=1)) + TOOLS_END,
          texts=HELLO, calls=(("call_a", "now", "{}"), ("call_b", "search", Q))),
    Shape(name="a tool call with its arguments as an object",
          body=_calls(_tool({"q": 1}, call_id="call_a", name="search")) + TOOLS_END,
          calls=(("call_a", "search", '{"q": 1}'),)),
    Shape(name="a tool call as one object",
          body=delta(tool_calls=_tool(Q, call_id="call_a", name="search")) + TOOLS_END, calls=A_CALL),
    Shape(name="a tool call beside odd content",
          body=_calls(_tool(Q, call_id="call_a", name="search"), content=[{"type": "text", "text": "Hello"}])
          + TOOLS_END, texts=("Hello",), calls=A_CALL),
    Shape(name="a tool call with half a character",
          body=_calls(_tool('{"q":"X"}', call_id="call_a", name="search")).replace(b"X", rb"\\ud83d")
          + _raw(rb"\ud83d") + TOOLS_END,
          texts=("\ufffd",), calls=(("call_a", "search", r'{"q":"\ud83d"}'),)),
    Shape(name="a tool call in CRLF", body=(STREAMED_CALL + TOOLS_END).replace(b"\n", b"\r\n"),
          calls=A_CALL),
    Shape(name="thoughts before a tool call", body=delta(reasoning="Hm") + STREAMED_CALL + TOOLS_END,
          reasoning=("Hm",), calls=A_CALL),
    Shape(name="the old function call in pieces",
          body=delta(function_call={"name": "search", "arguments": ""})
          + delta(function_call={"arguments": Q[:5]}) + delta(function_call={"arguments": Q[5:]})
          + delta(finish="function_call") + DONE,
          calls=(("", "search", Q),)),
    Shape(name="tool calls that are none",
          body=delta(tool_calls=[], function_call=None) + delta(tool_calls=None, content="Hel")
          + delta(tool_calls=[{}], content="lo") + delta(tool_calls="odd") + END, texts=HELLO),
    Shape(name="a whole completion with a tool call",
          body=json.dumps({"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [
              _tool(Q, call_id="call_a", name="search")]}, "finish_reason": "tool_calls"}]}).encode(),
          calls=A_CALL),
    Shape(name="the whole message again after its tool calls",
          body=STREAMED_CALL + frame({"choices": [{"message": {"content": None, "tool_calls": [
              _tool(Q, call_id="call_a", name="search")]}, "finish_reason": "tool_calls"}]}),
          calls=A_CALL),
    Shape(name="more tool calls than anybody asks for",
          body=_calls(*(_tool("{}", index=n, name="now") for n in range(65))) + TOOLS_END,
          error=UpstreamInvalid, message="more than 64 tool calls"),
    Shape(name="other JSON", body=b'{"ok": true}', error=UpstreamInvalid,
          message="no chat completion"),
    Shape(name="JSON error with 200", body=b'{"error": {"message": "boom"}}', error=UpstreamBroken,
          message="boom"),
)  # fmt: skip
