"""What starting a turn costs: in a long conversation, and in a database of many."""

from dataclasses import dataclass, replace

from bench.figure import Figure, figure
from bench.load import Load, mock_upstream, run_client
from bench.seed import Seed, seed
from bench.target import TARGETS, Server, serving
from bench.throughput import Bench
from bench.toolchain import BenchError

MESSAGE = "What comes after this, and after that, and in the end? " * 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """How deep, how wide, and how many turns a figure is taken over."""

    deep: int
    """Turns in the long conversation."""
    wide: int
    """Conversations in the large database."""
    posts: int
    """Turns posted one after another for one reading."""
    rounds: int

    @property
    def load(self) -> Load:
        """One short reply at a time."""
        # The window holds all of the posts; the client ends with the last of them. Each is as long as a turn of the
        # seeded conversation, so that the posts do not fill the context with hundreds of tiny turns.
        return Load(streams=1, tokens=1, rate=1000, ramp_s=0, window_s=60, total=self.posts, message=MESSAGE)

    @property
    def expected_s(self) -> float:
        """Seconds for everything, seeding included."""
        return self.rounds * 3 * (self.posts * 0.01 + 1) + (self.deep + self.wide) / 15_000 + 10


Reading = tuple[float, float]
"""CPU ms per turn, and ms from POST to the upstream's call (p50)."""


def measure_turns(bench: Bench, plan: Turns) -> list[Figure]:
    """Measure Legato's turn start on two seeded databases, in interleaved rounds.

    Raises:
        BenchError: The schema is not the one that seed.py knows, or a stream was not whole.
    """
    one = Seed(prefix="one-", conversations=plan.posts, turns=1)
    seeds = {
        "few": (one, Seed(prefix="deep-", conversations=1, turns=plan.deep)),
        "many": (one, Seed(prefix="filler-", conversations=plan.wide, turns=1)),
    }
    target = TARGETS["legato"]
    near: list[Reading] = []
    deep: list[Reading] = []
    wide: list[Reading] = []
    with (
        bench.board.step("turns", plan.expected_s),
        mock_upstream(bench.programs, bench.cores, bench.folder, load=plan.load) as mock,
    ):
        folders = {name: bench.folder / f"turns-{name}" for name in seeds}
        for name, folder in folders.items():
            folder.mkdir()
            with serving(target, mock, bench.cores, folder) as server:
                # A first turn makes sure that the database is there.
                _post(bench, replace(plan, posts=1), server, "first-%")
            seed(folder / "data", seeds[name])
        with (
            serving(target, mock, bench.cores, folders["few"]) as few,
            serving(target, mock, bench.cores, folders["many"]) as many,
        ):
            # The first posts of a fresh server load what is loaded on first use.
            for server in (few, many):
                _post(bench, plan, server, "warm-up-%")
            for _ in range(plan.rounds):
                near.append(_post(bench, plan, few, "one-%"))
                deep.append(_post(bench, plan, few, "deep-0"))
                wide.append(_post(bench, plan, many, "one-%"))
                shown = ", ".join(
                    f"{name} {seen[-1][0]:.2f}/{seen[-1][1]:.2f}"
                    for name, seen in (("short", near), ("long", deep), ("among many", wide))
                )
                bench.board.note(f"turns: ms CPU a turn / ms to the upstream's call: {shown}")
    values = {
        "start_cpu_ms": [cpu for cpu, _ in near],
        "start_wall_ms": [wall for _, wall in near],
        "start_cpu_x_deep": [b[0] / a[0] for a, b in zip(near, deep, strict=True)],
        "start_wall_x_deep": [b[1] / a[1] for a, b in zip(near, deep, strict=True)],
        "start_cpu_x_wide": [b[0] / a[0] for a, b in zip(near, wide, strict=True)],
        "start_wall_x_wide": [b[1] / a[1] for a, b in zip(near, wide, strict=True)],
    }
    return [figure("turns", "legato", key, rounds) for key, rounds in values.items()]


def _post(bench: Bench, plan: Turns, server: Server, conversation: str) -> Reading:
    before = server.tree.cpu_s()
    result = run_client(
        bench.programs,
        bench.cores,
        bench.folder,
        port=server.port,
        protocol=server.target.protocol,
        load=replace(plan.load, conversation=conversation),
        on_tick=bench.board.tick,
    )
    after = server.tree.cpu_s()
    if fault := result.fault():
        raise BenchError(f"turns: {conversation} did not deliver: {fault}")
    return (after - before) * 1e3 / plan.posts, result.start_us.p50 / 1e3
