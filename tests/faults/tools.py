"""kill -9 at every seam of a round of tools: a call that has finished, or may have, is never run again.

Each tool writes to a file when it begins and when it ends. What the log says of a call is compared with what was done.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.client import call
from tests.faults.crashing_server import APPROVAL_SEAMS, TOOL_SEAMS
from tests.faults.kills import CRASHING, close_books
from tests.faults.oracle import Tally, whole
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher, wait_until

TOKENS = 8
CALLS = 5
"""Tool calls of one reply, in two rounds."""
ROUNDS = 2
INSIDE = ("append", "commit-before", "commit-after", "publish-after", "write-after")
UNKNOWN = "outcome unknown"
LONGEST_S = 20.0
"""In which a person has an answer, who says it again where that was lost, to a reply that has ended too."""


def trials(context: Context) -> list[str]:
    """Return `<seam>-<k>`; `twice-<seam>-<k>`, killed again at the same seam of the server that takes it up; and
    `ask-<seam>-<k>` for a call that a person is asked about."""
    passes = dict.fromkeys(TOOL_SEAMS, CALLS) | {"called-before": ROUNDS, "called-after": ROUNDS}
    once = [f"{seam}-{k}" for seam, most in passes.items() for k in range(1, most + 1)]
    twice = [f"twice-{seam}-1" for seam in TOOL_SEAMS]
    ask = [f"ask-{seam}-1" for seam in (*APPROVAL_SEAMS, *TOOL_SEAMS)]
    inside = [f"{seam}-{k}" for seam in INSIDE for k in range(1 + context.seed % 3, 20, 3)]
    if context.quick:
        return [name for name in once + twice + ask if name.endswith("-1")]
    return once + twice + ask + inside


def kill_in_rounds(context: Context, names: list[str]) -> None:
    """Have the server kill itself at a seam while it makes a reply with tools; each trial starts it once."""

    def work(share: list[str]) -> None:
        folder = context.new_folder()
        prefill = context.draw(share[0]).random() < 0.5
        server = Server(folder, {"TOOL_JOURNAL": str(folder / "tools")}, module=CRASHING, prefill=prefill)
        allowed: dict[str, int] = {}
        try:
            for name in share:
                context.attempt(name, _kill_in_round, context, server, name, allowed)
            server.start()
            close_books(context, "kill-tools", server, allowed)
        finally:
            server.kill()

    context.spread(names, work)


def _kill_in_round(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    way, _, rest = name.partition("-")
    asks = way == "ask"
    seam, _, at = (rest if way in ("ask", "twice") else name).rpartition("-")
    seed = context.draw(f"kill-tools/{name}").randrange(1, 1000)
    fault = {"FAULT_SEAM": seam, "FAULT_AT": at}
    server.start(fault)
    watcher = Watcher(server, _message(name, seed, asks=asks), f"c-{name}", f"k-{name}")
    watcher.start()
    person = _Person(server, watcher) if asks else None
    if person is not None:
        person.start()
    kills = 0
    if wait_until(lambda: not server.running or watcher.reader.terminal is not None, 20.0) and not server.running:
        kills += 1
        if way == "twice":
            server.launch(fault)
            if not wait_until(lambda: not server.running, 8.0):
                tally.counts["seams not reached"] += 1
                server.kill()
            kills += 1
    else:
        server.kill()
        tally.counts["seams not reached"] += 1
    tally.counts["kills"] += kills
    server.start()
    watcher.finish()
    if person is not None:
        person.finish(tally, name)
    if watcher.reader.terminal is None:
        tally.notes.append(f"{name}: {server.log_end()[-800:]}")
    watcher.check(tally, f"kill-tools:{name}", whole(seed, TOKENS))
    if watcher.reader.run_id is not None:
        allowed[watcher.reader.run_id] = kills
        _check_tools(tally, name, server, watcher.reader.run_id, kills, asks=asks)
    # Not by SIGTERM: every trial ends as it may end.
    server.kill()
    return tally


def _message(name: str, seed: int, *, asks: bool) -> str:
    words = f"seed={seed} tokens={TOKENS} delay_ms=2 upto=3@1"
    if asks:
        return f'script: {words} tool=ask:{{"key":"{name}-1"}}@1 tool=charge:{{"key":"{name}-2"}}@1'
    tools = ("charge@1", "look_up@1", "charge@2", "look_up@2", "charge@2")
    calls = (
        f'tool={tool}:{{"key":"{name}-{n}"}}@{answer}'
        for n, (tool, answer) in enumerate((each.split("@") for each in tools), 1)
    )
    return f"script: {words} {' '.join(calls)}"


@dataclass
class _LoggedCall:
    """What a log says of a call; an epoch is that under which it was written."""

    name: str
    key: str
    called: int
    started: list[int]
    started_epochs: list[int]
    results: list[dict[str, Any]]
    resulted: list[int]
    result_epochs: list[int]
    decisions: int = 0


def _calls_in_log(database: Path, run_id: str) -> tuple[list[_LoggedCall], list[str]]:
    """Return the calls of an ended run's log in order, and the outputs in the order of the calls."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        query = "SELECT data FROM run_log JOIN run ON run.key = run_log.run_key WHERE run.id = ?"
        (data,) = connection.execute(query, (run_id,)).fetchone()
    finally:
        connection.close()
    _, _, seqs, events, starts, epochs = msgspec.msgpack.decode(data)
    at, first, numbers = (struct.unpack(f"<{len(raw) // 4}I", raw) for raw in (seqs, starts, epochs))
    found: dict[str, _LoggedCall] = {}
    for seq, (kind, fields) in zip(at, events, strict=True):
        epoch = numbers[bisect_right(first, seq) - 1]
        match kind:
            case "tool-call":
                assert fields["call_id"] not in found, "two calls with one id"
                key = json.loads(fields["arguments"])["key"]
                found[fields["call_id"]] = _LoggedCall(fields["name"], key, seq, [], [], [], [], [])
            case "tool-started":
                found[fields["call_id"]].started.append(seq)
                found[fields["call_id"]].started_epochs.append(epoch)
            case "tool-result":
                found[fields["call_id"]].results.append(fields)
                found[fields["call_id"]].resulted.append(seq)
                found[fields["call_id"]].result_epochs.append(epoch)
            case "approval-given":
                found[fields["call_id"]].decisions += 1
    calls = list(found.values())
    return calls, [each.results[0]["output"] for each in calls if each.results]


def _check_tools(tally: Tally, name: str, server: Server, run_id: str, kills: int, *, asks: bool) -> None:
    """Compare what a run's log says of its tools with what the tools did, and with what the model was told."""
    calls, outputs = _calls_in_log(server.database, run_id)
    expected = 2 if asks else CALLS
    if len(calls) != expected:
        tally.violate("lost", f"{name}: {len(calls)} tool calls in the log, not {expected}")
    begun, ended = _runs(server.folder / "tools")
    for each in calls:
        words = f"{name} {each.name} {each.key}"
        if len(each.results) != 1 or len(each.started) > 1:
            tally.violate("duplicated", f"{words}: {len(each.started)} starts and {len(each.results)} results")
            continue
        if each.started and not each.called < each.started[0] < each.resulted[0]:
            tally.violate("reordered", f"{words}: call, start and result at {each}")
        output, error = each.results[0]["output"], each.results[0]["is_error"]
        runs = begun[each.key]
        tally.counts["tool runs"] += runs
        if each.name == "look_up":
            tally.counts["idempotent calls run again"] += runs > 1
            if error or not 1 <= runs <= 1 + kills or not ended[each.key]:
                tally.violate("lost", f"{words}: {runs} runs, {output!r}")
        elif runs > 1:
            tally.violate("duplicated", f"{words}: run {runs} times")
        elif error:
            tally.counts["outcomes unknown"] += 1
            # Only whoever takes over may not know, and only of a call that had started.
            if UNKNOWN not in output or not each.started or each.result_epochs[0] <= each.started_epochs[0]:
                tally.violate("changed", f"{words}: {output!r}, started under {each.started_epochs}")
        elif runs != 1 or not ended[each.key] or not each.started:
            tally.violate("lost", f"{words}: {output!r} after {runs} runs")
        if each.decisions != (each.name == "ask"):
            tally.violate("duplicated", f"{words}: {each.decisions} decisions")
    told = _told(server.journal, run_id)
    if told != [output[:200] for output in outputs]:
        tally.violate("transcript", f"{name}: the model was told {told}, the log says {outputs}")
    tally.counts["tool calls"] += len(calls)


def _runs(journal: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how often each key was begun with, and ended with."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    words = [line.split() for line in lines]
    begun = Counter(key for what, _, key in words if what == "begin")
    return begun, Counter(key for what, _, key in words if what == "end")


def _told(journal: Path, run_id: str) -> list[str]:
    """Return the results that the model was shown in its last call for a run."""
    calls = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]
    found: list[str] = [call for call in calls if call["run"] == run_id][-1]["results"]
    return found


class _Person(threading.Thread):
    """Agrees to what they are asked about, and again where they got no answer."""

    def __init__(self, server: Server, watcher: Watcher) -> None:
        super().__init__(name=f"person-{watcher.key}", daemon=True)
        self._server = server
        self._watcher = watcher
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        reader = self._watcher.reader
        until = time.monotonic() + LONGEST_S
        while not (self.statuses[200] or self.statuses[409]) and time.monotonic() < until:
            # Before the look for what was asked: an end stands behind that.
            over = reader.terminal is not None
            asked = [frame.data for frame in list(reader.frames) if frame.name == b"approval"]
            if not asked:
                if over:
                    return
                wait_until(lambda: False, 0.005)
                continue
            path = f"/chat/stream/{reader.run_id}/approvals/{asked[0]['callId']}"
            try:
                self.statuses[call(self._server.port, "POST", path, {"granted": True}).status] += 1
            except OSError:
                self.statuses[0] += 1
                wait_until(lambda: False, 0.02)

    def finish(self, tally: Tally, name: str) -> None:
        """Check that the decision was taken once; a yes whose answer was lost is known when it is said again."""
        self.join(LONGEST_S)
        odd = set(self.statuses) - {0, 200, 409, 503}
        if odd or self.statuses[200] + self.statuses[409] != 1:
            tally.violate("calls", f"{name}: decisions were answered {dict(self.statuses)}")
        tally.counts["decisions"] += 1
