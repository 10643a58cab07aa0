"""What a model says cannot steer the terminal."""

from __future__ import annotations

import pytest

from legato.cli.terminal import neutral, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n東京 🎵\u2028", "plain\ttext\n東京 🎵\u2028"),
        ("\x1b[2J\x1b]0;owned\x07", "␛[2J␛]0;owned␇"),
        ("\x9b31m\x90q", "\ufffd31m\ufffdq"),
        ("safe\rrm -rf", "saferm -rf"),
        ("\b\x7f\0", "␈␡␀"),
        ("\ud800", "\ufffd"),
        ("pay \u202e001\u202c now \u2066x\u2069", "pay \ufffd001\ufffd now \ufffdx\ufffd"),
    ],
)
def test_control_sequences_are_neutralised(text: str, shown: str) -> None:
    """Nothing a model says can steer the terminal."""
    assert neutral(text) == shown


def test_one_line_is_one_line() -> None:
    """A message of several lines cannot look like several messages."""
    assert one_line("a\n\nlegato: b\x1b") == "a legato: b␛"
