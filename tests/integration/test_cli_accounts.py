"""`legato accounts`, beside a server that runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from legato.cli.accounts import app
from tests.account_world import OTHER, RIGHT, cookie_for, status_of
from tests.page_world import open_site

pytestmark = pytest.mark.usefixtures("quick_hashes")


def run(folder: Path, *arguments: str, typed: str = RIGHT) -> Result:
    return CliRunner().invoke(
        app, [*arguments, "--data-dir", str(folder)], input=typed, env={"COLUMNS": "250", "LEGATO_AUTH": "accounts"}
    )


async def test_the_command_makes_and_ends_accounts(tmp_path: Path) -> None:
    """Beside a server that runs: what it does counts with the next request."""
    async with open_site(tmp_path, auth="accounts") as site:
        folder = site.node.settings.data_dir

        def command(*arguments: str, typed: str = RIGHT) -> Any:
            return asyncio.to_thread(run, folder, *arguments, typed=typed)

        made = await command("add", "Ann", "--role", "admin")
        assert made.exit_code == 0, made.output
        assert RIGHT not in made.output
        cookie = await cookie_for(site)
        listed = await command("list")
        assert all(word in listed.stdout for word in ("ann", "Ann", "admin", "password", "account:"))
        assert "argon2" not in listed.stdout
        assert (await command("passwd", "ANN", typed=OTHER)).exit_code == 0
        assert await status_of(site, cookie) == 401
        cookie = await cookie_for(site, "Ann", OTHER)
        assert (await command("disable", "ann")).exit_code == 0
        assert await status_of(site, cookie) == 401
        assert (await command("enable", "ann")).exit_code == 0
        cookie = await cookie_for(site, "Ann", OTHER)
        assert (await command("remove", "ann")).exit_code == 0
        assert await status_of(site, cookie) == 401
        assert site.rows("SELECT count(*) FROM account") == [(0,)]
        actions = [action for (action,) in site.rows("SELECT action FROM audit_entry ORDER BY seq")]
        assert [each for each in actions if each.startswith("account")] == [
            "account.create",
            "account.change",
            "account.change",
            "account.change",
            "account.delete",
        ]


@pytest.mark.parametrize(
    ("arguments", "typed", "code", "words"),
    [
        (["add", "ann"], RIGHT, 1, "already"),
        (["add", "Dora"], "short", 1, "12 are the least"),
        (["add", "Dora"], "password12345", 1, "somebody guesses"),
        (["add", "Dora"], "", 1, "0 characters"),
        (["add", " "], RIGHT, 2, "is blank"),
        (["add", "account:x"], RIGHT, 2, "another name"),
        (["add", "Dora", "--owner", "visitor:x"], RIGHT, 2, "the server's own"),
        (["add", "Dora", "--owner", "app"], RIGHT, 2, "the server's own"),
        (["add", "Dora", "--subject", "x"], RIGHT, 2, "[oidc]"),
        (["passwd", "nobody"], RIGHT, 1, "no account nobody"),
        (["disable", "nobody"], RIGHT, 1, "no account nobody"),
        (["remove", "nobody"], RIGHT, 1, "no account nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, arguments: list[str], typed: str, code: int, words: str
) -> None:
    """In words that say what would."""
    assert run(tmp_path, "add", "Ann").exit_code == 0
    refused = run(tmp_path, *arguments, typed=typed)
    assert refused.exit_code == code, refused.output
    assert words in " ".join(refused.output.replace("│", " ").split())
