"""`legato steps`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.exits import CONFIGURATION, FAILED, help_end
from legato.cli.terminal import complain, console, one_line

if TYPE_CHECKING:
    from legato.app import Legato
    from legato.steps.registry import Registry
    from legato.steps.step import Step

HELP_END = help_end(
    "legato steps                  # those that come with Legato",
    "legato steps bot.py           # and those of a bot, which come first",
    "legato steps bot.py --times 5",
    "legato steps bot.py --graph   # as a Mermaid flowchart, for a README",
    exits={FAILED: "", CONFIGURATION: "a step is wrong; the message names it"},
)


def steps(
    target: Annotated[str | None, typer.Argument(help="`bot.py` or `module:app`, as for `legato serve`.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Print the flows as a Mermaid flowchart.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    times: Annotated[int, typer.Option(min=1, max=20, help="Next times of each cron step that are shown.")] = 2,
) -> None:
    """List steps with what sets them off, what they enqueue, and the next times of those that have times."""
    from legato.app import Legato
    from legato.cli.target import load_target
    from legato.core.clock import SystemClock
    from legato.steps.graph import as_json, mermaid

    bot = load_target(target) if target is not None else Legato()
    registry = bot.registry()
    now_ms = SystemClock().now_ms()
    if graph:
        typer.echo(mermaid(registry), nl=False)
    elif json_lines:
        for step in registry.steps:
            typer.echo(json.dumps(as_json(step, registry, now_ms, times), ensure_ascii=False))
    else:
        _print(bot, registry, now_ms, times)
    for name, topic in registry.unheard():
        complain(f"nobody listens to {topic}, which {name} enqueues")


def _print(bot: Legato, registry: Registry, now_ms: int, times: int) -> None:
    out = console()

    def line(text: str, style: str | None = None) -> None:
        out.print(text, style=style, soft_wrap=True)

    widest = max(map(len, registry.by_name))
    for flow, members in _by_flow(registry):
        line(f"flow {one_line(flow)}" if flow else "in no flow", "bold")
        for step in members:
            line(f"  {one_line(step.name):{widest}}  {one_line(step.description)}".rstrip())
            for what, words in _details(step, now_ms, times):
                line(f"    {what:9} {one_line(words)}", "dim")
        line("")
    tools = [(tool.name, tool.description.partition("\n")[0]) for tool in bot.tools]
    # What they bring is known only when they run.
    tools += [(f"mcp.{name}", "Those of this MCP server.") for name in bot.settings().mcp]
    if tools:
        line("tools", "bold")
        widest = max(len(name) for name, _ in tools)
        for name, words in tools:
            line(f"  {name:{widest}}  {one_line(words)}".rstrip())


def _by_flow(registry: Registry) -> Iterator[tuple[str | None, list[Step]]]:
    """Yield each flow with its steps, and those that are in none: those of the bot first, then what comes with it."""
    groups: dict[str | None, list[Step]] = {}
    for step in registry.steps:
        for flow in step.flows or (None,):
            groups.setdefault(flow, []).append(step)

    def is_built_in(flow: str | None) -> bool:
        return all(step.name in registry.built_in for step in groups[flow])

    for flow in sorted(groups, key=is_built_in):
        yield flow, groups[flow]


def _details(step: Step, now_ms: int, times: int) -> Iterator[tuple[str, str]]:
    for trigger in step.http:
        yield "http", f"{trigger.method} {trigger.path}"
    if step.topics:
        yield "queue", ", ".join(step.topics)
    for cron in step.crons:
        following = ", ".join(f"{at:%Y-%m-%d %H:%M:%S %Z}" for at in cron.times().next(now_ms, times))
        yield "cron", f"{cron.expression} ({cron.timezone}); next {following}"
    if step.enqueues:
        yield "enqueues", ", ".join(step.enqueues)
