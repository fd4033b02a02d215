"""intents with their history, requests of people, tickets that are followed"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "outgoing"
down_revision = "reconciliation"
branch_labels = None
depends_on = None


def _of_intent() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("basis", sa.String(64), comment="hash of configuration and documents when the target refused it"),
        sa.Column("held_at", sa.BigInteger(), comment="kept back since, because a cycle had too many writes"),
        sa.Column("released_at", sa.BigInteger(), comment="when a person let it pass although a cycle had too many"),
    )


def _of_ticket() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("place", sa.Text(), comment="key of the project, or name of the table, in which it stands"),
        sa.Column("updated_at", sa.BigInteger(), comment="by the target's clock"),
        sa.Column(
            "digests",
            sa.Text(),
            comment="JSON: field -> digest of what we wrote last; a field that is not here is not ours",
        ),
        sa.Column("open_state", sa.Text(), comment="the newest state in which it was open"),
        sa.Column("unassigned", sa.Boolean(), comment="somebody should be assigned and nobody could be"),
        sa.Column("closed_at", sa.BigInteger(), comment="our clock when it was seen closed, or when we answered that"),
        sa.Column("reopened", sa.Integer(), comment="so often we have reopened it; null is never"),
        sa.Column(
            "escalated_at", sa.BigInteger(), comment="when it was left to a person, because it had been reopened before"
        ),
        sa.Column("gone", sa.String(20), comment="deleted, unseen; null while the target shows it"),
        sa.Column("gone_at", sa.BigInteger()),
        sa.Column("gone_message", sa.Text()),
    )


def upgrade() -> None:
    for column in _of_intent():
        op.add_column("intent", column)
    for column in _of_ticket():
        op.add_column("ticket", column)
    op.create_index("ix_ticket_target_native_id", "ticket", ["target", "native_id"], unique=False)
    op.create_table(
        "intent_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("intent_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False, comment="so often in a row the same came of it"),
        sa.ForeignKeyConstraint(["intent_id"], ["intent.id"], name=op.f("fk_intent_step_intent_id_intent")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intent_step")),
        comment="What became of each intent, step by step.",
    )
    op.create_index("ix_intent_step_intent_id", "intent_step", ["intent_id"], unique=False)
    op.create_table(
        "request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("command", sa.String(20), nullable=False, comment="replay, release"),
        sa.Column("key", sa.String(80), nullable=False, comment="of the writes that are meant"),
        sa.Column("content", sa.Text(), nullable=False, comment="JSON: what was asked for besides"),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request")),
        comment="What people ask of whoever writes. The only table to which another process may add a row.",
    )
    op.create_table(
        "unexpected_ticket",
        sa.Column("target", sa.String(60), nullable=False),
        sa.Column("native_id", sa.String(64), nullable=False),
        sa.Column("key", sa.String(80), nullable=True),
        sa.Column("label", sa.String(80), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column(
            "what",
            sa.String(20),
            nullable=False,
            comment="twin: another ticket has its key; stray: its key is not ours",
        ),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("target", "native_id", name=op.f("pk_unexpected_ticket")),
        comment="Tickets that our account created and that this database did not expect, as of the newest sweep.",
    )


def downgrade() -> None:
    for table in ("unexpected_ticket", "request", "intent_step"):
        op.drop_table(table)
    op.drop_index("ix_ticket_target_native_id", table_name="ticket")
    for column in reversed(_of_ticket()):
        op.drop_column("ticket", column.name)
    for column in reversed(_of_intent()):
        op.drop_column("intent", column.name)
