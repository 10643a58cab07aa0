"""Audit log, retention and erasure

Only adds, but for an index that names more conditions than before: a node of a version before this one reads the table
for its cleanup instead, and knows nothing of what is held.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
PROSE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

IS_NOT_KEPT = "NOT pinned AND held_at_ms IS NULL AND NOT owner_held"
INDEXES = (
    ("ix_conversation_ages", ["last_message_at_ms"], f"retention = 'default' AND own_idle_h IS NULL AND {IS_NOT_KEPT}"),
    (
        "ix_conversation_own_ages",
        ["own_idle_h", "last_message_at_ms"],
        f"own_idle_h IS NOT NULL AND retention <> 'keep' AND {IS_NOT_KEPT}",
    ),
    ("ix_conversation_held", ["owner", "key"], "held_at_ms IS NOT NULL"),
)
# Rows are only added, each behind the last one. The head moves on with them; its cut moves on only to an entry that is
# there, with that entry's hash, and then those before may go.
REFUSED = "the audit log is only added to"
SQLITE = (
    f"CREATE TRIGGER audit_entry_kept BEFORE UPDATE ON audit_entry BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    "CREATE TRIGGER audit_entry_not_cut BEFORE DELETE ON audit_entry"
    " WHEN old.seq > (SELECT cut_seq FROM audit_head WHERE id = 1)"
    f" BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    "CREATE TRIGGER audit_entry_follows BEFORE INSERT ON audit_entry"
    " WHEN new.seq <> (SELECT seq + 1 FROM audit_head WHERE id = 1)"
    f" BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    "CREATE TRIGGER audit_head_moves_on BEFORE UPDATE ON audit_head"
    " WHEN new.id <> old.id OR new.seq < old.seq OR new.cut_seq < old.cut_seq"
    " OR (new.seq > old.seq AND new.hash IS NOT (SELECT hash FROM audit_entry WHERE seq = new.seq))"
    " OR (new.seq = old.seq AND new.hash IS NOT old.hash)"
    " OR (new.cut_seq > old.cut_seq AND new.cut_hash IS NOT (SELECT hash FROM audit_entry WHERE seq = new.cut_seq))"
    " OR (new.cut_seq = old.cut_seq AND new.cut_hash IS NOT old.cut_hash)"
    f" BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    f"CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
)
POSTGRES = (
    "CREATE FUNCTION legato_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" RAISE EXCEPTION '{REFUSED}'; END $$",
    "CREATE TRIGGER audit_entry_kept BEFORE UPDATE ON audit_entry FOR EACH ROW EXECUTE FUNCTION legato_audit_refuse()",
    "CREATE TRIGGER audit_entry_whole BEFORE TRUNCATE ON audit_entry"
    " FOR EACH STATEMENT EXECUTE FUNCTION legato_audit_refuse()",
    "CREATE FUNCTION legato_audit_cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF old.seq > (SELECT cut_seq FROM audit_head WHERE id = 1) THEN"
    f" RAISE EXCEPTION '{REFUSED}'; END IF; RETURN old; END $$",
    "CREATE TRIGGER audit_entry_not_cut BEFORE DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION legato_audit_cut()",
    "CREATE FUNCTION legato_audit_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF new.seq <> (SELECT seq + 1 FROM audit_head WHERE id = 1) THEN"
    f" RAISE EXCEPTION '{REFUSED}'; END IF; RETURN new; END $$",
    "CREATE TRIGGER audit_entry_follows BEFORE INSERT ON audit_entry"
    " FOR EACH ROW EXECUTE FUNCTION legato_audit_follow()",
    "CREATE FUNCTION legato_audit_move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF new.id <> old.id OR new.seq < old.seq OR new.cut_seq < old.cut_seq"
    " OR (new.seq > old.seq AND new.hash IS DISTINCT FROM (SELECT hash FROM audit_entry WHERE seq = new.seq))"
    " OR (new.seq = old.seq AND new.hash IS DISTINCT FROM old.hash)"
    " OR (new.cut_seq > old.cut_seq"
    " AND new.cut_hash IS DISTINCT FROM (SELECT hash FROM audit_entry WHERE seq = new.cut_seq))"
    " OR (new.cut_seq = old.cut_seq AND new.cut_hash IS DISTINCT FROM old.cut_hash)"
    f" THEN RAISE EXCEPTION '{REFUSED}'; END IF; RETURN new; END $$",
    "CREATE TRIGGER audit_head_moves_on BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION legato_audit_move()",
    "CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION legato_audit_refuse()",
    "CREATE TRIGGER audit_head_whole BEFORE TRUNCATE ON audit_head"
    " FOR EACH STATEMENT EXECUTE FUNCTION legato_audit_refuse()",
)


def upgrade() -> None:
    op.add_column("conversation", sa.Column("own_idle_h", sa.Integer(), nullable=True))
    op.add_column("conversation", sa.Column("held_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("conversation", sa.Column("owner_held", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("ix_conversation_ages", "conversation")
    for name, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, "conversation", columns, sqlite_where=where, postgresql_where=where)
    _create_tables()
    nothing = "x'" if op.get_bind().dialect.name == "sqlite" else r"'\x"
    nothing += "00" * 32 + "'"
    op.execute(
        f"INSERT INTO audit_head (id, seq, at_ms, hash, cut_seq, cut_hash) VALUES (1, 0, 0, {nothing}, 0, {nothing})"
    )
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRES:
        op.execute(statement)


def _create_tables() -> None:
    op.create_table(
        "reply_total",
        sa.Column("key", KEY, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("model", WORD, nullable=True),
        sa.Column("outcome", WORD, nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("estimated", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("response_time_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_token_ms", sa.BigInteger(), nullable=True),
        sa.Column("thumb", WORD, nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_reply_total")),
    )
    op.create_index("ix_reply_total_at_ms", "reply_total", ["at_ms"])
    op.create_table(
        "audit_entry",
        sa.Column("seq", KEY, nullable=False, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", WORD, nullable=False),
        sa.Column("via", WORD, nullable=False),
        sa.Column("key_id", WORD, nullable=True),
        sa.Column("action", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("owner", WORD, nullable=True),
        sa.Column("detail", PROSE, nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_entry")),
    )
    for column in ("owner", "actor", "action"):
        op.create_index(f"ix_audit_entry_{column}_seq", "audit_entry", [column, "seq"])
    op.create_index("ix_audit_entry_at_ms", "audit_entry", ["at_ms"])
    op.create_table(
        "audit_head",
        sa.Column("id", KEY, nullable=False, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("cut_seq", sa.BigInteger(), nullable=False),
        sa.Column("cut_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "keeping",
        sa.Column("owner", WORD, nullable=False),
        sa.Column("idle_h", sa.Integer(), nullable=True),
        sa.Column("held_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_keeping")),
    )
    op.create_table(
        "erasure",
        sa.Column("id", KEY, nullable=False),
        sa.Column("owner", WORD, nullable=False),
        sa.Column("conversation_id", WORD, nullable=True),
        sa.Column("asked_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("actor", WORD, nullable=True),
        sa.Column("via", WORD, nullable=True),
        sa.Column("key_id", WORD, nullable=True),
        sa.Column("done", PROSE, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )
    of_principal = sa.text("conversation_id IS NULL")
    op.create_index(
        "ix_erasure_principal",
        "erasure",
        ["owner"],
        unique=True,
        sqlite_where=of_principal,
        postgresql_where=of_principal,
    )
