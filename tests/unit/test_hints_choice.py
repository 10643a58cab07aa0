"""Which hints a node has, and what an address of Redis must look like; none of it repeats a password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from legato.adapters import create_hints
from legato.core.errors import ConfigurationError
from legato.fanout.memory import MemoryHints
from legato.fanout.notify import NotifyHints
from legato.fanout.redis import RedisHints
from legato.settings import Settings, load_settings
from legato.storage.database import Database, open_database

POSTGRES = "postgresql://legato:pg-secret@localhost:5432/legato"
REDIS = "redis://legato:redis-secret@localhost:6379/0"


def opened(tmp_path: Path, **given: Any) -> tuple[Settings, Database]:
    settings = Settings(data_dir=tmp_path, **given)
    return settings, open_database(settings)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, MemoryHints),
        ({"redis_url": REDIS}, MemoryHints),
        ({"database_url": POSTGRES}, NotifyHints),
        ({"database_url": POSTGRES, "redis_url": REDIS}, RedisHints),
        ({"database_url": POSTGRES, "redis_url": REDIS.replace("redis:", "rediss:")}, RedisHints),
    ],
    ids=["sqlite", "sqlite and redis", "postgresql", "postgresql and redis", "redis over tls"],
)
def test_hints_go_with_the_database(tmp_path: Path, given: dict[str, Any], kind: type) -> None:
    """SQLite has one process; the database tells nodes of each other unless there is a Redis."""
    settings, database = opened(tmp_path, **given)
    assert type(create_hints(settings, database, "a database")) is kind


@pytest.mark.parametrize(
    "address", ["localhost:6379", "http://a:redis-secret@b", "redis-secret", "unix:///redis-secret"]
)
def test_an_address_of_something_else_is_refused(address: str) -> None:
    """Before anything is opened, in a sentence that says what is right and holds nothing of it."""
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(redis_url=address)
    assert "redis_url" in refusal.value.message
    assert "redis://" in refusal.value.message
    assert "secret" not in refusal.value.message


def test_an_address_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A password with a bare @ or / in it is not repeated."""
    settings, database = opened(tmp_path, database_url=POSTGRES, redis_url="redis://:redis/secret@localhost:port")
    with pytest.raises(ConfigurationError) as refusal:
        create_hints(settings, database, "a database")
    assert "secret" not in str(refusal.value)
    assert "redis-secret" not in repr(Settings(redis_url=REDIS))
