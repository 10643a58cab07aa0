"""The one schema, for SQLite and PostgreSQL. What PostgreSQL alone has is in storage.postgres_tables.

Times are milliseconds since the Unix epoch. JSON is text that this code writes and reads; no query looks inside.
Every row that belongs to somebody has an `owner`, and every query of it names one. `key` columns are internal;
`id` columns are what clients see.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    or_,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite's rowid alias must be spelled INTEGER; it is 64 bits wide all the same.
Key = BigInteger().with_variant(Integer, "sqlite")
# The order of its bytes in both databases, whatever the language of PostgreSQL's.
Word = String().with_variant(String(collation="C"), "postgresql")
Prose = Text().with_variant(Text(collation="C"), "postgresql")


def of_conversation(*, index: bool | None = None) -> Column[int]:
    """Return the column of what goes when its conversation does."""
    return Column(
        "conversation_key", Key, ForeignKey("conversation.key", ondelete="CASCADE"), nullable=False, index=index
    )


def _index_where(name: str, condition: str, *columns: str, unique: bool = False) -> Index:
    """Return an index of the rows alone for which it is so; in both databases."""
    return Index(name, *columns, unique=unique, sqlite_where=text(condition), postgresql_where=text(condition))


conversation = Table(
    "conversation",
    metadata,
    Column("key", Key, primary_key=True),
    Column("owner", Word, nullable=False),
    Column("id", Word, nullable=False),
    Column("title", Prose, nullable=False),
    # Who made the title: `words` (the first words), `model`, `user`.
    Column("title_source", Word, nullable=False),
    Column("system_prompt", Prose),
    Column("model", Word),
    Column("temperature", Float),
    Column("max_tokens", Integer),
    Column("metadata", Prose),
    # The tip of the active branch: the latest reply, finished or not. Depth 0 is an empty conversation.
    Column("leaf_id", Word),
    Column("leaf_branch", Word),
    Column("leaf_depth", Integer, nullable=False),
    Column("next_turn", Integer, nullable=False),
    Column("message_count", Integer, nullable=False),
    # `default`: deleted when it was idle for as long as its owner, or else the settings, say; `keep`: never; `36h`:
    # when it was idle for so long. A pinned one is kept too.
    Column("retention", Word, nullable=False, server_default="default"),
    # Of its own or of its owner's setting, in hours; null: as the server's settings say.
    Column("own_idle_h", Integer),
    # Since when nobody may delete it; and whether its owner's data may not be deleted (storage.audit_tables.keeping).
    Column("held_at_ms", BigInteger),
    Column("owner_held", Boolean, nullable=False, server_default=false()),
    Column("pinned", Boolean, nullable=False, server_default=false()),
    Column("archived", Boolean, nullable=False, server_default=false()),
    # Never listed and never searched.
    Column("temporary", Boolean, nullable=False, server_default=false()),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("last_message_at_ms", BigInteger, nullable=False),
    UniqueConstraint("owner", "id"),
    # A list passes over what it leaves out without reading its row.
    Index("ix_conversation_owner_last", "owner", "last_message_at_ms", "key", "archived", "temporary", "pinned"),
    _index_where("ix_conversation_archived", "archived AND NOT temporary", "owner", "last_message_at_ms", "key"),
    _index_where("ix_conversation_pinned", "pinned AND NOT temporary", "owner", "last_message_at_ms", "key"),
    # Nothing that is kept is in these: whoever deletes passes over it without reading it.
    _index_where(
        "ix_conversation_ages",
        "retention = 'default' AND own_idle_h IS NULL AND NOT pinned AND held_at_ms IS NULL AND NOT owner_held",
        "last_message_at_ms",
    ),
    _index_where(
        "ix_conversation_own_ages",
        "own_idle_h IS NOT NULL AND retention <> 'keep' AND NOT pinned AND held_at_ms IS NULL AND NOT owner_held",
        "own_idle_h",
        "last_message_at_ms",
    ),
    # For the person who is held, or lets go.
    _index_where("ix_conversation_held", "held_at_ms IS NOT NULL", "owner", "key"),
)

message = Table(
    "message",
    metadata,
    Column("key", Key, primary_key=True),
    Column("id", Word, nullable=False, unique=True),
    of_conversation(),
    Column("owner", Word, nullable=False),
    # A tree: an edit or a regenerated reply is a sibling. A branch is named by its first message; a message joins
    # its parent's branch unless that place is taken. So a page of a path is a few ranges of (branch, depth)
    # however deep it lies.
    Column("parent_id", Word),
    Column("branch", Word, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("role", Word, nullable=False),
    Column("parts", Prose, nullable=False),
    # `complete`, or for a reply also `queued`, `running`, `failed`, `stopped`.
    Column("status", Word, nullable=False),
    Column("run_id", Word),
    Column("session_id", Word),
    Column("model", Word),
    Column("usage", Prose),
    Column("metadata", Prose),
    Column("feedback", Prose),
    Column("created_at_ms", BigInteger, nullable=False),
    UniqueConstraint("conversation_key", "branch", "depth"),
    Index("ix_message_owner_created", "owner", "created_at_ms", "key"),
    Index("ix_message_session_created", "owner", "session_id", "created_at_ms", "key"),
    # Messages that begin a branch: a turn that goes on in one adds nothing here.
    _index_where("ix_message_heads", "branch = id", "conversation_key", "parent_id"),
)

run = Table(
    "run",
    metadata,
    Column("key", Key, primary_key=True),
    Column("id", Word, nullable=False, unique=True),
    of_conversation(),
    Column("owner", Word, nullable=False),
    Column("session_id", Word, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("state", Word, nullable=False),
    # Raised by each adoption: an append or an end under an older epoch is refused.
    Column("epoch", Integer, nullable=False),
    # The node that makes the reply. Null where none does: it waits, has ended, or is offered to whoever takes it.
    Column("node_key", BigInteger),
    # Adoptions after a crash; a hand-over at a planned stop does not count.
    Column("takeovers", Integer, nullable=False),
    Column("stop_by", Word),
    Column("user_message_id", Word, nullable=False),
    Column("message_id", Word, nullable=False),
    # 1 where the turn brought a message, 0 where it repeats a reply.
    Column("asks", Integer, nullable=False),
    # The key by which it was asked for; null where there was none.
    Column("key_id", Word),
    # What was asked for: model, temperature, max_tokens, system_prompt.
    Column("request", Prose, nullable=False),
    Column("model", Word),
    Column("calls", Integer, nullable=False),
    Column("usage", Prose),
    Column("finish_reason", Word),
    Column("error", Prose),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("started_at_ms", BigInteger),
    Column("first_token_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    # Durations, by a clock that does not jump: from the start to the end, and to the first token.
    Column("response_time_ms", BigInteger),
    Column("first_token_ms", BigInteger),
    UniqueConstraint("conversation_key", "turn"),
    _index_where("ix_run_running", "state = 'running'", "conversation_key", unique=True),
    _index_where("ix_run_queued", "state = 'queued'", "conversation_key", "turn"),
    _index_where("ix_run_node", "state = 'running'", "node_key"),
    _index_where("ix_run_unowned", "state = 'running' AND node_key IS NULL", "key"),
)

# A process that serves. It lives as long as it renews its lease in time, and is dead for good once it was fenced.
# Only the database's clock is asked for these times.
node = Table(
    "node",
    metadata,
    Column("key", Key, primary_key=True),
    Column("id", Word, nullable=False, unique=True),
    Column("host", Word, nullable=False),
    Column("pid", Integer, nullable=False),
    # Under which name the queue knows it.
    Column("executor_id", Word, nullable=False),
    Column("lease_ms", Integer, nullable=False),
    Column("beat_at", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("fenced_at", DateTime(timezone=True)),
    # It takes no runs, and gives away those that it has.
    Column("draining", Boolean, nullable=False, server_default=false()),
    # Of the runs that may be active over all nodes, how many it has taken for itself.
    Column("slots", Integer, nullable=False, server_default=text("0")),
    Column("version", Word, nullable=False),
)

# An answer to a question for approval that was given at another node than the run's, until that one has taken it.
decision = Table(
    "decision",
    metadata,
    Column("run_key", Key, ForeignKey("run.key", ondelete="CASCADE"), primary_key=True),
    Column("call_id", Word, primary_key=True),
    Column("granted", Boolean, nullable=False),
    Column("by", Word, nullable=False),
    Column("reason", Prose),
    Column("at_ms", BigInteger, nullable=False),
)

# One row: who knows no newer revision than the schema's own, but knows this one, can use the database all the same.
schema_floor = Table(
    "schema_floor",
    metadata,
    Column("id", Key, primary_key=True),
    Column("least_revision", Word, nullable=False),
)

# What one flush brought of one run, in the order of appending. No foreign key: rows go when the run is packed.
segment = Table(
    "segment",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_key", Key, nullable=False),
    Column("first_seq", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("schema", Integer, nullable=False),
    Column("format", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# The whole log of an ended run, packed, boundaries kept.
run_log = Table(
    "run_log",
    metadata,
    Column("run_key", Key, ForeignKey("run.key", ondelete="CASCADE"), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("schema", Integer, nullable=False),
    Column("format", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# No foreign key: a key outlives its run for 24 h, to be answered with 410.
request_key = Table(
    "request_key",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("key", Word, primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("run_id", Word, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("ix_request_key_created_at_ms", "created_at_ms"),
)

# What has happened, written by the transaction that made it happen, until it is handed to the queue.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Key, primary_key=True),
    Column("event_id", Word, nullable=False),
    Column("owner", Word, nullable=False),
    Column("topic", Word, nullable=False),
    Column("payload", Prose, nullable=False),
    Column("trace_id", Word),
    Column("at_ms", BigInteger, nullable=False),
)

# What is counted of a reply, once however often its events are delivered. `outcome` is null as long as only the
# feedback on it has arrived.
reply_count = Table(
    "reply_count",
    metadata,
    Column("run_id", Word, primary_key=True),
    of_conversation(index=True),
    Column("owner", Word, nullable=False),
    Column("session_id", Word, nullable=False),
    Column("model", Word),
    # `completed`, `failed`, `stopped`.
    Column("outcome", Word),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    # Whether the tokens are a guess, because the model's server told none.
    Column("estimated", Boolean, nullable=False, server_default=false()),
    # Billionths of a US dollar; null where the price is not known.
    Column("cost_nusd", BigInteger),
    Column("response_time_ms", BigInteger),
    Column("first_token_ms", BigInteger),
    Column("at_ms", BigInteger, nullable=False),
    Column("thumb", Word),
    Column("thumb_at_ms", BigInteger),
    Index("ix_reply_count_owner_at", "owner", "at_ms"),
    # For the figures of all owners together.
    Index("ix_reply_count_at", "at_ms"),
    Index("ix_reply_count_session", "owner", "session_id", "at_ms"),
)

# What was counted of replies whose conversations are gone: of nobody, and to the hour.
reply_total = Table(
    "reply_total",
    metadata,
    Column("key", Key, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("model", Word),
    Column("outcome", Word),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("estimated", Boolean, nullable=False, server_default=false()),
    Column("cost_nusd", BigInteger),
    Column("response_time_ms", BigInteger),
    Column("first_token_ms", BigInteger),
    Column("thumb", Word),
    Index("ix_reply_total_at_ms", "at_ms"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Word, primary_key=True),
    Column("owner", Word, nullable=False),
    Column("role", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger),
    # Of a publishable key alone: a JSON list of the pages' origins, and what signs its visitors' tokens.
    Column("origins", Prose),
    Column("signing_secret", LargeBinary),
    Index("ix_api_key_owner", "owner"),
    _index_where("ix_api_key_publishable", "origins IS NOT NULL AND revoked_at_ms IS NULL", "origins"),
)

# A page that is signed in: it has a cookie whose hash this is. It belongs to whom its key, or its account, belongs to.
sign_in = Table(
    "sign_in",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    # Empty where it came by an account.
    Column("key_id", Word, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    # What its owner knows it by, and how it came to be: `key`, `password`, `issuer`. Absent of one that an older
    # version has made.
    Column("id", Word),
    Column("owner", Word),
    Column("account_id", Word),
    Column("way", Word),
    Column("agent", Prose),
    Column("used_at_ms", BigInteger),
    # The cookie is exchanged now and then: what it is to become, until the browser has it, and what it was.
    Column("rotated_at_ms", BigInteger),
    Column("next_hash", LargeBinary),
    Column("next_at_ms", BigInteger),
    Column("former_hash", LargeBinary),
    Index("ix_sign_in_key_created", "key_id", "created_at_ms"),
    Index("ix_sign_in_expires_at_ms", "expires_at_ms"),
    Index("ix_sign_in_owner_created", "owner", "created_at_ms"),
    _index_where("ix_sign_in_account_created", "account_id IS NOT NULL", "account_id", "created_at_ms"),
    _index_where("ix_sign_in_next_hash", "next_hash IS NOT NULL", "next_hash"),
    _index_where("ix_sign_in_former_hash", "former_hash IS NOT NULL", "former_hash"),
)

# What a bot's own code keeps; group and key are its words. A row that has expired is as if it were not there.
state = Table(
    "state",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("group", Word, primary_key=True),
    Column("key", Word, primary_key=True),
    Column("value", Prose, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("updated_at_ms", BigInteger, nullable=False),
    _index_where("ix_state_expires_at_ms", "expires_at_ms IS NOT NULL", "expires_at_ms"),
)

# Written into the SQL, not bound: a partial index serves only a query that names its condition.
IS_QUEUED = run.c.state == literal_column("'queued'")
IS_RUNNING = run.c.state == literal_column("'running'")
IS_UNFINISHED = or_(IS_QUEUED, IS_RUNNING)
