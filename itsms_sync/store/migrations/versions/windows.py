"""windows of a kind of record, each with its cursors; what was read before is read again, and not stored again"""

import sqlalchemy as sa
from alembic import op

revision = "windows"
down_revision = "guard"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "span",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=True, comment="null: from the beginning"),
        sa.Column("end", sa.BigInteger(), nullable=True, comment="exclusive; null: it goes on with every poll"),
        sa.Column(
            "dense_until",
            sa.BigInteger(),
            nullable=True,
            comment="behind it no row was expected when the span was planned",
        ),
        sa.Column("fields", sa.Text(), nullable=False, comment="what was asked for, comma separated, sorted"),
        sa.Column("state", sa.String(length=10), nullable=False, comment="head, waiting, read, hole"),
        sa.Column("rows_seen", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="that ended without a page"),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True, comment="when it was read to its end or given up"),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_span_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_span")),
        comment="Windows in time of one kind of record: what was read, what waits, and holes.",
    )
    op.create_index("ix_span_source_id_kind", "span", ["source_id", "kind"], unique=False)
    op.drop_table("cursor")
    op.create_table(
        "cursor",
        sa.Column("span_id", sa.Integer(), nullable=False),
        sa.Column("stream", sa.String(length=120), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("poll_id", sa.Integer(), nullable=False),
        sa.Column(
            "state", sa.String(length=10), nullable=False, comment="open; whole: read to the end of its window; refused"
        ),
        sa.Column(
            "opened_at",
            sa.BigInteger(),
            nullable=True,
            comment="the source's clock at the first answer of the poll that is not over yet",
        ),
        sa.Column(
            "covered_at",
            sa.BigInteger(),
            nullable=True,
            comment="the same of the newest poll that was read to the end of the window",
        ),
        sa.ForeignKeyConstraint(["poll_id"], ["poll.id"], name=op.f("fk_cursor_poll_id_poll")),
        sa.ForeignKeyConstraint(["span_id"], ["span.id"], name=op.f("fk_cursor_span_id_span")),
        sa.PrimaryKeyConstraint("span_id", "stream", name=op.f("pk_cursor")),
        comment="Where each stream stands in each window.",
    )
    op.add_column(
        "reading",
        sa.Column(
            "first",
            sa.BigInteger(),
            nullable=True,
            comment="oldest stamp of its rows when it was first read; null: none older than the head",
        ),
    )
    op.add_column(
        "poll",
        sa.Column(
            "until",
            sa.BigInteger(),
            nullable=True,
            comment="end of the window of the past that was read; null: up to now",
        ),
    )
    behind: sa.Column[bool] = sa.Column(
        "behind", sa.Boolean(), nullable=False, server_default=sa.false(), comment="more of its past is to be read"
    )
    op.add_column("reading", behind)
    _upgrade_figures()


def _upgrade_figures() -> None:
    """Counters of verdicts. They begin empty, so all cases are judged anew."""
    op.create_table(
        "tally",
        sa.Column("process", sa.String(length=60), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False, comment="as in case_state"),
        sa.Column("requirement", sa.String(length=60), nullable=False),
        sa.Column("check", sa.String(length=10), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_tally_source_id_source")),
        sa.PrimaryKeyConstraint(
            "process", "source_id", "period", "requirement", "check", "scope", "status", name=op.f("pk_tally")
        ),
        comment="Verdicts that stand, counted; kept in step with them, so that no pass counts them all.",
    )
    op.execute("DELETE FROM case_state")
    op.execute("UPDATE judgement SET basis = ''")
    period: sa.Column[int] = sa.Column(
        "period",
        sa.BigInteger(),
        nullable=False,
        server_default="1",
        comment="start of the month in which it ended, cut at go-live; 1 = open",
    )
    op.add_column("case_state", period)
    op.add_column(
        "source",
        sa.Column(
            "cut_at", sa.BigInteger(), nullable=True, comment="go-live at which the periods of its cases are cut"
        ),
    )
    op.create_index("ix_record_source_id_kind_judge_at", "record", ["source_id", "kind", "judge_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_record_source_id_kind_judge_at", table_name="record")
    op.drop_column("source", "cut_at")
    op.drop_column("case_state", "period")
    op.drop_table("tally")
    op.drop_column("poll", "until")
    op.drop_column("reading", "behind")
    op.drop_column("reading", "first")
    op.drop_table("cursor")
    op.create_table(
        "cursor",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("stream", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("poll_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["poll_id"], ["poll.id"], name=op.f("fk_cursor_poll_id_poll")),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_cursor_source_id_source")),
        sa.PrimaryKeyConstraint("source_id", "stream", name=op.f("pk_cursor")),
    )
    op.drop_index("ix_span_source_id_kind", table_name="span")
    op.drop_table("span")
