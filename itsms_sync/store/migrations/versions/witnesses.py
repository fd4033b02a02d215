"""when an event happened at the earliest, of which fields; gaps by record"""

import sqlalchemy as sa
from alembic import op

revision = "witnesses"
down_revision = "relations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "event",
        sa.Column(
            "since",
            sa.BigInteger(),
            nullable=True,
            comment="it happened after this and at occurred_at at the latest; null: exactly then",
        ),
    )
    op.add_column(
        "reading",
        sa.Column(
            "compared",
            sa.Text(),
            nullable=False,
            server_default="",
            comment="ever asked for: where states of a record differ counts",
        ),
    )
    op.create_index("ix_gap_source_id_record", "gap", ["source_id", "record"])
