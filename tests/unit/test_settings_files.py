"""Which `legato.toml` and which `.env` are read: those of the working directory, else those beside the bot's file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from legato.adapters import create_mcp_server, create_models
from legato.app import Legato
from legato.cli.target import load_target
from legato.core.errors import ConfigurationError
from legato.settings import load_settings

BOT = 'from legato import Legato\napp = Legato(port=1, system_prompt="the app\'s")\n'


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bot is `bots/my/bot.py`, seen from the working directory."""
    (tmp_path / "bots/my").mkdir(parents=True)
    (tmp_path / "bots/my/bot.py").write_text(BOT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("LEGATO_PORT", "LEGATO_TITLES"):
        monkeypatch.delenv(name, raising=False)


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


@pytest.mark.parametrize(
    ("files", "port", "prompt"),
    [
        ({}, 1, "the app's"),
        ({"bots/my/legato.toml": 'port = 2\nsystem_prompt = "beside"'}, 2, "beside"),
        ({"bots/my/.env": "LEGATO_PORT=3"}, 3, "the app's"),
        ({"bots/my/legato.toml": "port = 2", "bots/my/.env": "LEGATO_PORT=3"}, 3, "the app's"),
        # One that is there is read alone: what is set beside the bot is not mixed into it.
        ({"legato.toml": "port = 4", "bots/my/legato.toml": 'port = 2\nsystem_prompt = "beside"'}, 4, "the app's"),
        ({".env": "LEGATO_PORT=5", "bots/my/.env": "LEGATO_PORT=3"}, 5, "the app's"),
        # Each by itself.
        ({".env": "LEGATO_PORT=5", "bots/my/legato.toml": 'port = 2\nsystem_prompt = "beside"'}, 5, "beside"),
        ({"legato.toml": "port = 4", "bots/my/.env": "LEGATO_PORT=3"}, 3, "the app's"),
        ({"bots/legato.toml": "port = 6"}, 1, "the app's"),
    ],
)
def test_files_beside_the_bot_stand_in_for_those_of_the_working_directory(
    files: dict[str, str], port: int, prompt: str
) -> None:
    """Each of the two by itself, whole, and no other folder's."""
    for path, text in files.items():
        write(path, text)
    settings = load_target("bots/my/bot.py:app").settings()
    assert (settings.port, settings.system_prompt) == (port, prompt)


def test_from_its_own_folder_a_bot_has_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is started makes no difference as long as no other file is there."""
    write("bots/my/legato.toml", "port = 2")
    write("bots/my/.env", "LEGATO_TITLES=words")
    there = load_target("bots/my/bot.py").settings()
    monkeypatch.chdir("bots/my")
    here = load_target("bot.py").settings()
    assert (there.port, there.titles) == (here.port, here.titles) == (2, "words")
    assert (there.env_file, here.env_file) == (Path("bots/my/.env"), Path(".env"))


def test_what_names_no_file_reads_the_working_directory_alone() -> None:
    """A module is found by its name, wherever it lies."""
    write("bots/my/legato.toml", "port = 2")
    write("bots/__init__.py", "")
    write("bots/my/__init__.py", "")
    assert load_target("bots.my.bot").settings().port == 1
    assert load_settings().port == 3111
    assert Legato().settings().port == 3111


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("bots/my/legato.toml", "prot = 2", "bots/my/legato.toml: unknown setting prot: did you mean port?"),
        ("bots/my/legato.toml", "port = ", "bots/my/legato.toml or .env: "),
        ("bots/my/.env", "LEGATO_PROT=2", "unknown setting LEGATO_PROT"),
        ("bots/my/legato.toml", "[mcp.a]\ncommand = 5", "mcp.a.command: "),
        ("bots/my/legato.toml", "[mcp.a]\ncommand = 'x'\ncwd = 5", "mcp.a.cwd: "),
        ("bots/my/legato.toml", "mcp = 5", "mcp: "),
    ],
)
def test_what_is_wrong_beside_the_bot_is_named(path: str, text: str, said: str) -> None:
    """With the file where it is."""
    write(path, text)
    with pytest.raises(ConfigurationError) as refused:
        load_target("bots/my/bot.py").settings()
    assert said in refused.value.message


def test_keys_are_found_in_the_env_file_that_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of models and of tools, which the settings only name."""
    monkeypatch.delenv("SHOP_KEY", raising=False)
    write("bots/my/.env", "SHOP_KEY=k")
    write(
        "bots/my/legato.toml",
        "[models.shop]\napi_key_env = 'SHOP_KEY'\n[mcp.shop]\ncommand = 'x'\npass_env = ['SHOP_KEY']",
    )
    settings = load_target("bots/my/bot.py").settings(model=["shop"])
    assert create_models(settings).order == ("shop",)
    assert create_mcp_server("shop", settings.mcp["shop"], settings)


@pytest.mark.parametrize(
    ("cwd", "found"),
    [(None, "bots/my"), ("tools", "bots/my/tools"), ("..", "bots/my/.."), ("/srv/tools", "/srv/tools")],
)
def test_a_program_starts_where_its_legato_toml_lies(cwd: str | None, found: str) -> None:
    """Its arguments may name files there, as they do when the bot is started there."""
    server = "[mcp.orders]\ncommand = 'python'\nargs = ['orders.py']\n" + (f"cwd = '{cwd}'\n" if cwd else "")
    web = "[mcp.web]\nurl = 'https://tools.example/mcp'\n"
    write("bots/my/legato.toml", server + web)
    settings = load_target("bots/my/bot.py").settings()
    assert settings.mcp["orders"].cwd == Path(found)
    assert settings.mcp["web"].cwd is None
    write("legato.toml", server)
    assert load_target("bots/my/bot.py").settings().mcp["orders"].cwd == (Path(cwd) if cwd else None)
