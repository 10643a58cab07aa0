"""`legato keys create --publishable`: for whom, and what cannot be asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from legato.cli.keys import app
from legato.storage.keys import find_key, find_origins, find_principal
from legato.storage.sqlite import SqliteDatabase

SHOP = ("--publishable", "--origin", "https://shop.example")


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data-dir", str(folder)], env={"COLUMNS": "200"})


def test_a_publishable_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    """With all its origins as browsers write them; it is nobody's secret key."""
    made = run(tmp_path, "create", "--name", "shop", *SHOP, "--origin", "HTTP://Localhost:8000/")
    assert made.exit_code == 0, made.output
    key = made.stdout.strip().splitlines()[0]
    assert key.startswith("lp_")
    run(tmp_path, "create", "--name", "ann")
    listed = run(tmp_path, "list").stdout
    assert "publishable" in listed
    assert "https://shop.example" in listed
    assert "http://localhost:8000" in listed
    assert key.split("_", 2)[2] not in listed
    database = SqliteDatabase(tmp_path / "legato.db")
    found = database.transact(lambda tx: find_key(tx, key), writes=False)
    assert found is not None
    assert found.role == "visitor"
    assert found.origins == {"https://shop.example", "http://localhost:8000"}
    assert len(found.signing_secret) == 32
    assert database.transact(lambda tx: find_principal(tx, key), writes=False) is None
    assert database.transact(find_origins, writes=False) == found.origins
    assert run(tmp_path, "revoke", key).exit_code == 0
    assert database.transact(lambda tx: find_key(tx, key), writes=False) is None
    assert database.transact(find_origins, writes=False) == frozenset()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--publishable"], "--origin"),
        (["--origin", "https://shop.example"], "--publishable"),
        ([*SHOP, "--role", "admin"], "leave --role"),
        ([*SHOP, "--owner", "ann"], "--owner"),
        (["--publishable", "--origin", "https://shop.example/page"], "more than an origin"),
        (["--publishable", "--origin", "*"], "is no origin"),
        ([*SHOP, "--origin", "https://*.shop.example"], "no single host"),
        (["--owner", "visitor:abc:x"], "visitors of widgets"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    """In words that say what would, and nothing is made."""
    refused = run(tmp_path, "create", "--name", "shop", *arguments)
    assert refused.exit_code == 2
    assert words in " ".join(refused.output.replace("│", " ").split())
    assert not (tmp_path / "legato.db").exists()
