"""`legato review`, beside a server that runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from legato.cli.review import app
from tests.moderation_world import open_world, says

WATCH = {"type": "rules", "name": "watch", "terms": ["odd"], "action": "flag", "reason": "odd"}


async def test_flagged_texts_are_listed_shown_and_decided(tmp_path: Path) -> None:
    """Without the text in the list, with it where one is shown, and decided once; nothing steers a terminal."""

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--data-dir", str(tmp_path)])

    async with open_world(tmp_path, WATCH) as world:
        assert (await run("list")).exit_code == 0
        world.upstream.scripts.append(says(["Bye."]))
        await world.ask("an odd \x1b[31mthing")
        listed = await run("list", "--json")
        (found,) = [json.loads(line) for line in listed.stdout.splitlines()]
        assert (found["policy"], found["source"], "text" in found) == ("watch", "message", False)
        assert "odd" in (await run("list")).stdout
        shown = await run("show", found["id"])
        assert shown.stdout.endswith("an odd \N{SYMBOL FOR ESCAPE}[31mthing\n")
        assert json.loads((await run("show", found["id"], "--json")).stdout)["text"] == "an odd \x1b[31mthing"
        assert (await run("show", "v-none")).exit_code == 1
        assert (await run("decide", found["id"], "maybe")).exit_code == 2
        assert (await run("decide", found["id"], "violation", "--note", "seen")).exit_code == 0
        again = await run("decide", found["id"], "fine")
        assert (again.exit_code, "has decided about it already: violation" in again.stderr) == (1, True)
        assert (await run("decide", "v-none", "fine")).exit_code == 1
        decided = await run("list", "--decided", "--json")
        assert [json.loads(line)["note"] for line in decided.stdout.splitlines()] == ["seen"]
        actions = [entry["action"] for entry in (await world.get("/admin/audit"))["entries"]]
        assert actions[:3] == ["review.decide", "admin.read", "admin.read"]
