"""Accounts, sign-in and roles"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
PROSE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", WORD, nullable=False),
        sa.Column("name", WORD, nullable=True),
        sa.Column("label", PROSE, nullable=False),
        sa.Column("owner", WORD, nullable=False),
        sa.Column("role", WORD, nullable=False),
        sa.Column("password_hash", WORD, nullable=True),
        sa.Column("password_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("issuer", WORD, nullable=True),
        sa.Column("subject", WORD, nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("name", name=op.f("uq_account_name")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_account_issuer_subject")),
    )
    op.create_index("ix_account_owner", "account", ["owner"])
    for column in (
        sa.Column("id", WORD, nullable=True),
        sa.Column("owner", WORD, nullable=True),
        sa.Column("account_id", WORD, nullable=True),
        sa.Column("way", WORD, nullable=True),
        sa.Column("agent", PROSE, nullable=True),
        sa.Column("used_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("rotated_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("next_hash", sa.LargeBinary(), nullable=True),
        sa.Column("next_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("former_hash", sa.LargeBinary(), nullable=True),
    ):
        op.add_column("sign_in", column)
    op.create_index("ix_api_key_owner", "api_key", ["owner"])
    op.create_index("ix_sign_in_owner_created", "sign_in", ["owner", "created_at_ms"])
    for name, columns in (
        ("account_created", ["account_id", "created_at_ms"]),
        ("next_hash", ["next_hash"]),
        ("former_hash", ["former_hash"]),
    ):
        condition = sa.text(f"{columns[0]} IS NOT NULL")
        op.create_index(f"ix_sign_in_{name}", "sign_in", columns, sqlite_where=condition, postgresql_where=condition)
    # Those of before are listed and ended with the others of their owner.
    op.execute("UPDATE sign_in SET owner = (SELECT owner FROM api_key WHERE api_key.id = sign_in.key_id), way = 'key'")
