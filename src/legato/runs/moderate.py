"""What may be said, at work: messages before they are kept, results of tools before a model sees them, and what models
say before it is shown.

The law: a text that was blocked or redacted is nowhere. It is judged before its first write; what is kept, sent and
shown from then on is what the policies left of it. (Of a message with an idempotency key the hash of its body is kept.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import structlog

from legato.core.errors import BudgetExceeded, InvalidRequest
from legato.core.event import RunStarted
from legato.core.ids import new_id
from legato.core.principal import Principal
from legato.core.run_errors import BudgetSpent
from legato.policies.moderation.chain import Blocked, Flagged, InThread, Judged
from legato.policies.moderation.config import Chains
from legato.policies.moderation.verdict import Passage, Source, Stage
from legato.policies.moderation.window import Piece, Window
from legato.providers.tool_deltas import ToolCall
from legato.runs.call import CallSink, ReplyBlocked
from legato.runs.judged import JudgedSink
from legato.runs.live import LiveRun, RunRequest
from legato.runs.node import Node
from legato.runs.seam import Seam
from legato.runs.tail import Tail
from legato.settings_moderation import ModerationSettings
from legato.storage.reviews import NewReview, insert_reviews
from legato.storage.runs import find_run
from legato.storage.statement import Transaction
from legato.tools.base import ToolResult

log = structlog.get_logger(__name__)

REMOVED: Final = "[removed: {reason}]"
"""Is kept in the place of a message that was blocked, and told to a model in that of a tool's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """For what a policy is asked of a message: there is no run yet that its question could be charged to."""

    owner: str
    key_id: str | None
    session_id: str
    conversation_id: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moderated:
    """A message as the policies left it; as runs.start.NewMessage has these fields."""

    text: str
    request: RunRequest
    metadata: str | None
    reviews: tuple[NewReview, ...]


class Moderation:
    """The policies of a node."""

    def __init__(self, node: Node, settings: ModerationSettings, chains: Chains, in_thread: InThread) -> None:
        self._node = node
        self._settings = settings
        self._chains = chains
        self._in_thread = in_thread
        self.hold_s = settings.hold_ms / 1000
        node.metrics.expect_policies(chains.names)

    async def message(
        self, principal: Principal, text: str, request: RunRequest, metadata: str | None, posting: Posting
    ) -> Moderated:
        """Judge a message, and the system prompt that came with it, before anything of them is kept.

        Args:
            text: Empty where a reply is only to be made again.
            metadata: JSON text.

        Raises:
            BudgetExceeded: Judging it would cost more than may be spent.
        """
        reviews: list[NewReview] = []
        brought: tuple[tuple[Source, str], ...] = (("message", text), ("system_prompt", request.system_prompt or ""))
        for source, given in brought:
            if not given:
                continue
            passage = self._passage(given, "request", source, posting.owner, posting.conversation_id)
            try:
                judged = await self._chains.request.judge(passage, posting)
            except BudgetSpent as error:
                raise BudgetExceeded(error.message) from None
            if judged.blocked is not None:
                log.info("message blocked", policy=judged.blocked.policy, reason=judged.blocked.reason, source=source)
                return Moderated(
                    text=REMOVED.format(reason=judged.blocked.reason) if text else "",
                    request=RunRequest(model=request.model, blocked=self._said(judged.blocked)),
                    metadata=None,
                    reviews=(),
                )
            reviews += _reviews(passage, judged)
            if source == "message":
                text = judged.text
            else:
                request = replace(request, system_prompt=judged.text)
        if metadata is not None:
            metadata = self._metadata(metadata)
        return Moderated(text=text, request=request, metadata=metadata, reviews=tuple(reviews))

    async def settings(self, owner: str, conversation_id: str, values: dict[str, Any]) -> Sequence[NewReview]:
        """Judge what somebody says of a conversation; `values` (its columns) then hold what is left.

        Returns:
            What is to be put into the queue by the transaction that keeps them.

        Raises:
            InvalidRequest: A title or a system prompt may not be kept; names it.
            BudgetExceeded: As `message`.
        """
        reviews: list[NewReview] = []
        sources: tuple[Source, ...] = ("title", "system_prompt")
        for name in sources:
            if given := values.get(name):
                values[name], more = await self.aside(given, name, owner, conversation_id, field=name)
                reviews += more
        if metadata := values.get("metadata"):
            values["metadata"] = self._metadata(metadata)
        return reviews

    async def aside(
        self, text: str, source: Source, owner: str, conversation_id: str, *, field: str
    ) -> tuple[str, Sequence[NewReview]]:
        """Judge a text that somebody gives, and that is no message, before anything of it is kept.

        Returns:
            It, as it may be kept, and what is to be put into the queue by the transaction that keeps it.

        Raises:
            InvalidRequest: It may not be kept; names `field`.
            BudgetExceeded: As `message`.
        """
        posting = Posting(
            owner=owner,
            key_id=None,
            session_id="",
            conversation_id=conversation_id,
            run_id=new_id("r", self._node.clock.now_ms()),
        )
        passage = self._passage(text, "request", source, owner, conversation_id)
        try:
            judged = await self._chains.request.judge(passage, posting)
        except BudgetSpent as error:
            raise BudgetExceeded(error.message) from None
        if judged.blocked is not None:
            raise InvalidRequest.of(field, f"may not be kept: {judged.blocked.reason}")
        return judged.text, _reviews(passage, judged)

    async def approval(self, tail: Tail, reason: str) -> str:
        """Return the reason of a decision on a tool call as it may be kept; what is flagged is in the queue by then.

        Raises:
            InvalidRequest, BudgetExceeded: As `aside`.
        """
        started = tail.log.events[0]
        assert isinstance(started, RunStarted)
        reason, reviews = await self.aside(reason, "approval", tail.owner, started.conversation_id, field="reason")
        now_ms = self._node.clock.now_ms()

        def write(tx: Transaction) -> None:
            if (row := find_run(tx, tail.owner, tail.run_id)) is not None:
                of = {"conversation_id": row.conversation_id, "conversation_key": row.conversation_key}
                insert_reviews(tx, reviews, owner=tail.owner, run_id=tail.run_id, now_ms=now_ms, **of)

        if reviews:
            await self._node.committer.write(write, wait_s=self._node.settings.storage_wait_s)
        return reason

    async def imported(self, value: Any) -> Any:
        """Return what somebody brings from elsewhere (JSON), with all of its strings as the policies that find places
        leave them; the others are asked of none of it, which may be thousands of messages."""
        return await self._in_thread(lambda: self._cleaned(value))

    def sink(self, run: LiveRun, seam: Seam | None) -> CallSink:
        """Return where the deltas of a call go."""
        return JudgedSink(self._node, run, seam, self) if self._chains.reply else CallSink(self._node, run, seam)

    def window(self, shown: str) -> Window:
        """Return a window behind what was shown."""
        chain = self._chains.reply
        return Window(chain.look, hold_chars=self._settings.hold_chars, shown=shown, whole=chain.costly)

    async def reply_piece(self, run: LiveRun, piece: Piece, passage: Passage) -> str:
        """Return a piece of a reply as it may be shown; what is flagged is in the queue by then.

        Raises:
            ReplyBlocked: It may not be shown.
            BudgetSpent: Judging it would cost more than may be spent.
        """
        judged = await self._chains.reply.judge_piece(piece, passage, run)
        if judged.blocked is not None:
            raise self.reply_blocked(judged.blocked)
        await self._flag(run, passage, judged)
        return judged.text

    def reply_blocked(self, blocked: Blocked) -> ReplyBlocked:
        """Return what ends a reply that a policy blocks."""
        log.info("reply blocked", policy=blocked.policy, reason=blocked.reason)
        return ReplyBlocked(self._said(blocked))

    async def arguments(self, run: LiveRun, calls: Sequence[ToolCall]) -> None:
        """Judge what a model wants tools to be called with, before it is kept or shown.

        A redaction is not carried out: a tool that is called with something else would do something else.

        Raises:
            ReplyBlocked: It may not be said.
            BudgetSpent: Judging it would cost more than may be spent.
        """
        if not self._chains.reply:
            return
        for call in calls:
            passage = replace(self._of_run(run, call.arguments, "reply", "arguments"), tool=call.name)
            judged = await self._chains.reply.judge(passage, run)
            if judged.blocked is not None:
                raise self.reply_blocked(judged.blocked)
            await self._flag(run, passage, judged)

    async def tool_result(self, run: LiveRun, tool: str, result: ToolResult) -> ToolResult:
        """Return a tool's result as it is kept, and as the model is told of it.

        The tool has had its effect, so that its call ends well whatever is left to judge with.
        """
        if not self._settings.tool_results or not self._chains.request:
            return result
        passage = replace(self._of_run(run, result.output, "request", "tool"), tool=tool)
        try:
            judged = await self._chains.request.judge(passage, run)
        except BudgetSpent:
            log.info("result of a tool not judged", tool=tool, reason="budget")
            return replace(result, output=REMOVED.format(reason="budget"), is_error=True)
        if judged.blocked is not None:
            log.info("result of a tool blocked", tool=tool, policy=judged.blocked.policy, reason=judged.blocked.reason)
            return replace(result, output=REMOVED.format(reason=judged.blocked.reason), is_error=True)
        await self._flag(run, passage, judged)
        return replace(result, output=judged.text)

    async def title(self, run: LiveRun, title: str) -> str:
        """Return a title that a model made as it may be kept; empty where it may not be.

        Raises:
            BudgetSpent: Judging it would cost more than may be spent.
        """
        passage = self._of_run(run, title, "reply", "title")
        judged = await self._chains.reply.judge(passage, run)
        await self._flag(run, passage, judged)
        return judged.text if judged.blocked is None else ""

    async def close(self) -> None:
        """Close connections of policies."""
        for policy in self._chains.closes:
            await policy.close()

    def _of_run(self, run: LiveRun, text: str, stage: Stage, source: Source) -> Passage:
        return self._passage(text, stage, source, run.tail.owner, run.conversation_id)

    def _passage(self, text: str, stage: Stage, source: Source, owner: str, conversation_id: str) -> Passage:
        return Passage(text=text, stage=stage, source=source, owner=owner, conversation_id=conversation_id)

    def _said(self, blocked: Blocked) -> str:
        return blocked.text or self._settings.block_text

    def _metadata(self, metadata: str) -> str:
        return msgspec.json.encode(self._cleaned(msgspec.json.decode(metadata))).decode()

    def _cleaned(self, value: Any) -> Any:
        """Return JSON with all of its strings redacted, and those that are blocked removed."""
        if isinstance(value, str):
            found = self._chains.request.redact(value)
            return REMOVED.format(reason="policy") if found is None else found
        if isinstance(value, dict):
            return {self._cleaned(name): self._cleaned(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._cleaned(each) for each in value]
        return value

    async def _flag(self, run: LiveRun, passage: Passage, judged: Judged) -> None:
        reviews = _reviews(passage, judged)
        if not reviews:
            return
        now_ms = self._node.clock.now_ms()
        await self._node.committer.write(
            lambda tx: insert_reviews(
                tx,
                reviews,
                owner=run.tail.owner,
                conversation_id=run.conversation_id,
                conversation_key=run.conversation_key,
                run_id=run.id,
                now_ms=now_ms,
            )
        )


def _reviews(passage: Passage, judged: Judged) -> list[NewReview]:
    flags: Sequence[Flagged] = judged.flags
    return [
        NewReview(stage=passage.stage, source=passage.source, policy=flag.policy, reason=flag.reason, text=judged.text)
        for flag in flags
    ]
