"""All steps of a server: those of a bot's file, those that come with it, and the chat itself; checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from legato.core.errors import ConfigurationError
from legato.core.topics import SERVER_TOPICS
from legato.settings import nearest
from legato.steps.jobs import CronStep, QueueStep
from legato.steps.step import Step
from legato.steps.step_set import listed
from legato.steps.triggers import HttpTrigger

FLOW: Final = "ai-chatbot"
CHAT: Final = listed(
    "chat",
    "Answers a message and streams the reply.",
    flows=[FLOW],
    path="/chat/stream",
    enqueues=SERVER_TOPICS,
)
_PARAMETER: Final = re.compile(r"\{[^{}]*\}")


class Registry:
    """The steps by name, in the order of their declaration, the chat first.

    Args:
        built_in: Steps that come with the server.
        own: Steps of the bot's file.
        tool_topics: What the bot's tools may enqueue.

    Raises:
        ConfigurationError: Two steps share a name, or a path; a step listens to a topic that nothing enqueues, or
            enqueues one of the server's own; an option is wrong.
    """

    def __init__(
        self, built_in: Sequence[Step] = (), own: Sequence[Step] = (), tool_topics: Sequence[str] = ()
    ) -> None:
        self.tools = listed("tools", "Tools that the model calls.", flows=[FLOW], enqueues=tool_topics)
        self.by_name: dict[str, Step] = {}
        self.built_in = frozenset(("chat", "tools", *(step.name for step in built_in)))
        listed_steps = (CHAT, self.tools) if tool_topics else (CHAT,)
        for step in (*listed_steps, *built_in, *own):
            if step.name in self.by_name:
                owner = "a step that comes with Legato" if step.name in self.built_in else "another step"
                raise ConfigurationError(f"step {step.name}: {owner} has this name: give it another with name=…")
            self.by_name[step.name] = step
        self._check_topics([self.tools, *own])
        self._check_paths()
        topics = tuple(self.topics)
        self.tools = replace(self.tools, known_topics=topics)
        self.by_name = {name: replace(step, known_topics=topics) for name, step in self.by_name.items()}
        self.jobs: list[QueueStep | CronStep] = [job for step in self.by_name.values() for job in step.jobs()]

    @property
    def steps(self) -> list[Step]:
        return list(self.by_name.values())

    @property
    def topics(self) -> list[str]:
        """All topics that are enqueued, in order, each once."""
        return list(dict.fromkeys(topic for step in self.steps for topic in step.enqueues))

    def unheard(self) -> list[tuple[str, str]]:
        """Return (step, topic) of what is enqueued and nobody listens to, the server's own topics left out."""
        heard = {topic for step in self.steps for topic in step.topics}
        return [
            (step.name, topic)
            for step in self.steps
            for topic in step.enqueues
            if topic not in heard and topic not in SERVER_TOPICS
        ]

    def _check_topics(self, own: Sequence[Step]) -> None:
        for step in own:
            for topic in step.enqueues:
                if topic in SERVER_TOPICS:
                    raise ConfigurationError(f"step {step.name}: the topic {topic} is the server's: name one of yours")
        known = self.topics
        for step in self.steps:
            for topic in step.topics:
                if topic not in known:
                    close = nearest(topic, known)
                    said = f"did you mean {close!r}?" if close else f"known are {', '.join(known)}"
                    raise ConfigurationError(f"step {step.name}: no step enqueues the topic {topic!r}: {said}")

    def _check_paths(self) -> None:
        seen: list[tuple[Step, HttpTrigger]] = []
        for step in self.steps:
            for trigger in step.http:
                for other, theirs in seen:
                    same = theirs.method == trigger.method or other.name in self.built_in
                    if step is not other and same and shadows(theirs.path, trigger.path):
                        raise ConfigurationError(
                            f"step {step.name}: {trigger.method} {trigger.path} belongs to {_whose(other, self)} "
                            f"({theirs.method} {theirs.path}): take another path"
                        )
                seen.append((step, trigger))


def shadows(first: str, second: str) -> bool:
    """Whether requests for the path `second` may come to the path `first`, which is asked before it."""
    first, second = first.rstrip("/") or "/", second.rstrip("/") or "/"
    return _as_pattern(first).fullmatch(_PARAMETER.sub("~", second)) is not None or (
        _PARAMETER.sub("{}", first) == _PARAMETER.sub("{}", second)
    )


def _as_pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^{}]*\})", path)
    return re.compile(
        "".join((".*" if ":path" in part else "[^/]+") if part[:1] == "{" else re.escape(part) for part in parts)
    )


def _whose(step: Step, registry: Registry) -> str:
    return f"the built-in step {step.name}" if step.name in registry.built_in else f"step {step.name}"
