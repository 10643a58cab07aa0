"""What the page needs: archived and temporary conversations, siblings of messages, and the search index"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# As storage.search explains it: every word has its owner's mark in front, and only whole texts can be taken out.
FULL_TEXT = (
    "CREATE VIRTUAL TABLE search_index USING fts5(words, content='', columnsize=0, tokenize='ascii')",
    # Merging is done a little at a time by whoever writes: of itself a commit would now and then take 40 ms.
    "INSERT INTO search_index (search_index, rank) VALUES ('automerge', 0)",
    "INSERT INTO search_index (search_index, rank) VALUES ('crisismerge', 500)",
    "CREATE TRIGGER search_entry_added AFTER INSERT ON search_entry BEGIN"
    " INSERT INTO search_index (rowid, words)"
    " VALUES (new.key, replace(' ' || new.words, ' ', ' ' || new.mark));"
    " END",
    "CREATE TRIGGER search_entry_removed AFTER DELETE ON search_entry BEGIN"
    " INSERT INTO search_index (search_index, rowid, words)"
    " VALUES ('delete', old.key, replace(' ' || old.words, ' ', ' ' || old.mark));"
    " END",
)


def upgrade() -> None:
    op.add_column("conversation", sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("conversation", sa.Column("temporary", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("ix_conversation_owner_last", "conversation")
    op.create_index(
        "ix_conversation_owner_last",
        "conversation",
        ["owner", "last_message_at_ms", "key", "archived", "temporary", "pinned"],
    )
    for name, condition in (("archived", "archived AND NOT temporary"), ("pinned", "pinned AND NOT temporary")):
        op.create_index(
            f"ix_conversation_{name}",
            "conversation",
            ["owner", "last_message_at_ms", "key"],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    op.create_index(
        "ix_message_heads",
        "message",
        ["conversation_key", "parent_id"],
        sqlite_where=sa.text("branch = id"),
        postgresql_where=sa.text("branch = id"),
    )
    op.create_table(
        "search_entry",
        sa.Column("key", KEY, nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("conversation_key", KEY, nullable=False),
        sa.Column("message_key", KEY, nullable=False),
        sa.Column("mark", sa.String(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_key"],
            ["conversation.key"],
            name=op.f("fk_search_entry_conversation_key_conversation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_search_entry")),
        sa.UniqueConstraint(
            "conversation_key", "message_key", name=op.f("uq_search_entry_conversation_key_message_key")
        ),
    )
    op.create_table(
        "search_due",
        sa.Column("id", KEY, nullable=False),
        sa.Column("conversation_key", KEY, nullable=False),
        sa.Column("message_key", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_key"],
            ["conversation.key"],
            name=op.f("fk_search_due_conversation_key_conversation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_due")),
    )
    op.create_index("ix_search_due_conversation_key", "search_due", ["conversation_key"])
    op.create_table(
        "search_place",
        sa.Column("id", KEY, nullable=False),
        sa.Column("done_key", KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_place")),
    )
    op.execute("INSERT INTO search_place (id, done_key, version) VALUES (1, 0, 0)")
    if op.get_bind().dialect.name == "sqlite":
        for statement in FULL_TEXT:
            op.execute(statement)
