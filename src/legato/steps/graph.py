"""Steps as a picture: what sets them off, and the topics between them; as nodes and edges, and as Mermaid.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from legato.steps.registry import Registry
from legato.steps.step import Step

NodeKind = Literal["step", "topic", "http", "cron"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """A step, a topic, or a trigger that has no step before it.

    Attributes:
        id: Unique in its graph, and the same as long as the steps are.
        flow: Of a step: the first flow that it is in; None of one that is in none, and of all others.
        built_in: Whether it is a step that comes with Legato.
    """

    id: str
    kind: NodeKind
    label: str
    flow: str | None = None
    built_in: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes, and edges from one node's id to another's; steps in the order of their flows."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[tuple[str, str], ...]


def graph_of(registry: Registry) -> Graph:
    """Return all steps, their triggers and topics."""
    flows: list[str | None] = [*dict.fromkeys(flow for step in registry.steps for flow in step.flows), None]
    ids = {step.name: f"s{number}" for number, step in enumerate(registry.steps)}
    topics = {topic: f"t{number}" for number, topic in enumerate(registry.topics)}
    steps: dict[str, GraphNode] = {}
    for flow in flows:
        for step in registry.steps:
            if step.name not in steps and (flow in step.flows if flow is not None else not step.flows):
                built_in = step.name in registry.built_in
                steps[step.name] = GraphNode(
                    id=ids[step.name], kind="step", label=step.name, flow=flow, built_in=built_in
                )
    nodes = [*steps.values(), *(GraphNode(id=topics[topic], kind="topic", label=topic) for topic in registry.topics)]
    edges: list[tuple[str, str]] = []
    for step in registry.steps:
        place = ids[step.name]
        for number, trigger in enumerate(step.http):
            nodes.append(GraphNode(id=f"{place}h{number}", kind="http", label=f"{trigger.method} {trigger.path}"))
            edges.append((f"{place}h{number}", place))
        for number, cron in enumerate(step.crons):
            zone = "" if cron.timezone == "UTC" else f" {cron.timezone}"
            # A word first: some renderers take a label that begins with a number or a star for a list.
            nodes.append(GraphNode(id=f"{place}c{number}", kind="cron", label=f"cron {cron.expression}{zone}"))
            edges.append((f"{place}c{number}", place))
        edges += [(place, topics[topic]) for topic in step.enqueues]
        edges += [(topics[topic], place) for topic in step.topics if topic in topics]
    return Graph(nodes=tuple(nodes), edges=tuple(edges))


def mermaid(registry: Registry) -> str:
    """Return the flows as a Mermaid flowchart: triggers, steps, and the topics between them."""
    graph = graph_of(registry)
    lines = ["flowchart LR"]
    flow = None
    for node in graph.nodes:
        if flow is not None and node.flow != flow:
            lines.append("  end")
        if node.flow is not None and node.flow != flow:
            lines.append(f"  subgraph {_quoted(node.flow)}")
        flow = node.flow
        if node.kind == "step":
            lines.append(f"{'    ' if flow is not None else '  '}{node.id}[{_quoted(node.label)}]")
        elif node.kind == "topic":
            lines.append(f"  {node.id}([{_quoted(node.label)}])")
    triggers = {node.id: node for node in graph.nodes if node.kind in ("http", "cron")}
    for start, end in graph.edges:
        node_ = triggers.get(start)
        if node_ is None:
            lines.append(f"  {start} --> {end}")
        elif node_.kind == "http":
            lines.append(f"  {start}{{{{{_quoted(node_.label)}}}}} --> {end}")
        else:
            lines.append(f"  {start}[/{_quoted(node_.label)}/] --> {end}")
    return "\n".join(lines) + "\n"


def as_json(step: Step, registry: Registry, now_ms: int, times: int) -> dict[str, Any]:
    """Return a step with what sets it off, and the next `times` times of what has times, as JSON."""
    return {
        "name": step.name,
        "description": step.description,
        "flows": step.flows,
        "builtIn": step.name in registry.built_in,
        "http": [f"{trigger.method} {trigger.path}" for trigger in step.http],
        "topics": step.topics,
        "cron": [
            {
                "expression": trigger.expression,
                "timezone": trigger.timezone,
                "missed": trigger.missed,
                "next": [at.isoformat() for at in trigger.times().next(now_ms, times)],
            }
            for trigger in step.crons
        ],
        "enqueues": step.enqueues,
    }


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'
