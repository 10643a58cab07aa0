"""The scenarios with their numbers: the full run, and a quick one of everything in small."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.load import Load
from bench.memory import Memory
from bench.postgres import Postgres
from bench.products import PRODUCTS
from bench.queue import Queue
from bench.state import State
from bench.throughput import START_S, Throughput
from bench.turns import Turns

SCENARIOS = ("main", "short", "long", "tls", "first", "memory", "turns", "queue", "state", "postgres")
ON_DEMAND = ("products",)
"""Scenarios that are run only when they are named: they install what others make."""
TARGET_NAMES = ("legato", "nginx", "relay", "tutorial", *PRODUCTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, in this order."""

    throughput: Sequence[Throughput]
    memory: Memory | None
    turns: Turns | None
    queue: Queue | None
    state: State | None
    postgres: Postgres | None

    @property
    def titles(self) -> Mapping[str, str]:
        """Return what each scenario with a table of its own is."""
        titles = {plan.name: plan.title for plan in self.throughput}
        titles |= {"queue": "ctx.enqueue → outbox → queue → end of the handler"} if self.queue else {}
        if self.postgres:
            titles |= {
                "postgres": "as main, on PostgreSQL, which has the load's cores",
                "workers": "as main, on PostgreSQL and Redis, in several processes on one core",
                "nodes": "replies that are read at another node",
            }
        return titles | ({"state": "ctx.state.update on one key, nothing lost"} if self.state else {})

    @property
    def expected_s(self) -> float:
        """Seconds that everything should take."""
        total = sum(plan.expected_s for plan in self.throughput)
        if any(plan.name == "main" for plan in self.throughput):
            total += self.throughput[0].load.expected_s + START_S
        parts = (self.memory, self.turns, self.queue, self.state, self.postgres)
        return total + sum(part.expected_s for part in parts if part)

    def but(self, *, scenarios: Collection[str], targets: Collection[str]) -> "Plan":
        """Return the plan cut down to some scenarios and targets."""
        kept = [
            replace(plan, targets=[name for name in plan.targets if name in targets])
            for plan in self.throughput
            if plan.name in scenarios
        ]
        memory = self.memory if "memory" in scenarios else None
        if memory:
            names = tuple(name for name in memory.targets if name in targets)
            memory = replace(memory, targets=names) if names else None
        own = set(scenarios) if "legato" in targets else set()
        return Plan(
            throughput=[plan for plan in kept if plan.targets],
            memory=memory,
            turns=self.turns if "turns" in own else None,
            queue=self.queue if "queue" in own else None,
            state=self.state if "state" in own else None,
            postgres=self.postgres if "postgres" in own else None,
        )


RELAYS = ("legato", "nginx", "relay")


def full_plan(rounds: int) -> Plan:
    """Return the run whose figures are published."""
    return Plan(
        throughput=[
            Throughput(
                name="main",
                title="1,000 streams × 20 chunks/s × 200 chunks a reply",
                load=Load.steady(1000, tokens=200, window_s=10),
                targets=(*RELAYS, "tutorial"),
                rounds=rounds,
            ),
            Throughput(
                name="short",
                title="1,000 streams × 20 chunks/s × 50 chunks a reply",
                load=Load.steady(1000, tokens=50, window_s=10),
                targets=RELAYS,
                rounds=rounds,
            ),
            Throughput(
                name="long",
                title="1,000 streams × 20 chunks/s × 400 chunks a reply",
                load=Load.steady(1000, tokens=400, window_s=20),
                targets=RELAYS,
                rounds=rounds,
            ),
            Throughput(
                name="tls",
                title="as main, TLS to the upstream",
                load=Load.steady(1000, tokens=200, window_s=10),
                targets=RELAYS,
                rounds=rounds,
                tls=True,
            ),
            Throughput(
                name="first",
                title="100 streams × 20 chunks/s × 50 chunks a reply",
                load=Load.steady(100, tokens=50, window_s=10),
                targets=RELAYS,
                rounds=rounds,
            ),
            Throughput(
                name="products",
                title="as main, beside products that others run, each with as many streams as it can serve",
                load=Load.steady(1000, tokens=200, window_s=10),
                targets=("legato", *PRODUCTS),
                rounds=rounds,
            ),
        ],
        memory=Memory(
            few=100,
            many=1000,
            idle_few=500,
            idle_many=5000,
            tokens=200,
            targets=RELAYS,
            release_s=5,
            settle_s=40,
        ),
        turns=Turns(deep=10_000, wide=1_000_000, posts=200, rounds=rounds),
        queue=Queue(window_s=20, idle_s=30, rounds=rounds),
        state=State(window_s=5, rounds=rounds),
        postgres=Postgres(
            load=Load.steady(1000, tokens=200, window_s=10),
            cross=Load.steady(200, tokens=200, window_s=10),
            followed=60,
            workers=(1, 2, 3),
            rounds=rounds,
        ),
    )


def quick_plan() -> Plan:
    """Return one short round of everything: it shows that all of it works, not how fast it is."""
    load = Load.steady(100, tokens=30, window_s=1, rate=30)
    return Plan(
        throughput=[
            Throughput(
                name="main",
                title="100 streams × 30 chunks/s × 30 chunks a reply",
                load=load,
                targets=(*RELAYS, "tutorial"),
                rounds=1,
            ),
            Throughput(
                name="tls",
                title="as main, TLS to the upstream",
                load=load,
                targets=("legato", "nginx"),
                rounds=1,
                tls=True,
            ),
            Throughput(
                name="products",
                title="as main, beside products that others run, each with as many streams as it can serve",
                load=load,
                targets=("legato", *PRODUCTS),
                rounds=1,
            ),
        ],
        memory=Memory(
            few=20,
            many=100,
            idle_few=50,
            idle_many=250,
            tokens=20,
            targets=("legato",),
            release_s=0.5,
            settle_s=1,
        ),
        turns=Turns(deep=500, wide=2_000, posts=50, rounds=1),
        queue=Queue(window_s=1, idle_s=1, rounds=1, settle_s=0.2, rates=(20,)),
        state=State(window_s=0.5, rounds=1),
        postgres=Postgres(
            load=load, cross=Load.steady(50, tokens=60, window_s=3), followed=20, workers=(1, 2), rounds=1
        ),
    )
