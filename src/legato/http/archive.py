"""A zip archive that is sent while it is made: all that the server has of a principal.

What is held at a time is a page of messages, 64 KiB on their way to the socket, and about a kilobyte of the archive's
directory for each file. Names of files are made of numbers and plain letters; the first words of a title are in them.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
import zipfile
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from legato.core.errors import NotFound
from legato.core.principal import Principal
from legato.http.transfer import in_chunks, json_pieces, markdown_pieces
from legato.runs.exports import Exports
from legato.runs.node import Node
from legato.runs.personal_export import PersonalData

NAME_CHARS: Final = 40
"""Of a title, as many letters are in a file's name at most."""
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9]+")
_encode = msgspec.json.Encoder().encode

README: Final = """What this server has of you, or of the principal that profile.json names.

profile.json          who that is for the server, keys (without their secrets), and how long conversations are kept
conversations/*.json  each conversation with all its branches, messages, usage and feedback; POST /conversations/import
                      takes such a file
conversations/*.md    the same to be read: the active branch
feedback.json         what was said of replies
usage.json            what each call of a model used and cost
replies.json          what was counted of each reply
state.json            what the server's steps keep under your name
access.json           who did what to these data: the entries of the audit log about them

Times are milliseconds since 1970-01-01, UTC. Costs are US dollars; null is not known.
"""


class _Sink:
    """Where the archive is written; what has come is taken away again."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)


class Archive:
    """The archive of one principal."""

    def __init__(self, node: Node, owner: str) -> None:
        self._node = node
        self._data = PersonalData(node, owner)
        self._owner = Principal(id=owner, role="member")
        self._sink = _Sink()
        # It writes to what cannot be rewound: sizes follow each file.
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED)
        self._date = time.gmtime(node.clock.now_ms() / 1000)[:6]

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the archive's bytes, in order."""
        data = self._data
        files = (
            ("README.txt", _once(README.encode())),
            ("profile.json", _once(_encode(await data.profile()) + b"\n")),
        )
        for name, pieces in files:
            async for piece in self._file(name, pieces):
                yield piece
        number = 0
        async for conversation_id in data.conversations():
            number += 1
            async for piece in self._conversation(number, conversation_id):
                yield piece
        for name, values in (
            ("feedback.json", data.feedback()),
            ("usage.json", data.charges()),
            ("replies.json", data.replies()),
            ("state.json", data.state()),
            ("access.json", data.audited()),
        ):
            async for piece in self._file(name, _as_list(values)):
                yield piece
        self._zip.close()
        yield self._sink.take()

    async def _conversation(self, number: int, conversation_id: str) -> AsyncIterator[bytes]:
        try:
            export = await Exports(self._node, self._owner).open(conversation_id)
        except NotFound:
            # Deleted meanwhile.
            return
        name = f"conversations/{number:06}{slug_of(export.conversation.title)}"
        async for piece in self._file(f"{name}.json", json_pieces(export, self._node.clock.now_ms())):
            yield piece
        async for piece in self._file(f"{name}.md", markdown_pieces(export)):
            yield piece

    async def _file(self, name: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        entry = zipfile.ZipInfo(name, self._date)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o600 << 16
        with self._zip.open(entry, "w", force_zip64=True) as file:
            async for piece in in_chunks(pieces):
                # Packing takes milliseconds: others go on meanwhile.
                await asyncio.to_thread(file.write, piece)
                if taken := self._sink.take():
                    yield taken
        yield self._sink.take()


def slug_of(title: str) -> str:
    """Return what of a title may stand in a file's name: plain letters and digits behind a hyphen, or nothing."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = _NOT_PLAIN.sub("-", plain)[:NAME_CHARS].strip("-")
    return f"-{slug}" if slug else ""


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _as_list(values: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    between = b"["
    async for value in values:
        yield between + _encode(value)
        between = b",\n"
    yield b"[]\n" if between == b"[" else b"]\n"
