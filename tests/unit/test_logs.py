"""Where logs go when they can go nowhere."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from legato.telemetry.logs import LastingStderr


class Full(io.StringIO):
    """A file on a disk that is full for a while."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)

    def flush(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_finds_no_room_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is lost, and the next one is written where there is room again."""
    there = Full()
    monkeypatch.setattr(sys, "stderr", there)
    out = LastingStderr()
    print("lost", file=out, flush=True)
    there.is_full = False
    print("said", file=out, flush=True)
    assert there.getvalue().split() == ["said"]


def test_a_closed_standard_error_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a terminal has gone."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    print("lost", file=LastingStderr(), flush=True)
