"""kill -9 under the embedded model at temperature 0: what goes on never repeats what was shown."""

from __future__ import annotations

import os
import signal
import statistics
from pathlib import Path

from legato.providers.weights import weights_present
from legato.settings import load_settings
from tests.faults.kills import unfinished
from tests.faults.oracle import Expected, Tally, check_run
from tests.faults.reader import TERMINAL
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher

REPEAT_CHARS = 20
MOST_WAIT_S = 90.0
QUESTIONS = (
    "Tell me about the sea and the ships that cross it.",
    "Explain how bread is baked, step by step.",
    "Describe a walk through an old town in autumn.",
    "What is a river, and where does its water come from?",
)


def trials(context: Context) -> list[str]:
    """Return `reply-<n>`, none in a quick run: the model needs its weights and a while to load."""
    return [] if context.quick else [f"reply-{n}" for n in range(20)]


def kill_embedded(context: Context, names: list[str]) -> None:
    """Kill the server in mid-reply; skipped where the weights were not fetched."""
    if not names:
        return
    models_dir = load_settings().models_dir
    if not weights_present(models_dir):
        print(f"skipped: the embedded model's weights are not in {models_dir.name}; `legato models fetch` brings them")
        context.step(len(names))
        return
    settings = {"LEGATO_MODEL": "embedded", "LEGATO_MODELS_DIR": str(models_dir)}
    server = Server(context.new_folder(), settings).start()
    waits: list[float] = []
    try:
        for name in names:
            context.attempt(name, _kill, context, server, name, waits)
        if waits:
            figure = f"p50 {statistics.median(waits):.1f}, max {max(waits):.1f} s of {len(waits)}"
            context.add(Tally(figures={"the same with the embedded model, which is loaded first": figure}), 0)
    finally:
        server.kill()


def _kill(context: Context, server: Server, name: str, waits: list[float]) -> Tally:
    tally = Tally()
    draw = context.draw(f"embedded/{name}")
    question = QUESTIONS[draw.randrange(len(QUESTIONS))]
    body = {"temperature": 0.0, "maxTokens": 120}
    watcher = Watcher(server, question, f"c-{name}", f"k-{name}", within_s=MOST_WAIT_S, body=body)
    watcher.start()
    watcher.saw(draw.randrange(20, 80), within_s=MOST_WAIT_S)
    left = unfinished([watcher])
    seam = len(watcher.reader.text)
    children = _children(server.pid)
    server.kill()
    tally.counts["kills of the embedded model"] += 1
    server.start()
    watcher.finish()
    # Loading the model comes before its first word: a figure of its own, beside the two seconds of the server.
    later = [at for at in watcher.reader.arrivals if at > server.listening_at]
    if left and later:
        waits.append(later[0] - server.listening_at)
    for child in children:
        if _is_alive(child):
            tally.violate("exit", f"embedded:{name}: the model's process {child} outlived its server")
            os.kill(child, signal.SIGKILL)
    text = watcher.reader.text
    end = watcher.reader.terminal
    reason = end.data.get("finishReason", "stop") if end is not None else "stop"
    right = Expected(text=None, of=text, finish_reason=reason)
    if end is not None and end.name == TERMINAL[1]:
        right = Expected(text=None, of=text, last=TERMINAL[1], code="interrupted")
        tally.counts["explicit errors"] += 1
    check_run(tally, f"embedded:{name}", server.port, watcher.reader, right, watcher.conversation_id)
    if left and (repeat := repeated(text, seam)):
        tally.violate("duplicated", f"embedded:{name}: {repeat!r} is said twice at the seam")
    return tally


def repeated(text: str, seam: int) -> str:
    """Return what stands right behind the seam and right before it as well, REPEAT_CHARS or more; else nothing."""
    for size in range(min(seam, len(text) - seam), REPEAT_CHARS - 1, -1):
        if text[seam - size : seam] == text[seam : seam + size]:
            return text[seam : seam + size]
    return ""


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
