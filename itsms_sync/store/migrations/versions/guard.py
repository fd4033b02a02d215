"""clocks and identities of sources, objections, and waits that no clock shortens"""

import sqlalchemy as sa
from alembic import op

revision = "guard"
down_revision = "outgoing"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "objection",
        sa.Column("subject", sa.String(length=60), nullable=False, comment="name of a source, or database"),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_objection")),
        comment="Why nothing is written, until it fits again or a person has decided.",
    )
    op.add_column(
        "source", sa.Column("marks", sa.Text(), nullable=True, comment="JSON: by which the instance is known")
    )
    op.add_column(
        "source",
        sa.Column(
            "found", sa.Text(), nullable=True, comment="JSON: marks of one that answered and is not the known one"
        ),
    )
    op.add_column(
        "source",
        sa.Column(
            "skew",
            sa.BigInteger(),
            nullable=True,
            comment="by how much the source's clock was then ahead of ours, at least (ms)",
        ),
    )
    op.add_column(
        "reading",
        sa.Column(
            "skew",
            sa.BigInteger(),
            nullable=True,
            comment="of the source's clock when the kind was last read to its end (ms)",
        ),
    )
    op.add_column(
        "intent",
        sa.Column(
            "boot", sa.String(length=40), nullable=True, comment="start of the machine from which uptime is counted"
        ),
    )
    op.add_column(
        "intent",
        sa.Column(
            "uptime",
            sa.BigInteger(),
            nullable=True,
            comment="how long the machine was up when the outcome became unclear (ms)",
        ),
    )


def downgrade() -> None:
    op.drop_column("intent", "uptime")
    op.drop_column("intent", "boot")
    op.drop_column("reading", "skew")
    op.drop_column("source", "skew")
    op.drop_column("source", "found")
    op.drop_column("source", "marks")
    op.drop_table("objection")
