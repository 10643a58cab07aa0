"""`legato usage`, and what `legato models` and `legato doctor` say of prices."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from legato.storage.charges import Charge, insert_charges
from legato.storage.sqlite import SqliteDatabase
from tests.cli_process import legato

pytestmark = pytest.mark.slow

TOML = """
model = ["main", "local"]

[models.main]
provider = "scripted"

[models.local]
base_url = "http://localhost:1/v1"

[prices.main]
input = 3
output = 15

[prices.mian]
input = 1
output = 1
"""


def test_usage_is_a_table_or_csv(tmp_path: Path) -> None:
    """Of whom and whatever was asked for; what is not known is said, and no formula gets into a spreadsheet."""
    assert "nothing was used" in legato(tmp_path, "usage").stderr
    values: dict[str, Any] = dict.fromkeys(Charge.__slots__) | {
        "at_ms": 1_793_577_600_000,  # 2026-11-02
        "session_id": "s",
        "conversation_id": "c",
        "run_id": "r",
        "purpose": "reply",
        "provider": "openai",
        "reason": "first",
        "input_tokens": 1_000_000,
        "output_tokens": 20,
        "counted": False,
    }
    charges = [
        Charge(**values | {"owner": owner, "model": model, "cost_nusd": cost})
        for owner, model, cost in (("ann", "main", 3_000_300_000), ("ann", "=local", None), ("ben", "main", 1))
    ]
    database = SqliteDatabase(tmp_path / "data" / "legato.db")
    database.open()
    database.transact(lambda tx: insert_charges(tx, charges), writes=True)
    database.close()
    days = ("--from", "2026-11-02", "--to", "2026-11-02")
    shown = legato(tmp_path, "usage", "--by", "model", *days)
    assert [line.split() for line in shown.stdout.splitlines()[1:]] == [
        ["=local", "1", "1,000,000", "0", "20", "0", "unknown", "1"],
        ["main", "2", "2,000,000", "0", "40", "0", "3.000300", "0"],
        ["all", "3", "3,000,000", "0", "60", "0", "3.000300", "1"],
    ]
    assert "the cost of 1 call is not known" in shown.stderr
    told = legato(tmp_path, "usage", "--by", "model", "--owner", "ann", "--csv", *days).stdout
    rows = list(csv.DictReader(io.StringIO(told)))
    assert [(row["model"], row["calls"], row["cost_usd"], row["unpriced"]) for row in rows] == [
        ("'=local", "1", "", "1"),
        ("main", "1", "3.0003", "0"),
    ]
    assert "nothing was used" in legato(tmp_path, "usage", "--from", "2026-11-03", "--to", "2026-11-03").stderr
    assert legato(tmp_path, "usage", "--by", "moon").returncode == 2


def test_models_without_a_price_are_named(tmp_path: Path) -> None:
    """In the list of models, and by the doctor, who finds a name that was mistyped."""
    (tmp_path / "legato.toml").write_text(TOML)
    listed = " ".join(legato(tmp_path, "models").stdout.split())
    assert "3 in, 15 out" in listed
    assert 'What local costs is not known: set [prices."MODEL"] in legato.toml.' in listed
    checks = json.loads(legato(tmp_path, "doctor", "--offline", "--json").stdout)["checks"]
    found = {check["found"]: check["state"] for check in checks if check["name"] == "prices"}
    assert list(found.values()) == ["note", "note"]
    first, second = found
    assert first.startswith("not known of local")
    assert second == "mian is the name of no configured model: did you mean main?"
