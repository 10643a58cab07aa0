"""Root keys over time: turned on, changed, and taken away; on both databases, beside servers and without them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.check_encryption import check_encryption
from legato.cli.encryption_keys import app
from legato.core.errors import ConfigurationError, SealBroken
from legato.storage.database import Database
from legato.storage.encryption import admit, read_record
from legato.storage.postgres import PostgresDatabase
from legato.storage.root_keys import make_root_key, parse_root_keys
from legato.storage.rotation import count_by_root, rewrap_page
from legato.storage.seal_old import seal_page
from legato.storage.sealing import TAG, Sealing
from legato.storage.sqlite import SqliteDatabase
from legato.storage.state import State
from tests.conftest import OpenNode
from tests.integration.test_encryption import ONE, OTHER_ONE, TWO
from tests.postgres import Postgres
from tests.postgres_world import node_database
from tests.service_world import LateClock, World


def with_keys(database: Database, keys: str) -> Database:
    """Return a database that is used with root keys."""
    roots = parse_root_keys(keys)
    assert roots is not None
    database.sealing = Sealing(roots)
    return database


def sqlite(folder: Path, keys: str) -> Database:
    return with_keys(SqliteDatabase(folder / "legato.db", durability="process"), keys)


def sealing_of(database: Database) -> Sealing:
    assert database.sealing is not None
    return database.sealing


def command(folder: Path, keys: str, *arguments: str) -> str:
    """Run a command of `legato keys encryption`; return what it prints."""
    result = CliRunner().invoke(app, [*arguments, "--data-dir", str(folder)], env={"LEGATO_ENCRYPTION_KEYS": keys})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def holds(path: Path, word: bytes) -> bool:
    return path.exists() and word in path.read_bytes()


async def fill(open_test_node: OpenNode, folder: Path, keys: str | None, count: int) -> list[str]:
    """Make conversations; return the replies."""
    settings = {} if keys is None else {"encryption_keys": keys}
    async with open_test_node(folder, **settings) as node:
        world = World(node, LateClock())
        for number in range(count):
            await world.say(f"c{number}", script="tokens=2")
        return await replies(world, count)


async def replies(world: World, count: int) -> list[str]:
    found = []
    for number in range(count):
        page = await world.conversations().messages(f"c{number}")
        found.append(page.messages[-1].parts[0]["text"])
    return found


async def test_a_rotation_that_was_cut_goes_on(open_test_node: OpenNode, tmp_path: Path) -> None:
    """Every data key is wrapped anew once, nothing else is written, and the old root key is not needed any more."""
    said = await fill(open_test_node, tmp_path, ONE, 7)
    both = f"{TWO},{ONE}"
    with closing(sqlite(tmp_path, both)) as database:
        database.open()
        before = database.transact(count_by_root, writes=False)
        assert database.transact(lambda tx: rewrap_page(tx, sealing_of(database), most=3), writes=True) == 3
        # The process ends here.
    with closing(sqlite(tmp_path, both)) as database:
        assert database.transact(count_by_root, writes=False) == {"one": before["one"] - 3, "two": 3}
        assert "legato keys encryption rotate" in command(tmp_path, both, "status")
    assert f"{before['one'] - 3} data keys are wrapped anew" in command(tmp_path, both, "rotate")
    assert "one: 0 data keys, not needed" in command(tmp_path, both, "status")
    async with open_test_node(tmp_path, encryption_keys=TWO) as node:
        assert await replies(World(node, LateClock()), 7) == said
    with closing(sqlite(tmp_path, ONE)) as database, pytest.raises(ConfigurationError, match="'two'"):
        database.open()


async def test_a_server_at_work_follows_a_rotation(open_test_node: OpenNode, tmp_path: Path) -> None:
    """What it makes from then on is wrapped under the new root key, though it was started with the old one in front."""
    async with open_test_node(tmp_path, encryption_keys=f"{ONE},{TWO}") as node:
        world = World(node, LateClock())
        await world.say("before", script="tokens=1")
        command(tmp_path, f"{TWO},{ONE}", "rotate")
        await world.say("after", script="tokens=1")
        await world.say("before", script="tokens=1")
        roots = await world.rows("SELECT DISTINCT root_id FROM data_key")
        assert roots == [("two",)]


async def test_a_data_key_under_a_key_that_is_missing_is_named(open_test_node: OpenNode, tmp_path: Path) -> None:
    """At the start of a server: nothing is served that could not be read."""
    await fill(open_test_node, tmp_path, ONE, 1)
    await fill(open_test_node, tmp_path, f"{TWO},{ONE}", 2)
    with closing(sqlite(tmp_path, TWO)) as database, pytest.raises(ConfigurationError, match="key 'one'"):
        database.open()


async def test_what_was_there_before_is_sealed_page_by_page(open_test_node: OpenNode, tmp_path: Path) -> None:
    """However often it is cut; then nothing may be plain, and nothing plain is left in the file."""
    said = await fill(open_test_node, tmp_path, None, 60)
    async with open_test_node(tmp_path) as node:
        state = State(node.database, node.committer, node.clock, "ann")
        for number in range(60):
            await state.set("g", f"k{number}", "zqstate")
    assert b"zqstate" in (tmp_path / "legato.db").read_bytes()
    with closing(sqlite(tmp_path, ONE)) as database:
        database.open()
        assert "older rows may be plain" in command(tmp_path, ONE, "status")
        for _ in range(2):
            assert database.transact(lambda tx: seal_page(tx, sealing_of(database)), writes=True)
    assert "everything is sealed" in command(tmp_path, ONE, "seal")
    assert "may be plain" not in command(tmp_path, ONE, "status")
    for name in ("legato.db", "legato.db-wal"):
        assert not holds(tmp_path / name, b"zqstate")
        assert not holds(tmp_path / name, b"script: tokens")
    async with open_test_node(tmp_path, encryption_keys=ONE) as node:
        world = World(node, LateClock())
        assert await replies(world, 60) == said
        assert await State(node.database, node.committer, node.clock, "ann").get("g", "k59") == "zqstate"
        for sql in ("SELECT parts FROM message", "SELECT title FROM conversation", "SELECT request FROM run"):
            assert all(value.startswith(TAG) for (value,) in await world.rows(sql))
        await world.execute("UPDATE message SET parts = '[]' WHERE key = 1")
        with pytest.raises(SealBroken):
            await world.conversations().messages("c0")


async def test_a_deleted_key_is_not_left_in_the_file(open_test_node: OpenNode, tmp_path: Path) -> None:
    """A copy of the file that is made later cannot open an older copy of the rows; nor can that with its root key."""
    async with open_test_node(tmp_path, encryption_keys=ONE) as node:
        world = World(node, LateClock())
        await world.say("kept", script="tokens=1")
        await world.say("deleted", script="tokens=1")
        wrapped = [row[0] for row in await world.rows("SELECT wrapped FROM data_key WHERE owner IS NULL ORDER BY key")]
        await world.conversations().delete("deleted")
    assert [holds(tmp_path / "legato.db", each) for each in wrapped] == [True, False]
    assert not (tmp_path / "legato.db-wal").exists()


async def test_doctor_says_how_it_stands(open_test_node: OpenNode, tmp_path: Path) -> None:
    """Off, about to be turned on, on, and what is to be done."""
    plain = SqliteDatabase(tmp_path / "legato.db")
    assert check_encryption(plain).found.startswith("off:")
    assert check_encryption(sqlite(tmp_path, ONE)).found == "the next start turns it on, under one"
    await fill(open_test_node, tmp_path, None, 1)
    await fill(open_test_node, tmp_path, ONE, 1)
    assert (check_encryption(plain).state, check_encryption(sqlite(tmp_path, TWO)).state) == ("wrong", "wrong")
    assert check_encryption(sqlite(tmp_path, ONE)).mend == "legato keys encryption seal"
    command(tmp_path, ONE, "seal")
    assert check_encryption(sqlite(tmp_path, ONE)).found == "on, under one"
    await fill(open_test_node, tmp_path, f"{TWO},{ONE}", 1)
    assert check_encryption(sqlite(tmp_path, f"{TWO},{ONE}")).mend == "legato keys encryption rotate"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (TWO, "the encryption key 'one', which this database is sealed under, is not in LEGATO_ENCRYPTION_KEYS"),
        (OTHER_ONE, "the encryption key 'one' of LEGATO_ENCRYPTION_KEYS is not the one"),
        ("one", "entry 1 is not of the form id:base64key"),
        ("one:c2hvcnQ=", "the key 'one' is not 32 bytes in base64"),
        (f"{ONE},{OTHER_ONE}", "the id 'one' stands there twice"),
        ("a/b:c2hvcnQ=", "the id of an encryption key is 1 to 40 letters"),
    ],
)
def test_a_wrong_key_is_named_at_the_start(tmp_path: Path, keys: str, said: str) -> None:
    """And none is repeated."""
    with closing(sqlite(tmp_path, ONE)) as database:
        database.open()
    with pytest.raises(ConfigurationError) as refused, closing(sqlite(tmp_path, keys)) as database:
        database.open()
    assert said in refused.value.message
    assert keys.partition(":")[2] not in refused.value.message or ":" not in keys


async def test_a_command_without_keys_reads_and_writes_nothing(open_test_node: OpenNode, tmp_path: Path) -> None:
    """It would read noise, and write in clear."""
    await fill(open_test_node, tmp_path, ONE, 1)
    for writes in (False, True):
        with (
            closing(SqliteDatabase(tmp_path / "legato.db")) as database,
            pytest.raises(ConfigurationError, match="is encrypted"),
        ):
            database.transact(lambda tx: None, writes=writes)


def test_nodes_of_one_database_have_its_current_key(postgres: Postgres) -> None:
    """Who has none, another, or one of that name only, is not let in."""
    url = postgres.make_database()
    first = with_keys(PostgresDatabase(url), ONE)
    first.open()
    for keys in (TWO, OTHER_ONE):
        with pytest.raises(ConfigurationError, match="encryption key 'one'"):
            with_keys(PostgresDatabase(url), keys).open()
    with pytest.raises(ConfigurationError, match="is encrypted"):
        PostgresDatabase(url).open()
    second = with_keys(PostgresDatabase(url), f"{TWO},{ONE}")
    second.open()
    with pytest.raises(ConfigurationError, match="encryption key 'two'"):
        with_keys(PostgresDatabase(url), ONE).open()
    third = with_keys(PostgresDatabase(url), f"{ONE},{TWO}")
    third.open()
    # The key in use is the one that came last, whoever is put in front.
    assert sealing_of(third).current.id == "two"
    for database in (first, second, third):
        database.close()
    postgres.drop_database(url)


def test_it_is_not_turned_on_below_servers_without_it(postgres: Postgres) -> None:
    """They would go on in clear."""
    with node_database(postgres) as url:
        database = with_keys(PostgresDatabase(url), ONE)
        with pytest.raises(ConfigurationError, match="servers without encryption use the database"):
            database.open()
        with postgres.connect(url) as connection:
            connection.execute("DELETE FROM node")
        database.open()
        assert database.transact(lambda tx: read_record(tx, sealing_of(database)), writes=False).plain == {}
        assert database.transact(lambda tx: admit(tx, database.sealing), writes=False)
        database.close()


async def test_replies_over_postgresql_are_read_again(
    open_test_node: OpenNode, tmp_path: Path, postgres: Postgres
) -> None:
    """And rotated there."""
    url = postgres.make_database()
    async with open_test_node(database_url=url, database_pool=2, encryption_keys=ONE) as node:
        world = World(node, LateClock())
        await world.say("c0", script="tokens=30 every_ms=1")
        said = await replies(world, 1)
    database = with_keys(PostgresDatabase(url), f"{TWO},{ONE}")
    database.open()
    while database.transact(lambda tx: rewrap_page(tx, sealing_of(database)), writes=True):
        pass
    database.close()
    async with open_test_node(database_url=url, database_pool=2, encryption_keys=TWO) as node:
        assert await replies(World(node, LateClock()), 1) == said
    postgres.drop_database(url)


@pytest.mark.parametrize("form", ["{0},{1}", "{0} {1}", "{0}\n# the next\n{1}\n"])
def test_keys_are_read_in_their_order(form: str, tmp_path: Path) -> None:
    """From the variable, or from a file that nobody else can read."""
    text = form.format(make_root_key("a"), make_root_key("b"))
    found = parse_root_keys(text)
    assert found is not None
    assert list(found.by_id) == ["a", "b"]
    assert found.first.id == "a"
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        parse_root_keys(f"@{path}")
    path.chmod(0o600)
    of_file = parse_root_keys(f"@{path}")
    assert of_file is not None
    assert list(of_file.by_id) == ["a", "b"]
    assert parse_root_keys(" ") is None


def test_commands_say_where_encryption_is_off(tmp_path: Path) -> None:
    """They change nothing there; a new key can be taken as it is printed."""
    made = CliRunner().invoke(app, ["new", "--id", "spring"])
    assert made.exit_code == 0
    found = parse_root_keys(made.stdout)
    assert found is not None
    assert found.first.id == "spring"
    for keys, said in (("", "encryption is off"), (made.stdout.strip(), "encryption is not on yet")):
        for name in ("status", "rotate", "seal"):
            given = {"LEGATO_ENCRYPTION_KEYS": keys}
            result = CliRunner().invoke(app, [name, "--data-dir", str(tmp_path)], env=given)
            assert result.exit_code == 1, (name, result.output)
            assert said in result.output
    assert list(tmp_path.iterdir()) == []
