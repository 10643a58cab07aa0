"""What a model is given: the system prompt, as many of the latest turns as fit, and the present message.

The oldest turns are dropped whole; the system prompt is kept; the present message is never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from legato.core.errors import ContextExceeded
from legato.providers.base import ChatMessage, Provider
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.storage.messages import find_path

DEFAULT_MAX_TOKENS = 2000
UNKNOWN_WINDOW = 128_000
"""Taken for a model whose window nobody told."""
MESSAGE_TOKENS = 8
"""What a chat template adds to each message, at most, in the models that we know."""
HISTORY_MESSAGES = 1000
"""Messages that are ever read back, whatever the window."""
CHARS_PER_TOKEN = 5
"""So much is read back for each token of the window; what turns out to be too much is dropped."""
SHORTEST_REPLY = 64
"""Tokens that must be left for a reply, where so many are asked for."""


async def build_context(node: Node, run: LiveRun, provider: Provider) -> tuple[list[ChatMessage], int]:
    """Return the messages for a reply from its beginning, and the most tokens that it may have.

    Raises:
        ContextExceeded: The system prompt and the present message alone do not fit.
    """
    history: list[ChatMessage] = []
    question = ""
    if run.history:
        window = provider.context_window or UNKNOWN_WINDOW
        room = max(1, window - (run.request.max_tokens or DEFAULT_MAX_TOKENS))
        rows = await node.database.read(
            lambda tx: find_path(
                tx, run.conversation_key, run.user_message_id, HISTORY_MESSAGES, room * CHARS_PER_TOKEN
            )
        )
        for row in rows:
            text = parts_text(row.parts)
            if text:
                history.append(ChatMessage(role=row.role, content=text))
        question = history.pop().content if history else ""
    elif run.question is not None:
        question = run.question
    else:
        rows = await node.database.read(lambda tx: find_path(tx, run.conversation_key, run.user_message_id, 1, 1))
        question = parts_text(rows[-1].parts) if rows else ""
    return await fit(
        provider,
        system=run.request.system_prompt or node.settings.system_prompt,
        history=history,
        question=question,
        max_tokens=run.request.max_tokens or DEFAULT_MAX_TOKENS,
    )


async def fit(
    provider: Provider, *, system: str | None, history: Sequence[ChatMessage], question: str, max_tokens: int
) -> tuple[list[ChatMessage], int]:
    """Return as much of a context as fits, and the tokens that are left for the reply, `max_tokens` at most.

    Raises:
        ContextExceeded: The system prompt and the question alone do not fit.
    """
    window = provider.context_window or UNKNOWN_WINDOW
    head = [ChatMessage(role="system", content=system)] if system else []
    fixed = [*head, ChatMessage(role="user", content=question)]
    # No tokenizer makes more tokens than bytes. What fits even so, as most does, need not be counted.
    if sum(map(_most_tokens, fixed)) + sum(map(_most_tokens, history)) + max_tokens <= window:
        return [*head, *history, fixed[-1]], max_tokens
    used = 0
    for message in fixed:
        used += await _tokens(provider, message)
    # Room for an answer is part of fitting: a reply of no token is none.
    if used + min(max_tokens, SHORTEST_REPLY) > window:
        raise ContextExceeded(
            f"the message has about {used} tokens with the system prompt; "
            f"{provider.name} takes {window} with its reply: shorten it"
        )
    reply = min(max_tokens, window - used)
    kept: list[ChatMessage] = []
    left = window - used - reply
    for message in reversed(history):
        cost = await _tokens(provider, message)
        if cost > left:
            break
        left -= cost
        kept.append(message)
    # A history that begins with a reply has lost the question to it.
    while kept and kept[-1].role == "assistant":
        kept.pop()
    return [*head, *reversed(kept), fixed[-1]], reply


def _most_tokens(message: ChatMessage) -> int:
    content = message.content
    return (len(content) if content.isascii() else len(content.encode())) + MESSAGE_TOKENS


async def _tokens(provider: Provider, message: ChatMessage) -> int:
    counted = await provider.count_tokens(message.content)
    return (counted if counted is not None else estimate_tokens(message.content)) + MESSAGE_TOKENS


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has where no tokenizer is known: rather too many than too few."""
    return len(text.encode()) // 3 + 1


class _Part(msgspec.Struct):
    type: str
    text: str = ""


_decode_parts = msgspec.json.Decoder(list[_Part]).decode


def parts_text(parts: str) -> str:
    """Return the text of a message's parts (JSON)."""
    return "".join([part.text for part in _decode_parts(parts) if part.type == "text"])
