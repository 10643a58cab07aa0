"""Tables that PostgreSQL alone has: SQLite keeps pieces in `segment`, and windows in the memory of its only process."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, Table
from sqlalchemy.dialects.postgresql import ARRAY

from legato.storage.tables import Word, metadata, node

postgres_metadata = MetaData(naming_convention=metadata.naming_convention)

# What one flush brought of one run; once the run is packed they go. The key also makes it impossible that two nodes
# write one place of a log, or one node writes it twice. No foreign key: a piece costs no look at its run.
piece = Table(
    "piece",
    postgres_metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("schema", Integer, nullable=False),
    Column("format", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.02"},
)

# How many commands a node has written: counted up by each in its own transaction. So a node whose connection broke off
# at a COMMIT finds out whether that took place. Pages are left half empty, so that a new count stays on its page.
command_mark = Table(
    "command_mark",
    postgres_metadata,
    Column("node_key", BigInteger, ForeignKey(node.c.key, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("serial", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

# What somebody has asked for lately, a time (epoch milliseconds) each. A crash of PostgreSQL empties it: limits begin
# anew then.
rate_window = Table(
    "rate_window",
    postgres_metadata,
    Column("key", Word, primary_key=True),
    Column("window_s", Integer, primary_key=True, autoincrement=False),
    Column("marks", ARRAY(BigInteger), nullable=False),
    # When all of them have left the window.
    Column("over_ms", BigInteger, nullable=False),
    prefixes=["UNLOGGED"],
)
