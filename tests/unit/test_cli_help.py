"""The help of every command."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from legato.cli.main import app

COMMANDS = (
    "",
    "serve",
    "chat",
    "models",
    "models fetch",
    "keys",
    "keys create",
    "keys list",
    "keys revoke",
    "state",
    "state get",
    "state set",
    "state list",
    "state delete",
    "steps",
    "dead-letters",
    "dead-letters list",
    "dead-letters show",
    "dead-letters redrive",
    "dead-letters discard",
    "new",
    "doctor",
    "backup",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_and_exit_codes(command: str) -> None:
    """In 80 columns, without colour where none is wanted."""
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert "Examples:" in done.stdout
    assert "Exit codes: 0" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
