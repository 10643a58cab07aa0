"""Budgets that are set while a server runs: by the admin's routes and by `legato budgets`, beside those of the file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp
from typer.testing import CliRunner, Result

from legato.app import open_node
from legato.cli.main import app
from legato.core.errors import BudgetExceeded, ConfigurationError
from legato.http.api import create_api
from legato.runs.node import Node
from legato.runs.start import start
from legato.settings import load_settings
from tests.asgi import AsgiAnswer, call
from tests.budget_world import ANN, PRICES, message, say, usd
from tests.conftest import node_settings
from tests.feed_world import until
from tests.statements import query

FIXED = {"per": "server", "period": "month", "limit_usd": usd(100)}
DAY = {"per": "principal", "name": "ann", "period": "day"}
Run = Callable[..., Result]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node with one budget of its file."""
    settings = node_settings(tmp_path / "data", prices=PRICES, budgets=[FIXED])
    async with open_node(settings) as opened:
        yield opened


@pytest.fixture
def api(node: Node) -> ASGIApp:
    return create_api(node)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`legato budgets …` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["budgets", *arguments])

    return run


async def put(api: ASGIApp, **body: Any) -> AsgiAnswer:
    return await call(api, "PUT", "/admin/budgets", body)


def line(answer: AsgiAnswer, **key: Any) -> dict[str, Any]:
    """Return the budget with this key of an answer."""
    (found,) = [each for each in answer.json["budgets"] if all(each[name] == value for name, value in key.items())]
    return dict(found)


async def test_a_budget_that_is_set_holds_at_once(node: Node, api: ASGIApp) -> None:
    """And shows what is spent of it; set anew, what was spent stays spent; removed, nobody is refused any more."""
    answer = await put(api, **DAY, limitUsd=usd(15), warnPercent=50)
    assert answer.status == 200
    await say(node)
    with pytest.raises(BudgetExceeded, match="the daily budget of this principal"):
        await start(node, ANN, message())
    found = line(await call(api, "GET", "/admin/budgets"), **DAY)
    assert found["uses"] == [{"subject": "ann", "owner": "ann", "spent": {"usd": "0.01"}, "reserved": {"usd": "0"}}]
    assert (found["limit"], found["warnPercent"], found["fixed"]) == ({"usd": "0.015"}, 50, False)
    await put(api, **DAY, limitUsd=usd(20))
    await say(node)
    gone = await call(api, "DELETE", "/admin/budgets?per=principal&name=ann&period=day")
    assert gone.status == 204
    await say(node)
    assert [each["per"] for each in (await call(api, "GET", "/admin/budgets")).json["budgets"]] == ["server"]
    await put(api, **DAY, limitUsd=usd(25))
    with pytest.raises(BudgetExceeded):
        await start(node, ANN, message())


async def test_a_budget_of_the_file_is_fixed(api: ASGIApp) -> None:
    """It is shown as such, and neither set nor removed."""
    assert line(await call(api, "GET", "/admin/budgets"), per="server")["fixed"] is True
    for answer in (
        await put(api, per="server", period="month", limitUsd="1"),
        await call(api, "DELETE", "/admin/budgets?per=server&period=month"),
    ):
        assert (answer.status, answer.json["code"]) == (409, "conflict")
        assert "legato.toml" in answer.json["detail"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"per": "server", "period": "day", "limitUsd": 5}, "limitUsd"),
    ({"per": "server", "period": "day", "limitUsd": "-1"}, "limitUsd"),
    ({"per": "server", "period": "day", "limitUsd": "NaN"}, "limitUsd"),
    ({"per": "server", "name": "x", "period": "day", "limitUsd": "1"}, "name"),
    ({"per": "everybody", "period": "day", "limitUsd": "1"}, "per"),
    ({"per": "server", "period": "week", "limitUsd": "1"}, "period"),
    ({"per": "key", "period": "day", "limitUsd": "1", "warnPercent": 0}, "warnPercent"),
]


async def test_a_wrong_budget_is_refused_and_a_right_one_is_in_the_audit_log(node: Node, api: ASGIApp) -> None:
    """With what was set; what is no budget is refused, each wrong field by its name, and what is not there is 404."""
    for body, field in WRONG:
        answer = await put(api, **body)
        assert (answer.status, [each["field"] for each in answer.json["errors"]]) == (422, [field])
    assert (await call(api, "DELETE", "/admin/budgets?per=key&name=k&period=all")).status == 404
    await put(api, **DAY, limitUsd="2.50")
    await call(api, "DELETE", "/admin/budgets?per=principal&name=ann&period=day")
    rows = await node.database.read(lambda tx: query(tx, "SELECT action, subject, actor FROM audit_entry ORDER BY seq"))
    assert rows == [
        ("budget.change", "principal/ann/day", "local"),
        ("budget.delete", "principal/ann/day", "local"),
    ]


async def test_what_the_command_sets_holds_at_a_running_server(node: Node, run: Run) -> None:
    """Within two seconds."""
    done = run("set", "--per", "principal", "--period", "all", usd(5), "--data-dir", "data")
    assert (done.exit_code, done.output) == (0, "principal * may spend 0.005 US dollars (all)\n")

    async def refused() -> bool:
        try:
            await say(node)
        except BudgetExceeded:
            return True
        return False

    await until(lambda: node.budgets is not None and len(node.budgets.spending.budgets) == 2)
    assert await refused()
    assert run("remove", "--per", "principal", "--period", "all", "--data-dir", "data").exit_code == 0
    await until(lambda: node.budgets is not None and len(node.budgets.spending.budgets) == 1)
    assert not await refused()


def test_the_command_lists_both_sources(run: Run, tmp_path: Path) -> None:
    """One that was set before the file had it does not hold, and is shown as overridden."""
    assert run("list").stderr.startswith("legato: there is no budget")
    assert run("set", "--per", "server", "--period", "month", "300").exit_code == 0
    assert run("set", "--per", "model", "--name", "large", "--period", "day", "1.25").exit_code == 0
    (tmp_path / "legato.toml").write_text('[[budgets]]\nper = "server"\nperiod = "month"\nlimit_usd = 200\n')
    rows = [" ".join(each.split()) for each in run("list").stdout.splitlines()[1:]]
    assert rows == [
        "server * month 200 0 0 legato.toml",
        "model large day 1.25 0 0 here",
        "server * month 300 0 0 overridden by legato.toml",
    ]
    refused = run("set", "--per", "server", "--period", "month", "300")
    assert refused.exit_code == 1
    assert "stands in legato.toml" in refused.stderr


def test_a_file_with_two_of_one_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would know which holds."""
    from legato.policies.budget import fixed_budgets

    monkeypatch.chdir(tmp_path)
    table = '[[budgets]]\nper = "server"\nperiod = "month"\nlimit_usd = "0.10"\n'
    (tmp_path / "legato.toml").write_text(table)
    (budget,) = fixed_budgets(load_settings())
    assert (budget.limit_nusd, budget.fixed, budget.warn_percent) == (100_000_000, True, 80)
    (tmp_path / "legato.toml").write_text(table + table)
    with pytest.raises(ConfigurationError, match=r"\[\[budgets\]\] of legato.toml has two with per = 'server'"):
        fixed_budgets(load_settings())


async def test_what_is_spent_is_measured(node: Node, api: ASGIApp) -> None:
    """The share of each kind of budget, and how many calls were refused."""
    await say(node, "script: tokens=95", max_tokens=95)
    with pytest.raises(BudgetExceeded):
        await start(node, ANN, message())
    text = (await call(api, "GET", "/metrics")).body.decode()
    assert 'legato_budget_spent_ratio{per="server",period="month"} 0.95' in text
    assert 'legato_budget_refusals_total{per="server"} 1.0' in text
    assert 'legato_budget_refusals_total{per="key"} 0.0' in text
