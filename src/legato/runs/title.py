"""Names a conversation after its first reply: one short call, in the background, of the model that gave the reply.

Until then, and whenever this fails, the title is the message's first words. A title that a person wrote stays.
"""

from __future__ import annotations

import asyncio

import structlog

from legato.core.errors import LegatoError
from legato.core.reply import fold_reply
from legato.core.text import first_words
from legato.providers.base import CallRequest, ChatMessage, Provider
from legato.runs.aside import ask_aside
from legato.runs.context import parts_text
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.storage.conversations import rename_by_model
from legato.storage.messages import find_path
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)

INSTRUCTION = (
    "Write a title for this conversation: at most six words, in the language of the user, plain text, no quotes, "
    "no full stop. Answer with the title alone."
)
SEEN_CHARS = 2000
"""Of the message and of the reply, as much is shown to the model."""
MAX_TOKENS = 200
"""A title has a dozen; the rest is for models that think first."""
LIMIT_S = 60.0


def begin_title(node: Node, run: LiveRun) -> None:
    """Have the conversation named, if this was its first reply and its model is one that names things well."""
    if node.settings.titles != "model" or run.turn != 1 or node.draining or not run.tail.closed:
        return
    reply = fold_reply(run.tail.log)
    if not reply.text or reply.model is None or reply.finish_reason not in ("stop", "length", "tool_limit"):
        return
    provider = node.models.find(reply.model)
    if provider.names_things:
        node.keep(asyncio.get_running_loop().create_task(_name(node, run, reply.text, provider)))


async def _name(node: Node, run: LiveRun, reply: str, provider: Provider) -> None:
    try:
        question = await _question(node, run)
        request = CallRequest(
            run_id=run.id,
            messages=[
                ChatMessage(role="user", content=question[:SEEN_CHARS]),
                ChatMessage(role="assistant", content=reply[:SEEN_CHARS]),
                ChatMessage(role="user", content=INSTRUCTION),
            ],
            temperature=None,
            max_tokens=MAX_TOKENS,
        )
        await _ask(node, run, provider, request)
    except (LegatoError, TimeoutError) as error:
        log.info("conversation keeps its first words as title", run_id=run.id, error=str(error))
    except Exception:
        # The boundary of a job that nobody waits for: a provider's own fault ends here.
        log.exception("conversation could not be named", run_id=run.id, trace_id=run.started.trace_id)


async def _ask(node: Node, run: LiveRun, provider: Provider, request: CallRequest) -> None:
    """Have the model write the title, and keep it where it is one that may be kept."""
    async with asyncio.timeout(LIMIT_S):
        said = await ask_aside(node, run, provider, request, purpose="title")
    title = first_words(said.strip().partition("\n")[0].strip("\"'“”«»*# "))
    if title and node.moderation is not None:
        title = await node.moderation.title(run, title)
    if not (title and title.isprintable()):
        return

    def write(tx: Transaction) -> None:
        rename_by_model(tx, run.tail.owner, run.conversation_id, run.conversation_key, title)

    await node.committer.write(write, wait_s=LIMIT_S)


async def _question(node: Node, run: LiveRun) -> str:
    if run.question is not None:
        return run.question
    rows = await node.database.read(lambda tx: find_path(tx, run.conversation_key, run.user_message_id, 1, 1))
    return parts_text(rows[-1].parts) if rows else ""
