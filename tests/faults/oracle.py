"""What should have been shown, and what was: compared byte by byte, and counted.

Only legato.providers.scripted is shared with the server: its token(seed, i) says what must come. Run logs are read
straight from the database file, with the keys of FAULTS_ENCRYPTION_KEYS where it is encrypted.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from legato.providers.scripted import reply
from legato.storage.root_keys import parse_root_keys
from legato.storage.sealed_logs import open_log
from legato.storage.sealing import Sealing
from legato.storage.sqlite import SqliteDatabase
from tests.faults.client import Connection, call, request_bytes
from tests.faults.reader import TERMINAL, Reader
from tests.faults.server import Server

CHECKS = ("lost", "duplicated", "reordered", "changed", "terminals", "transcript", "calls", "charges")
"""What is counted; each must be 0."""


@dataclass(slots=True)
class Expected:
    """What a run's reader must have in the end.

    Attributes:
        text: The whole text; None where only a prefix of `of` is known to come.
        last: Name of the terminal event.
        code: Of an `error` event.
    """

    text: str | None
    of: str = ""
    last: bytes = b"complete"
    code: str | None = None
    finish_reason: str | None = "stop"


def whole(seed: int, tokens: int) -> Expected:
    """Return what a reader of an uncut script must have."""
    return Expected(text=reply(seed, tokens))


@dataclass(slots=True)
class Tally:
    """Counts over many trials.

    Attributes:
        samples: Durations by what they are, in seconds.
    """

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    samples: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def violate(self, kind: str, note: str, times: int = 1) -> None:
        """Count something that must not be."""
        self.violations[kind] += times
        self.notes.append(f"{kind}: {note}")

    def merge(self, other: Tally) -> None:
        self.counts.update(other.counts)
        self.violations.update(other.violations)
        self.notes += other.notes
        self.restart_s += other.restart_s
        self.figures |= other.figures
        for name, durations in other.samples.items():
            self.samples[name] += durations


def check_reader(tally: Tally, name: str, reader: Reader, expected: Expected) -> None:
    """Compare what one reader was shown with what should have come."""
    for kind, times in reader.faults.items():
        tally.violate(kind if kind in CHECKS else "changed", f"{name}: {'; '.join(reader.notes[:3])}", times)
    indexes = [frame.data["index"] for frame in reader.frames if frame.name == b"chunk"]
    if indexes != list(range(1, len(indexes) + 1)):
        tally.violate("lost", f"{name}: chunk indexes {indexes[:60]}")
    terminals = [frame for frame in reader.frames if frame.name in TERMINAL]
    if len(terminals) != 1 or terminals[0] is not reader.frames[-1]:
        tally.violate("terminals", f"{name}: {[t.raw for t in terminals]} among {len(reader.frames)} events")
    elif terminals[0].name != expected.last or terminals[0].data.get("code") != expected.code:
        tally.violate("terminals", f"{name}: ended with {terminals[0].raw!r}, not {expected.last!r} {expected.code}")
    elif expected.last == b"complete" and terminals[0].data["finishReason"] != expected.finish_reason:
        tally.violate("terminals", f"{name}: {terminals[0].data['finishReason']}, not {expected.finish_reason}")
    if terminals and terminals[0].data["responseLength"] != len(reader.text.encode("utf-16-le")) // 2:
        tally.violate("transcript", f"{name}: responseLength {terminals[0].data['responseLength']}")
    if terminals and terminals[0].data["responseTimeMs"] < 0:
        tally.violate("changed", f"{name}: responseTimeMs {terminals[0].data['responseTimeMs']}")
    if expected.text is not None and reader.text != expected.text:
        _tell_difference(tally, name, reader.text, expected.text)
    elif expected.text is None and not expected.of.startswith(reader.text):
        _tell_difference(tally, name, reader.text, expected.of)


def _tell_difference(tally: Tally, name: str, shown: str, right: str) -> None:
    at = next((i for i, (a, b) in enumerate(zip(shown, right, strict=False)) if a != b), min(len(shown), len(right)))
    kind = "lost" if at == len(shown) or shown[at : at + 8] in right[at:] else "changed"
    if shown[at : at + 8] and shown[at : at + 8] in right[:at]:
        kind = "duplicated"
    tally.violate(kind, f"{name}: at {at} of {len(right)}: {shown[at : at + 60]!r}, not {right[at : at + 60]!r}")


def check_run(tally: Tally, name: str, port: int, reader: Reader, expected: Expected, conversation_id: str) -> None:
    """Check a run that has ended: the reader's view, a replay from the start, cursors, and the transcript."""
    check_reader(tally, name, reader, expected)
    if reader.run_id is None:
        tally.violate("lost", f"{name}: no run")
        return
    terminal = reader.terminal
    if terminal is None:
        return
    shown = b"".join(frame.raw + b"\n\n" for frame in reader.frames)
    replayed = replay(port, reader.run_id)
    if replayed != shown:
        tally.violate("changed", f"{name}: a replay gives {replayed[-300:]!r}, shown was {shown[-300:]!r}")
    if len(reader.frames) > 1:
        middle = reader.frames[len(reader.frames) // 2]
        rest = b"".join(frame.raw + b"\n\n" for frame in reader.frames[len(reader.frames) // 2 + 1 :])
        cursor = f"{reader.run_id}.{middle.epoch}.{middle.seq}"
        if rest and (seen := replay(port, reader.run_id, cursor)) != rest:
            tally.violate("changed", f"{name}: from {cursor} a replay gives {seen[:200]!r}, shown was {rest[:200]!r}")
    messages = call(port, "GET", f"/conversations/{quote(conversation_id)}/messages").json()["messages"]
    mine = [each for each in messages if each["id"] == terminal.data["messageId"]]
    if [each["content"] for each in mine] != [reader.text]:
        tally.violate("transcript", f"{name}: {[each['content'][-60:] for each in mine]}, not {reader.text[-60:]!r}")
    tally.counts["runs"] += 1
    tally.counts["chunks"] += sum(1 for frame in reader.frames if frame.name == b"chunk")


def replay(port: int, run_id: str, cursor: str | None = None) -> bytes:
    """Return the events that a fresh reader is shown, comments left out."""
    headers = {"Last-Event-ID": cursor} if cursor else {}
    connection = Connection(port)
    connection.send(request_bytes("GET", f"/chat/stream/{run_id}", None, headers))
    try:
        body = bytes(connection.whole().body)
    finally:
        connection.cut("fin")
    return b"".join(block + b"\n\n" for block in body.split(b"\n\n") if block and not block.startswith(b":"))


def check_calls(tally: Tally, name: str, server: Server, allowed: Mapping[str, int]) -> None:
    """Compare the calls in the logs of ended runs with those in the journal: each made once, none unaccounted for.

    Args:
        allowed: Per run, how many calls may be logged and not made.
    """
    made = _journalled(server.journal)
    logged = logged_calls(server.database)
    check_charges(tally, name, server.database, allowed)
    for run_id, unmade in allowed.items():
        reasons = logged.get(run_id, [])
        adoptions = sum(reason == "takeover" for reason in reasons)
        retries = sum(reason in ("retry", "failover") for reason in reasons)
        missing = len(reasons) - made[run_id]
        if reasons.count("first") != 1 or len(reasons) != 1 + adoptions + retries + reasons.count("tools"):
            tally.violate("calls", f"{name} {run_id}: the log names {reasons}")
        elif not 0 <= missing <= unmade:
            tally.violate("calls", f"{name} {run_id}: {made[run_id]} calls made, {len(reasons)} logged: {reasons}")
        tally.counts["calls"] += made[run_id]
        tally.counts["adoptions"] += adoptions
        tally.counts["retries"] += retries
        tally.counts["calls logged, not made"] += max(0, missing)


def check_charges(tally: Tally, name: str, database: Path, runs: Iterable[str]) -> None:
    """Compare what the logs of ended runs say of each call with what was charged: every call once, none twice."""
    sql = "SELECT run_id, model, reason, input_tokens, output_tokens, counted FROM charge ORDER BY key"
    charged: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for run_id, *row in _rows(database, sql):
        charged[run_id].append(tuple(row))
    logs = _logs(database)
    for run_id in runs:
        compare_charges(tally, f"{name} {run_id}", logs.get(run_id, []), charged[run_id])


def compare_charges(
    tally: Tally, where: str, events: Iterable[tuple[str, dict[str, Any]]], charged: list[tuple[Any, ...]]
) -> None:
    """Compare what the log of one ended run says of its calls with what was charged.

    Args:
        charged: Model, reason, input and output tokens, and whether they were counted, of each, in their order.
    """
    told: list[tuple[Any, ...]] = []
    call: dict[str, Any] | None = None
    for kind, fields in events:
        if kind == "call-started":
            if call is not None:
                tally.violate("charges", f"{where}: a call has no usage")
            call = fields
        elif kind == "usage":
            if call is None:
                tally.violate("charges", f"{where}: a usage of no call")
                continue
            tokens = (fields["input_tokens"], fields["output_tokens"])
            if tokens != (0, 0):
                told.append((call["model"], call["reason"], *tokens, int(fields["counted"])))
            call = None
    if call is not None or charged != told:
        tally.violate("charges", f"{where}: {charged} were charged, the log tells {told}")
    tally.counts["charges"] += len(told)


def logged_calls(database: Path) -> dict[str, list[str]]:
    """Return the reasons of the calls in each ended run's log, oldest first."""
    return {
        run_id: [fields["reason"] for kind, fields in events if kind == "call-started"]
        for run_id, events in _logs(database).items()
    }


def _logs(database: Path) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return the events in each ended run's log, oldest first."""
    rows = _rows(database, "SELECT run.id, data FROM run_log JOIN run ON run.key = run_log.run_key")
    if keys := os.environ.get("FAULTS_ENCRYPTION_KEYS"):
        rows = _opened_logs(database, keys)
    return {run_id: msgspec.msgpack.decode(data)[3] for run_id, data in rows}


def _opened_logs(database: Path, keys: str) -> list[tuple[str, bytes]]:
    """Return id and packed log of each ended run of an encrypted database."""
    roots = parse_root_keys(keys)
    assert roots is not None
    opened = SqliteDatabase(database)
    opened.sealing = Sealing(roots)
    query = "SELECT run.id, run.key, conversation_key, count, format, data FROM run_log JOIN run ON run.key = run_key"
    rows = _rows(database, query)
    return opened.transact(lambda tx: [(id, open_log(tx, *rest)[1]) for id, *rest in rows], writes=False)


def _rows(database: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def _journalled(journal: Path) -> Counter[str]:
    """Return how many calls the model has had for each run."""
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return Counter(json.loads(line)["run"] for line in lines)


def follow_to_end(port: int, reader: Reader, *, within_s: float = 30.0) -> None:
    """Reconnect by the cursor until the run has ended or time is up."""
    until = time.monotonic() + within_s
    while reader.terminal is None and not reader.faults and time.monotonic() < until:
        try:
            response = reader.follow(port, until=until)
        except OSError:
            response = None
        if response is not None and response.status == 204:
            return
        if reader.terminal is None:
            time.sleep(0.02)
