"""Nodes: who makes a reply, what they share, and PostgreSQL's own tables

Only adds: what knows 0005 alone can still read and write what it knows.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
PROSE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
RUNS = (
    ("ix_run_node", "node_key", "state = 'running'"),
    ("ix_run_unowned", "key", "state = 'running' AND node_key IS NULL"),
)
# What the revisions before made in the language of the database.
OTHER_ORDER = """
SELECT table_name, column_name, CASE data_type WHEN 'text' THEN 'text' ELSE 'varchar' END
FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name <> 'alembic_version'
AND data_type IN ('text', 'character varying') AND collation_name IS DISTINCT FROM 'C'
"""
SEARCH = (
    # As storage.search_postgres asks for it: every word has its owner's mark in front.
    "CREATE INDEX ix_search_entry_words ON search_entry"
    " USING gin (array_to_tsvector(string_to_array(mark || replace(words, ' ', ' ' || mark), ' ')))",
    # Keys are not committed in their order: what is to be indexed is noted, not counted.
    "CREATE FUNCTION legato_message_due() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " INSERT INTO search_due (conversation_key, message_key) SELECT conversation_key, key FROM added;"
    " RETURN NULL; END $$",
    "CREATE TRIGGER message_due AFTER INSERT ON message REFERENCING NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION legato_message_due()",
)


def upgrade() -> None:
    op.add_column("run", sa.Column("node_key", sa.BigInteger(), nullable=True))
    for name, column, condition in RUNS:
        op.create_index(name, "run", [column], sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))
    op.create_table(
        "node",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", WORD, nullable=False),
        sa.Column("host", WORD, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("executor_id", WORD, nullable=False),
        sa.Column("lease_ms", sa.Integer(), nullable=False),
        sa.Column("beat_at", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("fenced_at", TIME, nullable=True),
        sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("slots", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("version", WORD, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_node")),
        sa.UniqueConstraint("id", name=op.f("uq_node_id")),
    )
    op.create_table(
        "decision",
        sa.Column("run_key", KEY, nullable=False, autoincrement=False),
        sa.Column("call_id", WORD, nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("by", WORD, nullable=False),
        sa.Column("reason", PROSE, nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["run.key"], name=op.f("fk_decision_run_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "call_id", name=op.f("pk_decision")),
    )
    op.create_table(
        "schema_floor",
        sa.Column("id", KEY, nullable=False),
        sa.Column("least_revision", WORD, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schema_floor")),
    )
    op.execute("INSERT INTO schema_floor (id, least_revision) VALUES (1, '0005')")
    if op.get_bind().dialect.name == "postgresql":
        _upgrade_postgres()


def _upgrade_postgres() -> None:
    quoted = op.get_bind().dialect.identifier_preparer.quote
    for table, column, kind in op.get_bind().exec_driver_sql(OTHER_ORDER).all():
        op.execute(f'ALTER TABLE {quoted(table)} ALTER COLUMN {quoted(column)} TYPE {kind} COLLATE "C"')
    op.create_table(
        "piece",
        sa.Column("run_key", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("first_seq", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("schema", sa.Integer(), nullable=False),
        sa.Column("format", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", "first_seq", name=op.f("pk_piece")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_table(
        "command_mark",
        sa.Column("node_key", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["node_key"], ["node.key"], name=op.f("fk_command_mark_node_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_key", name=op.f("pk_command_mark")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "rate_window",
        sa.Column("key", WORD, nullable=False),
        sa.Column("window_s", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("marks", ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("over_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "window_s", name=op.f("pk_rate_window")),
        prefixes=["UNLOGGED"],
    )
    for statement in SEARCH:
        op.execute(statement)
