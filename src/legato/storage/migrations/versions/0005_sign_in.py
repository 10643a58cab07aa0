"""Publishable keys, pages that are signed in, and figures of all owners"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PUBLISHABLE = "origins IS NOT NULL AND revoked_at_ms IS NULL"


def upgrade() -> None:
    op.add_column("api_key", sa.Column("origins", sa.Text(), nullable=True))
    op.add_column("api_key", sa.Column("signing_secret", sa.LargeBinary(), nullable=True))
    op.create_index(
        "ix_api_key_publishable",
        "api_key",
        ["origins"],
        sqlite_where=sa.text(PUBLISHABLE),
        postgresql_where=sa.text(PUBLISHABLE),
    )
    op.create_table(
        "sign_in",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sign_in")),
    )
    op.create_index("ix_sign_in_key_created", "sign_in", ["key_id", "created_at_ms"])
    op.create_index("ix_sign_in_expires_at_ms", "sign_in", ["expires_at_ms"])
    op.create_index("ix_reply_count_at", "reply_count", ["at_ms"])
