"""What policies add to a reply: from a sentence's last delta to its text in the run's log, before it is written.

    python -m bench.moderation            # tables of p50, p95 and the longest, in milliseconds
    python -m bench.moderation --limit 2  # fails where a p50 is above that

Everything but the model is Legato as it serves: a node in this process, its windows, policies and committer. The model
says sentences in words, and the next one when the last one was shown.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from legato.app import open_node
from legato.core.principal import LOCAL
from legato.providers.base import CallEnd, CallRequest, DeltaSink
from legato.runs.replies import Runs
from legato.settings import Settings

SENTENCES = 400
WORDS = ("a", "reply", "that", "has", "begun", "reaches", "its", "reader", "whole", "whatever", "breaks", "on", "the")
PRIVATE: dict[str, Any] = {"type": "private_data"}
FEW: dict[str, Any] = {"type": "rules", "action": "redact", "terms": ["forbidden word", "plan b"]}
FEW |= {"patterns": [r"project-\d{4}", r"(?i)internal use\W+only"]}
MANY: dict[str, Any] = FEW | {
    "terms": [f"term{n} of many" for n in range(2000)],
    "patterns": [rf"code-{n}-[a-z]+\d" for n in range(20)],
}
SETS: dict[str, list[dict[str, Any]]] = {
    "no policy of replies": [],
    "private data": [PRIVATE],
    "rules (2 terms, 2 patterns) and private data": [FEW, PRIVATE],
    "rules (2,000 terms, 20 patterns) and private data": [MANY, PRIVATE],
}


def sentence(dice: random.Random) -> str:
    """Return a sentence of 8 to 30 words; one of ten has something to be redacted."""
    words = dice.choices(WORDS, k=dice.randint(8, 30))
    if dice.random() < 0.1:
        words[len(words) // 2] = dice.choice(("jane@example.org", "4111 1111 1111 1111", "project-2041"))
    return " ".join(words).capitalize() + ". "


class Talker:
    """A model that says sentences, and notes how long each took to be shown."""

    def __init__(self, sentences: list[str]) -> None:
        self.sentences = sentences
        self.took_ms: list[float] = []
        self.shown = asyncio.Event()

    async def call(self, request: CallRequest, sink: DeltaSink) -> CallEnd:
        sink.opened(None)
        for text in self.sentences:
            words = text.split(" ")
            for word in words[:-2]:
                sink.text(word + " ")
                await asyncio.sleep(0)
            self.shown.clear()
            began_s = time.perf_counter()
            sink.text(words[-2] + " ")
            await self.shown.wait()
            self.took_ms.append(1000 * (time.perf_counter() - began_s))
        return CallEnd(reason="stop")


async def measure(policies: list[dict[str, Any]], folder: Path) -> list[float]:
    """Return how long each sentence took, in milliseconds."""
    dice = random.Random(7)
    talker = Talker([sentence(dice) for _ in range(SENTENCES)])
    settings = Settings(
        data_dir=folder,
        model=["scripted"],
        models={"scripted": {"provider": "scripted"}},
        durability="process",
        titles="words",
        moderation={"policies": policies},
    )
    async with open_node(settings) as node:
        provider: Any = node.models.find("scripted")
        provider.call = talker.call
        append = node.committer.append

        def noted(run: Any, item: Any) -> None:
            append(run, item)
            if isinstance(item, str) and item.endswith(". "):
                talker.shown.set()

        node.committer.append = noted  # type: ignore[method-assign]
        await Runs(node, LOCAL).reply("talk")
    return talker.took_ms


async def run(limit_ms: float | None) -> bool:
    """Print a line for each set of policies; return whether all p50s are within the limit."""
    within = True
    print(f"{'ms a sentence':52} {'p50':>7} {'p95':>7} {'max':>7}")
    for name, policies in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            took = sorted(await measure(policies, Path(folder)))
        p50, p95 = statistics.median(took), took[int(0.95 * len(took))]
        print(f"{name:52} {p50:7.3f} {p95:7.3f} {took[-1]:7.3f}", flush=True)
        within = within and (limit_ms is None or p50 <= limit_ms)
    return within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=float, help="Milliseconds that no p50 may be above.")
    if not asyncio.run(run(parser.parse_args().limit)):
        sys.exit("a p50 is above the limit")


if __name__ == "__main__":
    main()
