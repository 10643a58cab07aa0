"""`legato serve` whose queue, clock and relay never start: what they cost an idle server is the difference."""

from legato.cli.main import main
from legato.steps.service import StepService


async def _leave_out(self: StepService) -> None:
    """Start nothing."""


if __name__ == "__main__":
    StepService.start = _leave_out  # type: ignore[method-assign]
    main()
