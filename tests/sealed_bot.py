"""A bot that writes words which must not be found in the database: served with encryption on."""

from __future__ import annotations

from pydantic import BaseModel

from legato import Context, Legato

app = Legato()


class Note(BaseModel):
    """Something to be kept.

    Attributes:
        text: What nobody else may read.
    """

    text: str


@app.tool
async def look_up(key: str) -> str:
    """Look something up.

    Args:
        key: What to look up.
    """
    return f"zqtooloutput {key}"


@app.http("POST", "/notes", enqueues=["notes.taken"])
async def take(note: Note, ctx: Context) -> dict[str, str]:
    """Keeps a note, and has a job fail over it."""
    await ctx.state.set("notes", "last", {"text": f"zqstate {note.text}"})
    return {"id": await ctx.enqueue("notes.taken", note)}


@app.queue("notes.taken", attempts=1)
async def refuse(note: Note, ctx: Context) -> None:
    """Fails, and says what it was about."""
    raise ValueError(f"zqjoberror {note.text}")
