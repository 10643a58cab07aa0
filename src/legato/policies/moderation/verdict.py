"""What a policy is asked, and what it may answer.

Pure. These are the words of `@app.moderate`: a bot's policy is given a Passage and returns a Verdict, or None for
Allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Stage = Literal["request", "reply"]
"""When a policy is asked: of what goes to the model, or of what comes from it."""
STAGES: tuple[Stage, ...] = get_args(Stage)
Source = Literal["message", "system_prompt", "tool", "reply", "reasoning", "arguments", "title", "feedback", "approval"]
"""What a passage is. Of the stage `request`: a person's message, a system prompt or a title that a person gives, the
reason of feedback or of a decision on a tool call, a tool's result. Of the stage `reply`: the reply's text, the model's
reasoning, the arguments of a tool call, a title that a model makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What is judged.

    Attributes:
        text: Of a reply that streams a sentence or a few, else the whole.
        context: What stands before `text`, as it is shown; the last of it, empty at the beginning.
        owner: Id of the principal whose conversation it is.
        tool: The tool's name, of a result or of arguments.
    """

    text: str
    stage: Stage
    source: Source
    context: str = ""
    owner: str = ""
    conversation_id: str = ""
    tool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """Nothing is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """It is neither kept nor shown nor sent.

    Attributes:
        reason: A code such as `violence`, of letters, digits, `_` and `-`: for metrics, logs and the client.
        text: What is said instead; None for the text of the settings.
    """

    reason: str = "policy"
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redact:
    """Another text takes the place of the passage's, before it is kept, shown or sent."""

    text: str
    reason: str = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """It goes on as it is, and somebody is to look at it."""

    reason: str = "policy"


Verdict: TypeAlias = Allow | Block | Redact | Flag
VERDICTS = (Allow, Block, Redact, Flag)


class PolicyFailed(Exception):
    """A policy gave no verdict.

    Attributes:
        kind: `timeout`, or `error` for everything else: it raised, its server was away, its answer was nonsense.
    """

    def __init__(self, kind: Literal["timeout", "error"], message: str) -> None:
        super().__init__(message)
        self.kind = kind
