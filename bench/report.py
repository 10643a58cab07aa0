"""The figures as a table on the terminal, as JSON and as a section of docs/benchmarks.md."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.figure import TITLES, Figure

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
COLUMNS: Mapping[str, str] = {
    "streams": "streams",
    "rate": "chunks/s",
    "cpu_ms": "CPU ms/1,000",
    "cpu_x_nginx": "× nginx",
    "cpu_x_relay": "× relay",
    "cpu_x_tutorial": "× tutorial",
    "cpu_x_litellm": "× LiteLLM",
    "cpu_x_open-webui": "× Open WebUI",
    "added_p50_ms": "added p50 ms",
    "added_p99_ms": "p99",
    "added_max_ms": "max",
    "cross_p50_ms": "there p50 ms",
    "cross_p99_ms": "there p99",
    "db_cpu_ms": "database CPU ms/1,000",
    "redis_cpu_ms": "Redis CPU ms/1,000",
    "rows_written": "rows/1,000",
    "wal_kb": "WAL kB/1,000",
    "followed": "read there",
    "follower_cpu_ms": "its CPU ms/1,000",
    "first_p50_ms": "first p50 ms",
    "first_p99_ms": "first p99",
    "others_percent": "others %",
    "idle_percent": "% of a core",
    "done_p50_ms": "done p50 ms",
    "done_p99_ms": "done p99",
    "job_cpu_ms": "CPU ms/job",
    "lag_p99_ms": "loop late p99 ms",
    "lag_max_ms": "late max",
    "updates_per_s": "updates/s",
    "update_p50_ms": "update p50 ms",
    "update_p99_ms": "update p99",
    "update_cpu_ms": "CPU ms/1,000 updates",
}
"""The figures of a scenario's table with their headings, in this order."""
LEGEND = (
    "CPU: user + system of the server's whole process tree per 1,000 chunks delivered. added: from "
    "the upstream's write to the client's read of the same chunk. first: from POST to first chunk, "
    "less the upstream's own time. others: what other programs took of the server's core, which "
    "spoils latencies. (none): mock and client with no server between. done: from the call of ctx.enqueue, "
    "through outbox, relay and queue, to the end of the handler. loop late: how much later than asked for a "
    "sleeping task was woken in that server. there: from the upstream's write to the read of a client at the "
    "other node. rows, WAL: what PostgreSQL wrote per 1,000 tokens."
)


def number(value: float) -> str:
    """Return a figure with as many digits as it deserves."""
    size = abs(value)
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 20 else f"{value:.2f}" if size >= 0.2 else f"{value:.3f}"


def rounds_text(figure: Figure) -> str:
    """Return `smallest-largest` over the rounds, or nothing after one round."""
    if len(figure.rounds) < 2:
        return ""
    return f"{number(min(figure.rounds))} to {number(max(figure.rounds))}"


def print_tables(console: Console, titles: Mapping[str, str], figures: Sequence[Figure]) -> None:
    """Print each scenario that has a title as a grid, and every judged or single figure as a line."""
    for scenario, title in titles.items():
        own = [figure for figure in figures if figure.scenario == scenario]
        if not own:
            continue
        table = Table(title=f"{scenario}: {title}", title_justify="left", box=box.SIMPLE)
        heading, *rows = _grid(own)
        for column in heading:
            table.add_column(column, justify="left" if column == "target" else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if not (lines := _lines(titles, figures)):
        return
    table = Table(title="bars, and figures of their own", title_justify="left", box=box.SIMPLE)
    for title in ("scenario", "target", "figure", "value", "rounds", "bar", ""):
        table.add_column(title, justify="right" if title in ("value", "bar") else "left")
    for figure in lines:
        colour = {"pass": "green", "FAIL": "bold red", "": ""}[figure.verdict]
        table.add_row(*_cells(figure), style=colour)
    console.print(table)


def write_json(path: Path, *, machine: Mapping[str, str], command: str, figures: Sequence[Figure]) -> None:
    """Write everything that was measured."""
    body = {
        "command": command,
        "machine": machine,
        "figures": [
            {
                "scenario": figure.scenario,
                "target": figure.target,
                "figure": figure.name,
                "title": TITLES[figure.name],
                "value": figure.value,
                "rounds": list(figure.rounds),
                "at_most": figure.bar.at_most if figure.bar else None,
                "verdict": figure.verdict or None,
            }
            for figure in figures
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")


def write_page(
    path: Path,
    *,
    machine: Mapping[str, str],
    command: str,
    titles: Mapping[str, str],
    figures: Sequence[Figure],
) -> None:
    """Put the tables between the markers of a page; what stands around them is kept."""
    text = path.read_text() if path.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    body = render_page(machine=machine, command=command, titles=titles, figures=figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}")


def render_page(
    *,
    machine: Mapping[str, str],
    command: str,
    titles: Mapping[str, str],
    figures: Sequence[Figure],
) -> str:
    """Return the section as Markdown."""
    parts = [f"`{command}`\n", *(f"- {label}: {text}" for label, text in machine.items()), ""]
    for scenario, title in titles.items():
        own = [figure for figure in figures if figure.scenario == scenario]
        if own:
            heading, *rows = _grid(own)
            parts += [f"### {scenario}: {title}\n", *_markdown(heading, rows), ""]
    parts += [f"{LEGEND}\n", "### Bars, and figures of their own\n"]
    rows = [_cells(figure) for figure in _lines(titles, figures)]
    heading = ["scenario", "target", "figure", "value", "rounds", "bar", "verdict"]
    parts += [*_markdown(heading, rows), ""]
    return "\n".join(parts)


def _grid(figures: Sequence[Figure]) -> list[list[str]]:
    """Return the heading and one row a target, with the columns that any of them has."""
    by_key = {(figure.target, figure.name): figure for figure in figures}
    columns = [name for name in COLUMNS if any(figure.name == name for figure in figures)]
    rows = [["target", *(COLUMNS[name] for name in columns)]]
    for target in dict.fromkeys(figure.target for figure in figures):
        found = [by_key.get((target, name)) for name in columns]
        rows.append([target, *(number(figure.value) if figure else "" for figure in found)])
    return rows


def _lines(titles: Mapping[str, str], figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures that no grid shows, and every judged one."""
    return [
        figure
        for figure in figures
        if figure.bar or figure.scenario not in titles or (figure.name == "calls_per_stream" and figure.value > 1.001)
    ]


def _cells(figure: Figure) -> list[str]:
    return [
        figure.scenario,
        figure.target,
        TITLES[figure.name],
        number(figure.value),
        rounds_text(figure),
        f"≤ {number(figure.bar.at_most)}" if figure.bar else "",
        figure.verdict,
    ]


def _markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
