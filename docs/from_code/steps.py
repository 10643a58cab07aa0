"""The API of a bot's file: what `legato` exports, and what a step's context offers, from the docstrings."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import legato
import legato.testing
from docs.from_code.markdown import code, docstring, fence, table
from docs.from_code.python_api import documentation, fields, function
from legato.core import operations
from legato.core.figures import Durations, Figures, SessionFigures, Thumbs
from legato.core.reply import Reply
from legato.core.resources import (
    Conversation,
    ConversationPage,
    Feedback,
    Message,
    MessageLogPage,
    MessagePage,
    Run,
    RunFault,
    StartedRun,
)
from legato.core.usage import Usage
from legato.runs.analytics import Analytics
from legato.runs.conversations import Conversations
from legato.runs.replies import Runs
from legato.steps.state_views import StepState
from legato.steps.step_set import StepSet
from legato.steps.triggers import Occasion
from legato.storage.state import State
from legato.storage.state_rows import Entry, EntryPage, Updated, Versioned

INTRODUCTION = """\
# Steps and tools

What a bot's file imports from `legato`, and what a step is given. The [tutorial](../tutorial.md) shows it at work,
[topics.md](topics.md) lists the topics that the server tells, [errors.md](errors.md) every error with its status.

A step is an async function with what sets it off: a request, an event of a topic, a time. A tool is a function that
the model may call. `legato serve bot.py` runs those of the file's `app`, `legato steps bot.py` lists them.

"""
NAMES = "## What `legato` exports\n\n"
LAWS = """\
- **Every step and every tool acts for one owner**: the caller of an http step, the owner of a queue step's event, the
  person whose message a tool is called for; the app itself in cron steps, and in queue steps that take batches. It sees
  and changes what is that owner's, and nothing else, but for `ctx.shared`, which is the app's for all.
- **Events are delivered at least once**: a queue step may be given an event again, after an error or a crash. What it
  keeps under `ctx.event_id`, or under a name that follows from the event, it has once.
- **What a step enqueues, keeps or posts is on the disk** when the call returns.

"""
POLICIES = """\
## Policies

A policy is given a Passage and returns a verdict, or None for Allow; [the guide](../guides/moderation.md) shows some.

"""
WHERE = {
    "Allow": "#policies",
    "Block": "#policies",
    "Flag": "#policies",
    "Passage": "#policies",
    "Redact": "#policies",
    "Legato": "#legato",
    "StepSet": "#stepset",
    "Context": "#context",
    "Event": "#event",
    "QueueEvent": "#queueevent",
    "ToolError": "#toolerror",
}
RULES = """\
A **condition** is called with the step's input (None for a time, a dict of the arguments for a request) and the
Context, and lets the step run or not; it may be async. A request that it refuses is answered with 404. An **approval
rule** is called with a tool call's checked arguments, and says whether a person must agree.

An http step refuses a request by raising an error of `legato.core.errors`, such as `NotFound("there is no such lead")`:
it is answered with its [status and code](errors.md), and nothing of the inside. Any other exception is a 500 that says
nothing.

"""
VIEWS = """\
Three groups show what the server keeps elsewhere, and cannot be written: `conversations` (by id: title, times,
messages), `session-stats` (by session id: the figures of `GET /session-stats/{session_id}`) and `rate-limits` (what is
left of the caller's). The group `conversation:<id>` is yours, and is deleted with that conversation.

"""


def render() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION + LAWS + NAMES + _exports(), *_declaring(), *_context(), *_testing()])


def members(kind: type) -> Iterator[str]:
    """Yield the names of a class's public methods and properties, in the order of their definition."""
    for name, thing in vars(kind).items():
        if not name.startswith("_") and (callable(thing) or isinstance(thing, property)):
            yield name


def _exports() -> str:
    rows = []
    for name in legato.__all__:
        if name == "__version__":
            continue
        thing = getattr(legato, name)
        where = WHERE.get(name, "#operations" if callable(thing) and not inspect.isclass(thing) else "topics.md")
        rows.append((f"[{code(name)}]({where})", docstring(thing)))
    return table(("name", ""), rows)


def _declaring() -> Iterator[str]:
    yield "## Legato\n\n" + documentation(legato.Legato)
    for name in ("tool", "http", "queue", "cron"):
        yield function(f"@app.{name}", getattr(StepSet, name), leave_out=("function",))
    yield RULES
    yield function("app.include", StepSet.include)
    yield "## StepSet\n\n" + documentation(StepSet)
    yield "## Event\n\n" + documentation(legato.Event)
    yield "## QueueEvent\n\n" + documentation(legato.QueueEvent)
    yield "## ToolError\n\n" + documentation(legato.ToolError)
    yield POLICIES + function("@app.moderate", legato.Legato.moderate)
    for kind in (legato.Passage, legato.Block, legato.Redact, legato.Flag):
        yield f"### {kind.__name__}\n\n" + documentation(kind)


def _context() -> Iterator[str]:
    kind = legato.Context
    yield "## Context\n\n" + documentation(kind)
    yield "It also has `ctx.owner`, the principal's id, and these services:\n"
    yield _services()
    for name in ("enqueue", "acting_for"):
        yield function(f"ctx.{name}", getattr(kind, name))
    yield fields(Occasion)
    yield "## State\n\n" + documentation(State, arguments=False) + "\n" + VIEWS
    for name in members(State):
        yield function(f"ctx.state.{name}", getattr(State, name))
    yield function("ctx.shared.expire", StepState.expire)
    yield from map(fields, (Entry, EntryPage, Versioned, Updated))
    yield "## Operations\n\n" + _lines(operations.__doc__)
    for name in ("set_to", "merge", "increment", "decrement", "append", "remove"):
        yield function(name, getattr(legato, name))
    for title, service, prefix in (
        ("Conversations", Conversations, "ctx.conversations"),
        ("Runs", Runs, "ctx.runs"),
        ("Analytics", Analytics, "ctx.analytics"),
    ):
        yield f"## {title}\n\n" + documentation(service, arguments=False)
        for name in members(service):
            yield function(f"{prefix}.{name}", getattr(service, name))
    yield "## What they return\n"
    yield from map(
        fields,
        (
            Conversation,
            ConversationPage,
            Message,
            MessagePage,
            MessageLogPage,
            Feedback,
            Run,
            RunFault,
            StartedRun,
            Reply,
            Usage,
            Figures,
            SessionFigures,
            Durations,
            Thumbs,
        ),
    )


def _services() -> str:
    meanings = {
        "ctx.state": ("State", "what the owner's steps keep"),
        "ctx.shared": ("State", "what the app keeps for all owners"),
        "ctx.conversations": ("Conversations", "conversations and messages"),
        "ctx.runs": ("Runs", "replies: begin, wait, follow, stop"),
        "ctx.analytics": ("Analytics", "figures"),
    }
    rows = [(code(name), f"[{title}](#{title.lower()}): {words}") for name, (title, words) in meanings.items()]
    return table(("", ""), rows)


def _testing() -> Iterator[str]:
    yield "## legato.testing\n\n" + _lines(legato.testing.__doc__)
    yield function("serving", inspect.unwrap(legato.testing.serving))
    for name in members(legato.testing.TestServer):
        yield function(f"server.{name}", getattr(legato.testing.TestServer, name))
    reply = legato.testing.TestReply
    yield fields(reply)
    yield "Beside these:\n"
    properties = {name: each for name, each in vars(reply).items() if isinstance(each, property)}
    yield table(("property", "meaning"), [(code(name), docstring(each)) for name, each in properties.items()])
    yield fields(legato.testing.TestToolCall)


def _lines(doc: str | None) -> str:
    """Return a module's docstring, its indented code fenced."""
    blocks = (doc or "").strip().split("\n\n")
    return "\n".join(
        fence(textwrap.dedent(block), "python") if block.startswith("    ") else block + "\n" for block in blocks
    )
