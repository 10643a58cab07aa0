"""`python -m tests`: all tests in two parts, those marked `alone` first, one by one, and then all others.

What is marked so measures time, or fills the machine. Arguments are pytest's own; `make test` has the second part run
on three workers of pytest-xdist.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

ALONE = ("--alone=only", "-n0")
OTHERS = ("--alone=never",)
GOES_ON = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def main(arguments: Sequence[str]) -> int:
    """Run both parts, whatever the first one found, and return 0 if there was a test and none failed."""
    found: list[int] = []
    for part in (ALONE, OTHERS):
        found.append(_run(*arguments, *part))
        if found[-1] not in GOES_ON:
            return found[-1]
    if pytest.ExitCode.TESTS_FAILED in found:
        return pytest.ExitCode.TESTS_FAILED
    # A choice such as `-k name` may leave one part empty.
    return min(found)


def _run(*arguments: str) -> int:
    with subprocess.Popen([sys.executable, "-m", "pytest", *arguments]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Control-C has reached it too: it ends what it has started.
            return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
