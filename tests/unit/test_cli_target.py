"""What `legato serve TARGET` names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from legato.app import Legato
from legato.cli.target import load_target
from legato.core.errors import ConfigurationError

MAKE = "from legato.app import Legato\n"
FILES = {
    "broken.py": "x = 1\n1 / 0\n",
    "wrong.py": "x = (\n",
    "needs.py": "import nonesuch\n",
    "leaves.py": "raise SystemExit(3)\n",
    "empty.py": "x = 1\n",
    "two.py": MAKE + "a = Legato(port=1)\nb = Legato(port=2)\n",
    "one.py": MAKE + "bot = Legato(port=3)\n",
    "typo.py": MAKE + "app = Legato(prot=1)\n",
    "types.py": "import types\n" + MAKE + "assert types.ModuleType\napp, other = Legato(port=4), Legato(port=5)\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds FILES; what is imported from it is forgotten afterwards."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in FILES:
        if name != "types.py":
            monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)


@pytest.mark.parametrize(
    ("target", "port"),
    [("types.py", 4), ("one.py", 3), ("one", 3), ("one:bot", 3), ("two.py:b", 2), ("two:a", 1), ("./one.py:bot", 3)],
)
def test_a_target_is_found(target: str, port: int) -> None:
    """By file or module: `app`, the one that is named, or the only one."""
    app = load_target(target)
    assert isinstance(app, Legato)
    assert app.defaults == {"port": port}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("none.py", "there is no file none.py: give a file such as bot.py, or module:app"),
        ("none:app", "there is no module none here"),
        ("none.deep:app", "there is no module none here"),
        ("a b", "'a b' names no app"),
        (":app", "':app' names no app"),
        ("broken.py", "broken.py does not import: ZeroDivisionError: division by zero (broken.py, line 2)"),
        ("wrong.py", "wrong.py does not import: '(' was never closed (wrong.py, line 1)"),
        ("wrong", "wrong does not import: '(' was never closed (wrong.py, line 1)"),
        ("needs:app", "needs does not import: ModuleNotFoundError: No module named 'nonesuch' (needs.py, line 1)"),
        ("leaves.py", "leaves.py does not import: SystemExit: 3"),
        ("empty.py", "empty.py has no Legato object"),
        ("two.py", "two.py has several Legato objects (a, b)"),
        ("two.py:c", "two.py has no Legato object named c; it has a, b"),
        ("typo.py", "typo.py: unknown setting prot"),
    ],
)
def test_what_is_no_target_is_named(target: str, said: str) -> None:
    """One sentence each, with the place of the fault."""
    with pytest.raises(ConfigurationError) as refused:
        load_target(target)
    assert refused.value.message.startswith(said)
    assert "\n" not in refused.value.message
