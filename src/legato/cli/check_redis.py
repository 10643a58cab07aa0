"""What `legato doctor` looks at where nodes have a Redis server between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from legato.cli.check import Check
from legato.cli.describe import without_credentials

if TYPE_CHECKING:
    from legato.settings import Settings

CONNECT_S: Final = 3.0


def check_redis(settings: Settings, *, offline: bool) -> Check:
    """Look whether the server that hints go through answers; nodes run without it, only slower to notice."""
    name = "hints"
    if settings.redis_url is None:
        return Check(name=name, state="ok", found="nodes tell each other through PostgreSQL")
    url = settings.redis_url.get_secret_value()
    where = without_credentials(url)
    if offline:
        return Check(name=name, state="ok", found=f"through {where}, not tried")
    import redis

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=CONNECT_S, socket_timeout=CONNECT_S) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        said = "the password is wrong or missing" if isinstance(error, redis.AuthenticationError) else "no answer"
        mend = "check LEGATO_REDIS_URL; until then readers on other nodes are a quarter of a second late"
        return Check(name=name, state="note", found=f"{where}: {said}", mend=mend)
    return Check(name=name, state="ok", found=f"through {where}")
