"""One root key at a time is the one that data keys are made under"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Two that were turned on in the same moment: the later one stays.
    op.execute(
        "UPDATE encryption_root SET current = false WHERE current AND id <> "
        "(SELECT id FROM encryption_root WHERE current ORDER BY created_at_ms DESC, id DESC LIMIT 1)"
    )
    op.create_index(
        "uq_encryption_root_current",
        "encryption_root",
        ["current"],
        unique=True,
        sqlite_where=sa.text("current"),
        postgresql_where=sa.text("current"),
    )
