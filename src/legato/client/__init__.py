"""The Python client: one conversation with a Legato server, from any asyncio program.

Stands alone: nothing of the server is imported. The same in TypeScript is clients/typescript.
"""

from __future__ import annotations

from legato.client.chat_client import ChatClient, MessageOptions, ReplyOptions
from legato.client.connection import Patience
from legato.client.errors import Aborted, BadStream, ChatError, Diverged, Refused, Unreachable
from legato.client.events import (
    ApprovalEvent,
    ChatEvent,
    Chunk,
    CitationEvent,
    Complete,
    Cost,
    Failover,
    Failure,
    Open,
    Queued,
    Reasoning,
    Reconnected,
    Reconnecting,
    ToolEvent,
    Unknown,
    Usage,
)
from legato.client.fold import fold, fold_all, open_approvals
from legato.client.message import EMPTY_REPLY, ReplyMessage
from legato.client.reply_stream import ReplyStream

__all__ = [
    "EMPTY_REPLY",
    "Aborted",
    "ApprovalEvent",
    "BadStream",
    "ChatClient",
    "ChatError",
    "ChatEvent",
    "Chunk",
    "CitationEvent",
    "Complete",
    "Cost",
    "Diverged",
    "Failover",
    "Failure",
    "MessageOptions",
    "Open",
    "Patience",
    "Queued",
    "Reasoning",
    "Reconnected",
    "Reconnecting",
    "Refused",
    "ReplyMessage",
    "ReplyOptions",
    "ReplyStream",
    "ToolEvent",
    "Unknown",
    "Unreachable",
    "Usage",
    "fold",
    "fold_all",
    "open_approvals",
]
