"""`legato state`: what is printed, what is refused, and beside a running server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from legato.cli.database import settings_of, write
from legato.cli.main import app
from legato.storage.state_rows import Place, put_value
from tests.cli_process import legato
from tests.client import Client
from tests.conftest import StartServer

Run = Callable[..., Result]
HELPS = ("state", "state get", "state set", "state list", "state delete")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`legato state …` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str, stdin: str | bytes = "") -> Result:
        return CliRunner().invoke(app, ["state", *arguments], input=stdin)

    return run


def keep(group: str, key: str, value: str, *, owner: str = "local", at_ms: int = 0, ttl_ms: int | None = None) -> None:
    """Put a value's JSON as of a time."""
    place = Place(owner=owner, group=group, key=key)
    write(settings_of(None, None), lambda tx: put_value(tx, place, value, at_ms, ttl_ms=ttl_ms, if_version=None))


@pytest.mark.parametrize("command", HELPS)
def test_every_help_has_examples_and_exit_codes(run: Run, command: str) -> None:
    """In 80 columns."""
    done = run(*command.split()[1:], "--help")
    assert done.exit_code == 0
    assert "Examples:" in done.stdout
    assert "Exit codes: 0" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ('{"b": 1, "a": [1.0, true, null]}', '{\n  "b": 1,\n  "a": [\n    1.0,\n    true,\n    null\n  ]\n}\n'),
        ('"Grüße 😀"', '"Grüße 😀"\n'),
        ("1", "1\n"),
        ("1.0", "1.0\n"),
        ("null", "null\n"),
        (' "\\u001b[31m\\u009b\\u007f" ', '"\\u001b[31m\\u009b\\u007f"\n'),
    ],
)
def test_a_value_is_printed_as_it_was_set(run: Run, given: str, printed: str) -> None:
    """As JSON that a terminal cannot be steered by; by an argument and by standard input."""
    assert run("set", "g", "k", given).stdout == "version 1\n"
    assert run("set", "g", "k", "-", stdin=given).stdout == "version 2\n"
    done = run("get", "g", "k")
    assert (done.stdout, done.stderr, done.exit_code) == (printed, "", 0)


def test_a_negative_number_stands_behind_two_dashes(run: Run) -> None:
    """As the help says."""
    assert run("set", "g", "k", "--", "-5").exit_code == 0
    assert run("get", "g", "k").stdout == "-5\n"
    assert run("set", "g", "k", "-5").exit_code == 2


@pytest.mark.parametrize("command", [("get", "leads", "ann"), ("delete", "leads", "ann")])
@pytest.mark.parametrize("exists", [False, True])
def test_what_is_absent_is_said_to_be(run: Run, command: tuple[str, ...], exists: bool, tmp_path: Path) -> None:
    """Exit 1 with and without a database, which is not made by looking; what has expired is absent."""
    if exists:
        keep("leads", "ann", "1", ttl_ms=1)
    done = run(*command)
    assert (done.stdout, done.exit_code) == ("", 1)
    assert done.stderr == "legato: there is no ann in leads: `legato state list` shows what is\n"
    assert exists or list(tmp_path.iterdir()) == []


def test_a_deleted_value_is_gone(run: Run) -> None:
    """Once."""
    run("set", "leads", "ann", "1")
    assert run("delete", "leads", "ann").stdout == "ann is deleted from leads\n"
    assert run("delete", "leads", "ann").exit_code == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("hello", """not JSON: malformed: invalid character (byte 0); for text give '"hello"'"""),
        ("{'a': 1}", "not JSON"),
        ('{"a": ', "not JSON"),
        ("NaN", "not JSON"),
        ("99999999999999999999", "64 bits"),
        ("[" * 70 + "]" * 70, "64 levels"),
        ("[" * 5000, "64 levels"),
        (f'"{"x" * 1_048_576}"', "1048576 bytes"),
        ('"\\u0000"', "NUL"),
        (b"\xff", "not UTF-8"),
        (b'"\x00"', "NUL"),
    ],
    ids=lambda each: each[:12] if isinstance(each, str) else None,
)
def test_what_cannot_be_kept_is_refused_in_a_sentence(run: Run, value: str | bytes, words: str, tmp_path: Path) -> None:
    """Exit 1, nothing written, no database made."""
    done = run("set", "g", "k", "-", stdin=value)
    assert (done.stdout, done.exit_code) == ("", 1)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_is_not_there_is_refused(run: Run) -> None:
    """Exit 1, by set and by delete; 0 is the version of what is absent."""
    assert run("set", "g", "k", "1", "--if-version", "1").stderr == (
        "legato: version 1 was asked for, there is none: read it again\n"
    )
    assert run("set", "g", "k", "1", "--if-version", "0").stdout == "version 1\n"
    done = run("set", "g", "k", "2", "--if-version", "0")
    assert done.stderr == "legato: the key was to be absent, version 1 is there: read it again\n"
    assert run("delete", "g", "k", "--if-version", "2").exit_code == 1
    assert run("get", "g", "k").stdout == "1\n"
    assert run("delete", "g", "k", "--if-version", "1").exit_code == 0


def test_a_group_is_listed_in_order_with_versions(run: Run) -> None:
    """A long value is cut in a terminal's width, never the key; what has expired is left out."""
    keep("leads", "ben", '"b"')
    keep("leads", "ann", '{"score": 7}')
    keep("leads", "ann", '{"score": 8}')
    keep("leads", "gone", "1", ttl_ms=1)
    lines = run("list", "leads").stdout.splitlines()
    assert [line.strip().split(maxsplit=2) for line in lines] == [
        ["key", "version", "value"],
        ["ann", "2", '{"score": 8}'],
        ["ben", "1", '"b"'],
    ]
    keep("leads", "cat", "1", at_ms=4_102_444_800_000, ttl_ms=1)
    assert "gone at" in run("list", "leads").stdout
    assert run("list", "leads", "--prefix", "b").stdout.count("\n") == 2


def test_a_list_for_programs_has_a_line_a_key(run: Run) -> None:
    """Whole values; where there are more, standard error says how to go on."""
    for number in range(5):
        keep("leads", f"k {number}", json.dumps(["x" * 500, number]))
    first = run("list", "leads", "--json", "--limit", "3")
    assert first.stderr == "legato: there are more: --after 'k 2'\n"
    rest = run("list", "leads", "--json", "--limit", "3", "--after", "k 2")
    assert rest.stderr == ""
    found = [json.loads(line) for line in (first.stdout + rest.stdout).splitlines()]
    assert found == [
        {"key": f"k {number}", "value": ["x" * 500, number], "version": 1, "expiresAtMs": None} for number in range(5)
    ]


def test_groups_are_listed_where_none_is_named(run: Run) -> None:
    """One a line; nothing is said to be nothing, with exit 0."""
    nothing = run("list")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert nothing.stderr == "legato: local keeps nothing; another owner's state: --owner NAME\n"
    for group in ("b", "a b", "c"):
        keep(group, "k", "1")
    assert run("list").stdout == "a b\nb\nc\n"
    assert run("list", "--prefix", "a").stdout == "a b\n"
    assert run("list", "--limit", "1").stderr == "legato: there may be more: --after 'a b'\n"
    assert run("list", "--after", "a b", "--json").stdout == '{"group": "b"}\n{"group": "c"}\n'
    assert run("list", "nonesuch", "--prefix", "x").stderr.startswith("legato: local keeps nothing in nonesuch that")


def test_each_owner_has_a_state_of_their_own(run: Run) -> None:
    """The local one unless another is named."""
    run("set", "g", "k", "1")
    run("set", "g", "k", "2", "--owner", "ben")
    assert run("get", "g", "k").stdout == "1\n"
    assert run("get", "g", "k", "--owner", "ben").stdout == "2\n"
    assert run("delete", "g", "k", "--owner", "ben").exit_code == 0
    assert "of ben" in run("get", "g", "k", "--owner", "ben").stderr
    assert run("list", "--owner", "ben").stdout == ""
    assert run("list").stdout == "g\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("get", "", "k"), "GROUP"),
        (("get", "g", ""), "KEY"),
        (("get", "g", "a\x1bb"), "KEY"),
        (("get", "g", "k", "--owner", ""), "--owner"),
        (("list", "--owner", ""), "--owner"),
        (("list", "g", "--after", "\n"), "--after"),
        (("list", "g", "--prefix", "\n"), "--prefix"),
        (("list", "g", "--limit", "0"), "--limit"),
        (("set", "g", "k", "1", "--ttl-s", "0"), "--ttl-s"),
        (("set", "conversations", "k", "1"), "cannot be written"),
        (("set", "g", "k", "1", "--if-version", "-1"), "--if-version"),
    ],
)
def test_a_wrong_command_line_is_named(run: Run, arguments: tuple[str, ...], words: str) -> None:
    """Exit 2, with or without a database."""
    for _ in range(2):
        done = run(*arguments)
        assert done.exit_code == 2
        assert words in done.stderr
        assert "\x1b" not in done.stderr
        keep("g", "k", "1")


@pytest.mark.slow
def test_state_is_set_and_read_beside_a_running_server(start_server: StartServer, tmp_path: Path) -> None:
    """While it writes, by processes of their own; nobody waits for anybody's end."""
    server = start_server()
    place = ("--data-dir", str(server.data_dir))
    stop = threading.Event()

    def write_replies() -> None:
        with Client(server.port) as client:
            while not stop.is_set():
                client.say("script: tokens=30 delay_ms=1 seed=3")

    writer = threading.Thread(target=write_replies)
    writer.start()
    try:
        for version in (1, 2, 3):
            done = legato(tmp_path, "state", "set", "g", "k", str(version), *place)
            assert (done.stdout, done.stderr) == (f"version {version}\n", "")
        assert legato(tmp_path, "state", "get", "g", "k", *place).stdout == "3\n"
        assert legato(tmp_path, "state", "delete", "g", "k", *place).returncode == 0
    finally:
        stop.set()
        writer.join()


@pytest.mark.slow
def test_a_database_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    """Exit 78, one sentence."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "legato.db").write_bytes(b"no database at all" * 400)
    for command in (("get", "g", "k"), ("set", "g", "k", "1"), ("list",), ("delete", "g", "k")):
        done = legato(tmp_path, "state", *command)
        assert done.returncode == 78
        assert len(done.stderr.splitlines()) == 1
