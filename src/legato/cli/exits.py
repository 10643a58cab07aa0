"""Exit codes of every command, and the end of each `--help`: examples, then the codes."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""What was asked for did not succeed."""
USAGE: Final = 2
"""The command line cannot be understood."""
UNREACHABLE: Final = 69
"""sysexits.h EX_UNAVAILABLE: no server, or no database, answers at the address."""
CONFIGURATION: Final = 78
"""sysexits.h EX_CONFIG: it cannot run as it is configured."""
STOPPED: Final = 130
"""128 + SIGINT: stopped by Ctrl-C."""

_MEANINGS: Final = {
    OK: "success",
    FAILED: "it did not succeed",
    USAGE: "the command line is wrong",
    UNREACHABLE: "no server answers",
    CONFIGURATION: "a setting is wrong or missing",
    STOPPED: "stopped by Ctrl-C",
}


def help_end(*examples: str, exits: dict[int, str] | None = None) -> str:
    """Return the epilog of a command's help, in Markdown.

    Args:
        examples: Command lines, at most 74 characters each.
        exits: Meanings of the exit codes that differ from the usual ones, or are to be listed beside 0, 1, 2 and 78;
            an empty one leaves its code out.
    """
    meanings = {code: _MEANINGS[code] for code in (OK, FAILED, USAGE, CONFIGURATION)} | (exits or {})
    codes = ", ".join(f"{code} {meanings[code]}" for code in sorted(meanings) if meanings[code])
    shown = "\n".join(f"    {line}" for line in examples)
    return f"Examples:\n\n{shown}\n\nExit codes: {codes}."
