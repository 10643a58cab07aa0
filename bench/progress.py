"""What the bench shows while it runs: one bar, what runs now, and the streams as they go."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.load import Live


class Board:
    """The progress display. Steps are weighed by the seconds that they should take."""

    def __init__(self, console: Console, progress: Progress, task: TaskID) -> None:
        self.console, self._progress, self._task = console, progress, task
        self._done = 0.0

    @contextmanager
    def step(self, what: str, expected_s: float) -> Iterator[None]:
        """Show `what` as running; the bar moves by its seconds once it is over."""
        self._progress.update(self._task, what=what, live="")
        try:
            yield
        finally:
            self._done += expected_s
            self._progress.update(self._task, completed=self._done, live="")

    def tick(self, live: Live) -> None:
        """Show the client's counters."""
        failed = f", {live.failed} failed" if live.failed else ""
        text = f"{live.open:,} open, {live.whole:,} whole, {live.tokens:,} chunks{failed}"
        self._progress.update(self._task, live=text)

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def board(total_s: float) -> Iterator[Board]:
    """Show a progress display on standard error; `total_s` is the sum of all steps' seconds."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.fields[what]}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("of about {task.total:.0f} s  {task.fields[live]}"),
        console=console,
        # The harness shares its core with the load: redrawing must stay cheap.
        refresh_per_second=2,
        disable=not console.is_terminal,
    )
    with progress:
        yield Board(console, progress, progress.add_task("", total=total_s, what="", live=""))
