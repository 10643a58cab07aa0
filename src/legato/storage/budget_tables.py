"""The tables of budgets. Amounts are billionths of a US dollar."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, text

from legato.storage.tables import Word, metadata

# A budget that was set while the server runs; those of legato.toml have no row.
budget = Table(
    "budget",
    metadata,
    Column("per", Word, primary_key=True),
    Column("name", Word, primary_key=True),
    Column("period", Word, primary_key=True),
    Column("limit_nusd", BigInteger, nullable=False),
    Column("warn_percent", Integer, nullable=False),
    Column("set_by", Word, nullable=False),
    Column("set_at_ms", BigInteger, nullable=False),
)

# What is spent and reserved of a budget by one subject in one period. All calls of a server may change one row:
# pages are left half empty, so that a new version stays on its page, and no index holds a sum.
budget_use = Table(
    "budget_use",
    metadata,
    # core.budget.use_id
    Column("id", Word, primary_key=True),
    # A principal's id, or the server's own. It and the subject are emptied when a principal is erased.
    Column("owner", Word, nullable=False),
    Column("per", Word, nullable=False),
    Column("subject", Word, nullable=False),
    Column("period", Word, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    # Null: it never begins anew.
    Column("until_ms", BigInteger),
    # As the budget was when it was asked last.
    Column("limit_nusd", BigInteger, nullable=False),
    Column("warn_nusd", BigInteger, nullable=False),
    Column("spent_nusd", BigInteger, nullable=False, server_default=text("0")),
    Column("reserved_nusd", BigInteger, nullable=False, server_default=text("0")),
    # 0: nobody was told; 1: that much of it is spent; 2: that it is spent.
    Column("told", Integer, nullable=False, server_default=text("0")),
    Index("ix_budget_use_per", "per", "period", "since_ms", "subject"),
    Index("ix_budget_use_until_ms", "until_ms"),
    Index("ix_budget_use_owner", "owner"),
    postgresql_with={"fillfactor": "50"},
)

# What a call, or the calls of one reply, may still cost: one row for each counter. It goes when it is settled.
budget_hold = Table(
    "budget_hold",
    metadata,
    # The run's id; of a title's or a judge's call, one of its own.
    Column("id", Word, primary_key=True),
    Column("use_id", Word, primary_key=True),
    Column("amount_nusd", BigInteger, nullable=False),
    Column("run_id", Word, nullable=False),
    # `reply`, `title`, `judge`.
    Column("purpose", Word, nullable=False),
    # Calls of the run that were over, and settled, when it was reserved.
    Column("calls_before", Integer, nullable=False),
    # Who makes the calls; null where one process has the database to itself.
    Column("node_key", BigInteger),
    Column("at_ms", BigInteger, nullable=False),
)
