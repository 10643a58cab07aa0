"""The documentation says what is so: reference pages, settings, links, files and tests that it names."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import legato
from docs import generate
from docs.from_code.errors import codes
from docs.from_code.http import openapi
from legato.adapters import create_models
from legato.cli.target import load_target
from legato.core.topics import SERVER_TOPICS
from legato.settings import CLIENT_VARIABLES, Settings, load_settings

ROOT = Path(generate.__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")])
HAND_WRITTEN = [page for page in PAGES if page.parent.name != "reference"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(info: str) -> Iterator[tuple[str, str]]:
    """Yield (page, code) of every fenced block that begins with these words."""
    for page in PAGES:
        for match in re.finditer(rf"^```{re.escape(info)}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            yield name_of(page), match[1]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).strip().replace(" ", "-")
        found[words] = found.get(words, -1) + 1
    return {words if not number else f"{words}-{number}" for words, most in found.items() for number in range(most + 1)}


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    """`make docs` would change nothing."""
    assert (generate.REFERENCE / name).read_text("utf-8") == generate.render(name), "run make docs"


def test_the_check_names_the_page_that_drifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with 1 and says what to run; with nothing to say it exits with 0."""
    assert generate.main(["--check"]) == 0
    for name in generate.PAGES:
        (tmp_path / name).write_text(generate.render(name) if name != "cli.md" else "# The command line\n")
    assert generate.drifted(tmp_path) == ["cli.md"]
    monkeypatch.setattr(generate, "drifted", lambda: ["cli.md"])
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert said == "docs/reference/cli.md is not what the code says: run make docs\n"
    assert generate.main(["--chekc"]) == 2


@pytest.mark.parametrize("columns", ["20", "300"])
def test_pages_do_not_depend_on_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes whatever its width, its language and the settings around."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LEGATO_PORT", "4000")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert generate.drifted() == []


def test_reference_pages_leave_nothing_out() -> None:
    """Every code, every route and every setting has its row; no secret has a default."""
    errors = generate.render("errors.md")
    assert all(f"`{code}`" in errors for code in codes())
    http = generate.render("http.md")
    for path, route in openapi()["paths"].items():
        assert all(f"### {method.upper()} {path}\n" in http for method in route)
    settings = generate.render("settings.md")
    assert all(f"| `{name}` |" in settings for name in Settings.model_fields)
    assert "SecretStr" not in settings
    steps = generate.render("steps.md")
    assert all(f"[`{name}`](" in steps for name in legato.__all__ if not name.startswith("_"))
    topics = generate.render("topics.md")
    assert all(f"\n## {topic}\n" in topics for topic in SERVER_TOPICS)


@pytest.mark.parametrize(("page", "toml"), list(blocks("toml config")))
def test_a_configuration_of_the_docs_loads(
    page: str, toml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every legato.toml that is shown is one, and its models can be made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    Path("legato.toml").write_text(toml)
    settings = load_settings()
    models = create_models(settings)
    assert list(models.order) == settings.model
    assert set(settings.models) <= set(models.names)


@pytest.mark.parametrize(("page", "code"), list(blocks("python bot.py")))
def test_a_bot_file_of_the_docs_loads(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bot file that is shown is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    Path("bot.py").write_text(code)
    settings = load_target("bot.py").settings()
    assert settings.system_prompt
    create_models(settings)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files exist, and so do the headings that are linked to."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors(goal), f"{name_of(page)}: {target}"


VARIABLE = re.compile(r"LEGATO_[A-Z_]*[A-Z]")
READ_BESIDE_SETTINGS = ("src/legato/core/compiled.py", "tests/postgres.py", "tests/valkey.py")
"""Files that read variables of their own: what is compiled, and the servers of the tests."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_variable_is_a_setting(page: Path) -> None:
    """No page names a setting that is not there."""
    known = {f"LEGATO_{name}".upper() for name in Settings.model_fields} | set(CLIENT_VARIABLES)
    for reader in READ_BESIDE_SETTINGS:
        known |= set(VARIABLE.findall((ROOT / reader).read_text()))
    assert set(VARIABLE.findall(page.read_text())) <= known


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=name_of)
def test_every_file_and_test_that_is_named_is_there(page: Path) -> None:
    """`runs/tail.py`, `tests/faults/kills.py::name` and their like."""
    for path, test in re.findall(r"`([\w./-]+/[\w-]+\.(?:py|toml|patch|c))(?:::(\w+))?`", page.read_text()):
        found = [base / path for base in (ROOT, ROOT / "src/legato", ROOT / "tests") if (base / path).is_file()]
        assert found, f"{name_of(page)}: {path}"
        if test:
            assert re.search(rf"def {test}\b", found[0].read_text()), f"{name_of(page)}: {path}::{test}"


def test_every_decision_is_listed() -> None:
    """The index names each record, and each record has a date and its four parts."""
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text()
    records = sorted(folder.glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        assert f"({record.name})" in index, record.name
        assert re.search(r"^\d{4}-\d{2}-\d{2}$", text, re.MULTILINE), record.name
        for part in ("Context", "Decision", "What it rests on", "What it costs"):
            assert f"\n## {part}\n" in text, (record.name, part)


def test_every_code_that_an_operator_is_told_of_exists() -> None:
    """The operator's table names codes of the tree alone, and every one that is an upstream's."""
    text = (ROOT / "docs/operations.md").read_text()
    rows = text[text.index("| code | what to do |") :].split("\n\n")[0].splitlines()[2:]
    named = {code for row in rows for code in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named <= codes()
    assert {code for code in codes() if code.startswith("upstream_")} <= named
