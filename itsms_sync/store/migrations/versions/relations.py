"""relations between records; persons of several sources"""

import sqlalchemy as sa
from alembic import op

revision = "relations"
down_revision = "initial"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "relation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False, comment="the record that names the other one"),
        sa.Column("tie", sa.String(length=10), nullable=False, comment="link, pair, part"),
        sa.Column("role", sa.String(length=60), nullable=False),
        sa.Column(
            "inverse",
            sa.String(length=60),
            nullable=False,
            comment="its role seen from the other; empty: not seen from there",
        ),
        sa.Column(
            "process",
            sa.String(length=60),
            nullable=False,
            comment="process of which the naming record is a case or a part",
        ),
        sa.Column(
            "to",
            sa.Text(),
            nullable=False,
            comment="processes that the other record may be a case of, comma separated",
        ),
        sa.Column("field", sa.String(length=80), nullable=False),
        sa.Column(
            "system", sa.String(length=60), nullable=False, comment="of the other record; empty: the same source"
        ),
        sa.Column("by", sa.String(length=10), nullable=False, comment="id, label"),
        sa.Column("value", sa.String(length=120), nullable=False),
        sa.Column("other_id", sa.Integer(), nullable=True, comment="null while no record of that name was read"),
        sa.ForeignKeyConstraint(["other_id"], ["record.id"], name=op.f("fk_relation_other_id_record")),
        sa.ForeignKeyConstraint(["record_id"], ["record.id"], name=op.f("fk_relation_record_id_record")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_relation")),
        sa.UniqueConstraint("record_id", "tie", "role", "process", "value", name="uq_relation_name"),
        comment="Which record names which other one, by the mapping in force.",
    )
    op.create_index("ix_relation_other_id", "relation", ["other_id"], unique=False)
    op.create_index("ix_relation_value", "relation", ["value"], unique=False)
    op.create_index("ix_record_label", "record", ["label"], unique=False)
    # The directory is read anew, so persons need no copying.
    op.drop_table("person")
    op.create_table(
        "person",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column(
            "name",
            sa.String(length=40),
            nullable=False,
            comment="a pseudonym; that of an address is the same in all sources",
        ),
        sa.Column(
            "account",
            sa.String(length=40),
            nullable=False,
            comment="the pseudonym that stands for the person among all of theirs",
        ),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_person_source_id_source")),
        sa.PrimaryKeyConstraint("source_id", "name", name=op.f("pk_person")),
    )
    op.execute("UPDATE source SET directory_at = NULL")


def downgrade() -> None:
    op.drop_table("person")
    op.create_table(
        "person",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_person_source_id_source")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_person")),
    )
    op.execute("UPDATE source SET directory_at = NULL")
    op.drop_index("ix_record_label", table_name="record")
    op.drop_table("relation")
