"""Audit log, retention and erasure"""

import sqlalchemy as sa

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
PROSE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    pass
