"""What the runs of this process share: storage, models, limits, and the runs that are live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from legato.core.clock import Clock
from legato.core.errors import ConfigurationError, Draining, LegatoError, Overloaded, StorageUnavailable
from legato.core.ids import new_id
from legato.fanout.base import Hints
from legato.fanout.memory import MemoryHints
from legato.policies.prices import Prices
from legato.policies.windows import MemoryWindows, Windows
from legato.runs.erasing import Erasing
from legato.runs.feed import Feed
from legato.runs.models import Models
from legato.runs.tail import Readers
from legato.runs.wakes import Wakes
from legato.settings import Settings
from legato.storage.committer import Committer
from legato.storage.database import Database
from legato.telemetry.metrics import Metrics
from legato.tools.box import ToolBox

if TYPE_CHECKING:
    from legato.policies.rate_limit import RateLimits
    from legato.runs.admission import Admission
    from legato.runs.budget import Budgets
    from legato.runs.lease import Lease
    from legato.runs.live import LiveRun
    from legato.runs.moderate import Moderation
    from legato.storage.erasures import Erased
    from legato.telemetry.traces import Traces

log = structlog.get_logger(__name__)


class Node:
    """One process that makes and serves replies. Made on its event loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        committer: Committer,
        models: Models,
        clock: Clock,
        limits: RateLimits | None = None,
        visitor_limits: RateLimits | None = None,
        hints: Hints | None = None,
        feed: Feed | None = None,
        executor_id: str | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        self.committer = committer
        self.models = models
        self.clock = clock
        self.limits = limits
        """How many messages may be posted in a time; None where nothing is limited."""
        self.visitor_limits = visitor_limits
        """The same for visitors of a widget, who have limits of their own."""
        self.windows: Windows = MemoryWindows(clock.monotonic_s)
        """Where is counted what may be tried in a time: over all nodes where they share a database."""
        self.wakes = Wakes(hints or MemoryHints(), feed)
        """Tells the other nodes what has happened to runs."""
        self.feed = feed
        """Follows what other nodes make; None where there can be none."""
        self.tools: ToolBox | None = None
        """What the models may call; None where there is nothing."""
        self.tool_context: Callable[[LiveRun, str, str], object] | None = None
        """Makes what a tool that asks for a context is given."""
        self.readers = Readers(heartbeat_s=settings.heartbeat_s, send_timeout_s=settings.send_timeout_s)
        self.live: dict[str, LiveRun] = {}
        """Running and waiting runs by id, in the order of their first segment. Where there are other nodes: those that
        run and whose rows name this node, no others."""
        self.unendable: set[int] = set()
        """Keys of this node's runs that are made nowhere and cannot be ended: what seals them does not open."""
        self.key: int | None = None
        """Of this node's row; None where there can be no other node, 0 while it registers anew."""
        self.incarnation = 0
        """How often this process has registered: once more each time that it was fenced."""
        self.executor_id = executor_id or new_id("n", clock.now_ms())
        """Of the process, whatever its incarnation: what its sessions and the queue know it by."""
        self.lease: Lease | None = None
        """By which it lives; None where there can be no other node."""
        self.going = asyncio.Event()
        """Not set while the lease may have run out: other nodes may be making the replies."""
        self.going.set()
        self.on_fenced: list[Callable[[Sequence[str]], Awaitable[None]]] = []
        """Called with the executor ids of processes that this node has fenced."""
        self.ended: dict[int, float] = {}
        """Keys of runs that have ended here, whose pieces are still there, and when, by the monotonic clock."""
        self.starting = 0
        self.admission: Admission | None = None
        """Counts replies with other nodes; None where there can be no other."""
        self.draining = False
        self.tick_s = max(
            0.02,
            min(
                1.0,
                settings.first_token_timeout_s / 4,
                settings.token_timeout_s / 4,
                settings.run_timeout_s / 4,
                settings.heartbeat_s / 4,
                settings.send_timeout_s / 4,
            ),
        )
        """Seconds between two looks at runs and readers: a limit is kept to within a quarter of it."""
        self.outcast: ConfigurationError | None = None
        """Why it cannot be one of the nodes any more: it is to be stopped; None where it can."""
        self.on_outcast: Callable[[], None] = lambda: None
        """Called when it is told so; it stays suspended."""
        self.left = False
        """What still runs is handed to the next start: nothing of it is shown here any more."""
        self.to_erase = asyncio.Event()
        """Set when something was deleted that may be somewhere else too."""
        self.to_erase.set()
        self.erasing = Erasing(self)
        """Knows whose data are being erased: they are refused meanwhile."""
        self.erase_queue: Callable[[Erased], Awaitable[bool]] | None = None
        """Erases what the queue knows of somebody; says whether nothing is left. None where there is no queue."""
        self.on_quiet: Callable[[], Awaitable[None]] | None = None
        """Called some seconds after a rush, before freed memory is given back."""
        self.stopping = asyncio.Event()
        """Set when what still streams must end: the server is about to close its connections."""
        self.metrics = Metrics([provider.name for provider in models.providers])
        self.prices = Prices()
        """What the models cost."""
        self.budgets: Budgets | None = None
        """What may be spent; None where nobody looks after that."""
        self.moderation: Moderation | None = None
        """What may be said; None where there is no policy."""
        self.traces: Traces | None = None
        """Where traces go; None where nobody collects them."""
        # Where there are thousands a dict is a third of a set's size.
        self.tasks: dict[asyncio.Task[None], None] = {}
        self._forget = self.tasks.pop
        committer.on_stall = self._on_stall
        committer.on_batch = self.metrics.batch_committed
        if feed is not None:
            committer.on_grown = self.wakes.grown

    @property
    def suspended(self) -> bool:
        """Whether the lease may have run out."""
        return not self.going.is_set()

    async def wait_to_go(self) -> bool:
        """Wait until the lease is good, for as long as a request waits for the database; return whether it is."""
        if self.suspended:
            try:
                async with asyncio.timeout(self.settings.storage_wait_s):
                    await self.going.wait()
            except TimeoutError:
                return False
        return True

    @property
    def leads(self) -> bool:
        """Whether this node does what one is to do for all."""
        return self.lease is None or self.lease.leads

    def owns(self, node_key: int | None) -> bool:
        """Whether what was committed under a node's key is to be gone on with here: not if it was fenced since."""
        return self.key is None or (node_key == self.key and not self.left)

    def refusal(self) -> LegatoError | None:
        """Return why no new run may begin now, or None."""
        if self.draining:
            return Draining("the server is shutting down: try again in a moment")
        if self.committer.stalled_s > 0 or self.suspended:
            return StorageUnavailable("the database takes no writes at present: try again in a moment")
        if self.admission is None and len(self.live) + self.starting >= self.settings.max_active_runs:
            return Overloaded(f"{self.settings.max_active_runs} replies are being made, which is the most")
        return None

    def leave_for_good(self, error: ConfigurationError) -> None:
        """Say that this process cannot go on as it is configured; once."""
        if self.outcast is None:
            self.outcast = error
            log.error("this server cannot go on: it is stopped", error=error.message)
            self.on_outcast()

    def tick(self) -> None:
        """Look after runs and readers; called every `tick_s`."""
        now_s = self.clock.monotonic_s()
        for run in tuple(self.live.values()):
            run.look(now_s)
        self.readers.tick(self.tick_s)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a background task until it is done."""
        self.tasks[task] = None
        task.add_done_callback(self._forget)

    def _on_stall(self, stalled: bool) -> None:
        # While the database is away nothing may be shown, so nothing more need be read from the models.
        for run in self.live.values():
            run.pause(stalled)
        if stalled:
            self.keep(asyncio.get_running_loop().create_task(self._cut_readers()))

    async def _cut_readers(self) -> None:
        """Cut the readers of live runs if the database stays away: an end that is not in the log must not be shown."""
        await asyncio.sleep(self.settings.storage_wait_s)
        if self.committer.stalled_s > 0:
            for run in self.live.values():
                run.tail.cut()
