"""`legato new`: the project that it makes works as it stands, and so it does from an installed wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from docs import generate
from legato.cli import new
from tests.cli_process import WAIT_S, environment, legato
from tests.walkthrough import Walkthrough

ROOT = Path(generate.__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    done = legato(tmp_path, "new", "corner-shop")
    assert done.returncode == 0, done.stderr
    return tmp_path / "corner-shop"


def test_a_new_project_says_how_to_go_on(tmp_path: Path) -> None:
    """Its files, and the commands to run it; nothing is left to be filled in."""
    done = legato(tmp_path, "new", "my bots/corner-shop")
    assert done.returncode == 0, done.stderr
    assert "  cd 'my bots/corner-shop'\n  legato serve bot.py --reload" in done.stdout
    folder = tmp_path / "my bots/corner-shop"
    assert {path.name for path in folder.iterdir()} == {
        "bot.py",
        "test_bot.py",
        "legato.toml",
        "README.md",
        ".gitignore",
    }
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        assert "BOT_NAME" not in text
        assert text.endswith("\n")


def test_an_empty_folder_is_taken_and_is_not_gone_to(tmp_path: Path) -> None:
    """`legato new .` in a folder that was made for it."""
    done = legato(tmp_path, "new", ".")
    assert done.returncode == 0, done.stderr
    assert "  cd " not in done.stdout
    assert (tmp_path / "bot.py").is_file()


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("taken", 1, "legato: taken is there already and not empty: give another name"),
        ("file", 1, "legato: file is there already and not empty: give another name"),
        ("file/under", 1, "legato: file/under cannot be made: Not a directory"),
        ("my bot", 2, "'my bot' is no name for a bot"),
        ("-x", 2, "No such option"),
    ],
)
def test_a_project_that_cannot_be_made_is_refused(name: str, code: int, said: str, tmp_path: Path) -> None:
    """Nothing of what is there is touched."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/bot.py").write_text("mine")
    (tmp_path / "file").write_text("mine")
    done = legato(tmp_path, "new", name)
    assert done.returncode == code
    assert said in done.stderr
    assert (tmp_path / "taken/bot.py").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_a_new_project_works_as_it_stands(project: Path) -> None:
    """Its steps are listed, it is served and talked to, and its own tests pass."""
    done = legato(project, "steps", "bot.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("flow corner-shop\n  find_lead ")
    assert "tools\n  opening_hours  Tell when the shop is open.\n" in done.stdout
    page = project / "walk.md"
    page.write_text(WALK)
    reader = Walkthrough(project, model="scripted")
    try:
        reader.follow(page)
    finally:
        reader.close()
    page.unlink()
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=project,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_S * 2,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
    assert not legato(project, "doctor", "--offline", LEGATO_MODEL="scripted").returncode


WALK = """\
```sh serve
legato serve bot.py --reload
```

```sh run
legato chat "You can reach me at Ben@example.org"
```

```sh run until
curl -s http://localhost:3111/leads
```

```text
{"ben@example.org":{"session":"…","at":…}}
```
"""


@pytest.mark.slow
def test_the_wheel_has_the_new_projects_files(tmp_path: Path) -> None:
    """What is installed from a wheel can make a project too, and has the marker of typed packages."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_S * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"legato/cli/new_project/{file}.txt" for file in new.FILES} <= names
    assert "legato/py.typed" in names
    assert not {name for name in names if name.split("/")[0] not in ("legato", "legato-0.1.0.dist-info")}
