"""Streamed tool calls of an OpenAI-compatible server, put together, whatever shape the pieces have.

Pure. OpenAI sends a call's index with every piece, its id and name once, and its arguments in pieces. In the wild the
index is missing or always 0, the id comes again or anew with every piece, names come in pieces or again and again,
arguments are null, an object, or whole in one chunk. One rule decides: what names something other than the call at
hand, where that call's arguments are already whole, begins another.

Source:
    https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from legato.core.run_errors import UpstreamInvalid
from legato.core.text import valid_unicode

MAX_CALLS = 64
MAX_CHARS = 262_144
"""Characters of names, ids and arguments of all calls of one answer together."""
_MAX_ID_CHARS = 256
_MAX_NAME_CHARS = 64
_MOST_LOOKS = 256
"""Times that a call's arguments are looked at as a whole; keeps a strange server from making it quadratic."""

_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that a model asked for.

    Attributes:
        id: The server's id, or one of our own where it gave none or the same twice; unique in its answer.
        name: 1 to 64 of `a-z A-Z 0-9 _ -`; what a model made up is brought into that form: servers refuse others.
        arguments: What the model wrote, `{}` where it wrote nothing; not necessarily JSON.
    """

    id: str
    name: str
    arguments: str

    @property
    def replayed_arguments(self) -> str:
        """The arguments as they may be sent back: some servers refuse a history whose arguments are no JSON object."""
        return self.arguments if _is_object(self.arguments) else "{}"


class _Pieces:
    """One call as far as it has come."""

    __slots__ = ("_looks", "arguments", "id", "index", "name")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self._looks = 0

    def is_whole(self) -> bool:
        """Return whether the arguments are a JSON object, to which nothing can be added."""
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        self._looks += 1
        if self._looks > _MOST_LOOKS:
            return False
        text = "".join(self.arguments)
        self.arguments = [text]
        return _is_object(text)

    def take_name(self, piece: str) -> None:
        if piece.startswith(self.name):
            # The first piece, the whole name again, or all of it so far.
            self.name = piece
        elif not self.arguments:
            self.name += piece


class ToolDeltas:
    """Puts the calls of one answer together: feed every piece, then take them.

    Every method raises UpstreamInvalid if there are more than MAX_CALLS calls or MAX_CHARS characters.
    """

    def __init__(self, new_id: Callable[[], str], *, max_calls: int = MAX_CALLS, max_chars: int = MAX_CHARS) -> None:
        self._new_id = new_id
        self._max_calls = max_calls
        self._max_chars = max_chars
        self._chars = 0
        self._calls: list[_Pieces] = []
        self._by_index: dict[int, _Pieces] = {}
        self._by_id: dict[str, _Pieces] = {}

    def __bool__(self) -> bool:
        """Whether a call has begun."""
        return bool(self._calls)

    def feed(self, tool_calls: object) -> None:
        """Take `delta.tool_calls`, or `message.tool_calls` of an answer that is not streamed; any JSON value."""
        if isinstance(tool_calls, dict):
            tool_calls = [tool_calls]
        if isinstance(tool_calls, list | tuple):
            touched: list[_Pieces] = []
            for entry in tool_calls:
                if isinstance(entry, dict):
                    self._take(entry, touched)

    def feed_function(self, function_call: object) -> None:
        """Take `delta.function_call`, the form from before there were several calls; any JSON value."""
        if isinstance(function_call, dict):
            self._take({"index": 0, "function": function_call}, [])

    def complete(self) -> tuple[ToolCall, ...]:
        """Return the calls in the order in which they began."""
        used: set[str] = set()
        made: list[ToolCall] = []
        for pieces in self._calls:
            if not pieces.name and not pieces.arguments:
                continue
            call_id = pieces.id if 0 < len(pieces.id) <= _MAX_ID_CHARS and pieces.id.isprintable() else ""
            if not call_id or call_id in used:
                call_id = self._new_id()
            used.add(call_id)
            # Two chunks may have held the halves of one character.
            arguments = valid_unicode("".join(pieces.arguments))
            made.append(
                ToolCall(id=call_id, name=_name(pieces.name), arguments=arguments if arguments.strip() else "{}")
            )
        return tuple(made)

    def _take(self, entry: dict[str, object], touched: list[_Pieces]) -> None:
        function = entry.get("function")
        if not isinstance(function, dict):
            # Some servers leave the wrapping out.
            function = entry
        index, call_id = _index(entry.get("index")), _text(entry.get("id"))
        name, arguments = _text(function.get("name")), _arguments(function.get("arguments"))
        if index is None and not call_id and not name and not arguments:
            return
        self._chars += len(name) + len(arguments)
        pieces = self._find(index, call_id, name, arguments, touched)
        touched.append(pieces)
        if call_id and not pieces.id:
            self._chars += len(call_id)
            pieces.id = call_id
            self._by_id.setdefault(call_id, pieces)
        if name:
            pieces.take_name(name)
        if arguments:
            pieces.arguments.append(arguments)
        if self._chars > self._max_chars:
            raise UpstreamInvalid(f"the model's tool calls have more than {self._max_chars} characters")

    def _find(self, index: int | None, call_id: str, name: str, arguments: str, touched: list[_Pieces]) -> _Pieces:
        known = self._by_id.get(call_id) if call_id else None
        if known is not None and (index is None or known.index is None or known.index == index):
            return known
        found = self._by_index.get(index) if index is not None else self._calls[-1] if self._calls else None
        if found is None or _begins_another(found, call_id, name, arguments, again=found in touched):
            return self._begin(index)
        return found

    def _begin(self, index: int | None) -> _Pieces:
        if len(self._calls) >= self._max_calls:
            raise UpstreamInvalid(f"the model asked for more than {self._max_calls} tool calls at once")
        pieces = _Pieces(index)
        self._calls.append(pieces)
        if index is not None:
            self._by_index[index] = pieces
        return pieces


def _begins_another(found: _Pieces, call_id: str, name: str, arguments: str, *, again: bool) -> bool:
    """Return whether a piece that would fall to the call `found` is the first of another call.

    Args:
        again: The same chunk has brought a piece of `found` already.
    """
    if not name:
        # Pieces without a name go on, under whatever id: there are servers that make one up for each.
        return False
    if call_id and found.id and call_id != found.id:
        return found.index is None or name != found.name or found.is_whole()
    if call_id and call_id == found.id:
        return False
    # No ids to tell them apart.
    if again and found.index is None and not found.id and not found.arguments:
        return True
    # A last piece may say the name again, without arguments.
    return (bool(arguments) or name != found.name) and found.is_whole()


def _index(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 8:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return _text(value)


def _name(text: str) -> str:
    # Models write `functions.search` now and then, from the way in which tools are described to them.
    return _ILLEGAL.sub("_", text.strip().removeprefix("functions."))[:_MAX_NAME_CHARS] or "unnamed"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, parse_constant=_no_constant), dict)
    except (ValueError, RecursionError):
        return False


def _no_constant(name: str) -> object:
    raise ValueError(name)
