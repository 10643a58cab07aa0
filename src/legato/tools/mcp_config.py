"""How an MCP server is reached, as plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from legato.core.errors import AddressRefused, ConfigurationError
from legato.tools.addresses import AddressGuard
from legato.tools.base import MAX_OUTPUT_CHARS, MIN_OUTPUT_CHARS, TIMEOUT_S

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServerConfig:
    """One MCP server: a program (`command`) or an address (`url`), never both.

    Attributes:
        name: 1 to 32 of `a-z A-Z 0-9 _ -`.
        command: A program that talks over its standard input and output.
        env: Variables that the program gets beside PATH, HOME and a few others.
        cwd: The program's folder; this process's by default.
        url: An address of the streamable HTTP transport.
        headers: Sent with every request to `url`; never shown.
        allow: Tools that are used, by the server's own names; None for all.
        needs_approval: Tools whose calls a person must agree to, by the server's own names; True for all.
        idempotent: Tools whose calls may be run again when they were cut; hints of the server are not believed.
        prefix: Its tools are always called `name_tool`, not only where two would share a name.
        timeout_s: Longest time of a call.
        start_timeout_s: Longest time until it lists its tools.
        max_output_chars: Characters of a result that the model is told.
        private_hosts: Hosts that may be private, by name; see AddressGuard.

    Raises:
        ConfigurationError: A value is wrong, or `url` names a private address that is not allowed.
    """

    name: str
    command: str | None = None
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow: frozenset[str] | None = None
    needs_approval: frozenset[str] | bool = False
    idempotent: frozenset[str] = frozenset()
    prefix: bool = False
    timeout_s: float = TIMEOUT_S
    start_timeout_s: float = 30.0
    max_output_chars: int = MAX_OUTPUT_CHARS
    private_hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        where = f"MCP server {self.name}"
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} is no name for an MCP server: 1 to 32 of a-z, A-Z, 0-9, _ and -")
        if (self.command is None) == (self.url is None):
            raise ConfigurationError(f"{where}: set either command or url")
        for setting, value in (("timeout_s", self.timeout_s), ("start_timeout_s", self.start_timeout_s)):
            if not value > 0:
                raise ConfigurationError(f"{where}: {setting} is {value:g}, it must be above 0")
        if self.max_output_chars < MIN_OUTPUT_CHARS:
            raise ConfigurationError(
                f"{where}: max_output_chars is {self.max_output_chars}, use {MIN_OUTPUT_CHARS} or more"
            )
        if self.url is not None:
            try:
                AddressGuard(self.private_hosts).check_literal(self.url)
            except AddressRefused as error:
                raise ConfigurationError(f"{where}: {error.message}") from None

    def secrets(self) -> list[str]:
        """Return values that must not be told to anybody; of `Bearer xyz`, `xyz` too."""
        values = [*self.headers.values(), *self.env.values()]
        return values + [value.rpartition(" ")[2] for value in values]
