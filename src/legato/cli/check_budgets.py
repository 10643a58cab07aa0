"""What `legato doctor` looks at of the budgets: whether they can be held to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from legato.cli.check import Check
from legato.cli.describe import describe_prices
from legato.core.errors import ConfigurationError, StorageUnavailable

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.database import Database


def check_budgets(settings: Settings, database: Database) -> Iterator[Check]:
    """Yield a check of the budgets: those that there are, and models that they keep from being called."""
    from legato.policies.budget import fixed_budgets, merged
    from legato.storage.budgets import find_budgets
    from legato.storage.migrate import HEAD

    try:
        fixed = fixed_budgets(settings)
    except ConfigurationError as error:
        yield Check(name="budgets", state="wrong", found=error.message)
        return
    try:
        # One of an older version would be brought to this one's.
        revision = database.revision()
        added = database.transact(find_budgets, writes=False) if revision is not None and revision >= HEAD else []
    except (ConfigurationError, StorageUnavailable):
        # The check of the database says why.
        added = []
    budgets = merged(fixed, added)
    if not budgets:
        yield Check(name="budgets", state="skipped", found="none is set")
        return
    yield Check(
        name="budgets",
        state="ok",
        found="; ".join(f"{each.per} {each.name}: {each.limit} $ ({each.period})" for each in budgets),
    )
    spending = settings.spending
    try:
        unpriced = [each.model for each in describe_prices(settings) if each.price is None]
    except ConfigurationError:
        return
    if unpriced and spending.unknown_call_usd is None and spending.unknown_million_usd is None:
        yield Check(
            name="budgets",
            state="note",
            found=f"{', '.join(unpriced)} is not called where one holds: its price is not known",
            mend='set [prices."MODEL"], or unknown_call_usd of [spending], in legato.toml',
        )
