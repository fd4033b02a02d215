"""reconciliation by id: what vanished, came back or was missed"""

import sqlalchemy as sa
from alembic import op

revision = "reconciliation"
down_revision = "witnesses"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "record",
        sa.Column(
            "gone_at",
            sa.BigInteger(),
            nullable=True,
            comment="when the source stopped showing it, or when that was noticed",
        ),
    )
    op.create_table(
        "reconciliation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("extent", sa.String(length=10), nullable=False, comment="all, open"),
        sa.Column("state", sa.String(length=12), nullable=False, comment="comparing, concluding, done, stopped"),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("newest_id", sa.Integer(), nullable=False, comment="of the records that were stored when it began"),
        sa.Column("horizon", sa.BigInteger(), nullable=False, comment="open: also those that changed since"),
        sa.Column("cursor", sa.Text(), nullable=False, comment="how far it has got, for the next piece of work"),
        sa.Column("known", sa.Integer(), nullable=False, comment="records that have to be there"),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False, comment="found here, not by any poll"),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column(
            "doubtful", sa.Integer(), nullable=False, comment="not shown, without any proof of what became of it"
        ),
        sa.Column("delay", sa.BigInteger(), nullable=False, comment="longest time that a missed fact had waited, ms"),
        sa.Column("gaps", sa.Text(), nullable=False, comment="reasons of the gaps that it met, comma separated"),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_reconciliation_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliation")),
        comment="One comparison of what a source shows with what is stored, by id.",
    )
    op.create_index("ix_reconciliation_source_id_kind", "reconciliation", ["source_id", "kind"], unique=False)
    op.create_table(
        "sighting",
        sa.Column("reconciliation_id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column(
            "doubt",
            sa.Text(),
            nullable=True,
            comment="null: it was shown; else why it cannot be told what became of it",
        ),
        sa.ForeignKeyConstraint(
            ["reconciliation_id"], ["reconciliation.id"], name=op.f("fk_sighting_reconciliation_id_reconciliation")
        ),
        sa.ForeignKeyConstraint(["record_id"], ["record.id"], name=op.f("fk_sighting_record_id_record")),
        sa.PrimaryKeyConstraint("reconciliation_id", "record_id", name=op.f("pk_sighting")),
        comment="What a running reconciliation has seen so far; emptied when it ends.",
    )
    op.create_table(
        "finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("reconciliation_id", sa.Integer(), nullable=True, comment="null: a poll told it"),
        sa.Column(
            "what",
            sa.String(length=20),
            nullable=False,
            comment="missed, deleted, archived, moved, unreadable, restored",
        ),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=40), nullable=True),
        sa.Column("occurred_at", sa.BigInteger(), nullable=True, comment="null: the source does not tell"),
        sa.Column("learned_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["record_id"], ["record.id"], name=op.f("fk_finding_record_id_record")),
        sa.ForeignKeyConstraint(
            ["reconciliation_id"], ["reconciliation.id"], name=op.f("fk_finding_reconciliation_id_reconciliation")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
        comment="What polls could not see: records that vanished or came back, and facts that were found late.",
    )
    op.create_index("ix_finding_record_id", "finding", ["record_id"], unique=False)
