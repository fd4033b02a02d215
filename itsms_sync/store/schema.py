"""The tables. Instants are whole milliseconds since 1970-01-01T00:00Z.

Left of the line are facts as they were read (``payload`` and what the poll said about itself), right of it what can be
recomputed (``record``, ``event``, ``verdict``, ``deviation``), and apart from both what was decided, asked for and done
(``nonconformity``, ``period``, ``intent``, ``ticket``, ``request``), which no recomputation may take back. Each fact
and verdict has two times: when it happened (``occurred_at``) and when we learned it (``learned_at``). Verdicts are
superseded, never overwritten.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

REVISION = "windows"
"""The last of ``migrations/versions``, which makes these tables."""

Id = Integer
Instant = BigInteger

NEW_FACTS = 0
"""``record.judge_at`` of a record with facts that no judgement has seen."""
DEPENDS = 1
"""The same of one without new facts of its own, of which a record that it depends on has some."""
WAITS = 1 << 50
"""The same of one that waits for its history to be read, plus the instant of its creation."""


def _id() -> Column[int]:
    # INTEGER, not BIGINT: only then does SQLite number the rows itself. PostgreSQL gets a sequence.
    return Column("id", Id, primary_key=True)


fact = Table(
    "fact",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("value", Text, nullable=False),
    comment="Single values: identity of the database, pseudonym key, basis of the last judgement.",
)

source = Table(
    "source",
    metadata,
    _id(),
    Column("name", String(60), nullable=False, unique=True),
    Column("system", String(60), nullable=False),
    Column("instance", Text, comment="identity of the instance when it was first read"),
    Column("account", Text),
    Column("server_time", Instant),
    Column("seen_at", Instant, comment="our clock when the source last identified itself"),
    Column("skew", BigInteger, comment="by how much the source's clock was then ahead of ours, at least (ms)"),
    Column("directory_at", Instant),
    Column("cut_at", Instant, comment="go-live at which the periods of its cases are cut"),
    Column("marks", Text, comment="JSON: by which the instance is known"),
    Column("found", Text, comment="JSON: marks of one that answered and is not the known one"),
)

objection = Table(
    "objection",
    metadata,
    Column("subject", String(60), primary_key=True, comment="name of a source, or database"),
    Column("reason", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Column("raised_at", Instant, nullable=False),
    comment="Why nothing is written, until it fits again or a person has decided.",
)

# --- facts as they were read
# -------------------------------------------------------------------------------------------

field_list = Table(
    "field_list",
    metadata,
    _id(),
    Column("fields", Text, nullable=False, unique=True, comment="names, comma separated, in the order asked"),
)

poll = Table(
    "poll",
    metadata,
    _id(),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("stream", String(120), nullable=False),
    Column("until", Instant, comment="end of the window of the past that was read; null: up to now"),
    Column("asked", Text, nullable=False, comment="first question of the window, in the source's own language"),
    Column("field_list_id", ForeignKey("field_list.id"), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("server_time", Instant),
    Column("pages", Integer, nullable=False, default=0),
    Column("rows_seen", Integer, nullable=False, default=0),
    Column("rows_new", Integer, nullable=False, default=0),
    Column("closed", Boolean, nullable=False, default=False, comment="the window was read to its end"),
    Index("ix_poll_source_id_stream", "source_id", "stream"),
    comment="Coverage record of one window: what was asked for, seen and closed.",
)

reading = Table(
    "reading",
    metadata,
    Column("source_id", ForeignKey("source.id"), primary_key=True),
    Column("kind", String(60), primary_key=True),
    Column("fields", Text, nullable=False, comment="asked for since the cursors began, comma separated, sorted"),
    Column(
        "compared", Text, nullable=False, default="", comment="ever asked for: where states of a record differ counts"
    ),
    Column("unfinished_since", Instant, comment="a poll was begun and not read to its end yet"),
    Column("first", Instant, comment="oldest stamp of its rows when it was first read; null: none older than the head"),
    Column("skew", BigInteger, comment="of the source's clock when the kind was last read to its end (ms)"),
    Column("behind", Boolean, nullable=False, default=False, comment="more of its past is to be read"),
    comment="Per kind of record: which fields its polls ask for, and whether its newest poll is complete.",
)

span = Table(
    "span",
    metadata,
    _id(),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("kind", String(60), nullable=False),
    Column("start", Instant, comment="null: from the beginning"),
    Column("end", Instant, comment="exclusive; null: it goes on with every poll"),
    Column("dense_until", Instant, comment="behind it no row was expected when the span was planned"),
    Column("fields", Text, nullable=False, comment="what was asked for, comma separated, sorted"),
    Column("state", String(10), nullable=False, comment="head, waiting, read, hole"),
    Column("rows_seen", Integer, nullable=False, default=0),
    Column("requests", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0, comment="that ended without a page"),
    Column("began_at", Instant, nullable=False),
    Column("ended_at", Instant, comment="when it was read to its end or given up"),
    Index("ix_span_source_id_kind", "source_id", "kind"),
    comment="Windows in time of one kind of record: what was read, what waits, and holes.",
)

cursor = Table(
    "cursor",
    metadata,
    Column("span_id", ForeignKey("span.id"), primary_key=True),
    Column("stream", String(120), primary_key=True),
    Column("value", Text, nullable=False),
    Column("poll_id", ForeignKey("poll.id"), nullable=False),
    Column("state", String(10), nullable=False, comment="open; whole: read to the end of its window; refused"),
    Column("opened_at", Instant, comment="the source's clock at the first answer of the poll that is not over yet"),
    Column("covered_at", Instant, comment="the same of the newest poll that was read to the end of the window"),
    comment="Where each stream stands in each window.",
)

payload = Table(
    "payload",
    metadata,
    _id(),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("kind", String(60), nullable=False),
    Column("stream", String(60), nullable=False),
    Column("row_key", String(64), nullable=False),
    Column("digest", BigInteger, nullable=False, comment="first 8 bytes of the hash of body and field list"),
    Column("field_list_id", ForeignKey("field_list.id"), nullable=False),
    Column("poll_id", ForeignKey("poll.id"), nullable=False),
    Column("learned_at", Instant, nullable=False),
    Column("body", LargeBinary, nullable=False, comment="JSON; persons are pseudonyms, free text is a reference"),
    UniqueConstraint("source_id", "stream", "row_key", "digest", name="uq_payload_row"),
    comment="Raw rows, append-only.",
)

free_text = Table(
    "free_text",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    comment="Free text by keyed hash; a row may be deleted, the reference to it stays valid.",
)

pseudonym = Table(
    "pseudonym",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("form", String(40), nullable=False),
    Column("identifier", Text, nullable=False),
    comment="The one table that leads from a pseudonym back to a person.",
)

person = Table(
    "person",
    metadata,
    Column("source_id", ForeignKey("source.id"), primary_key=True),
    Column("name", String(40), primary_key=True, comment="a pseudonym; that of an address is the same in all sources"),
    Column(
        "account", String(40), nullable=False, comment="the pseudonym that stands for the person among all of theirs"
    ),
    Column("system", Boolean, nullable=False),
    Column("active", Boolean),
)

party = Table(
    "party",
    metadata,
    Column("source_id", ForeignKey("source.id"), primary_key=True),
    Column("native_id", String(64), primary_key=True),
    Column("title", Text, nullable=False),
    Column("active", Boolean),
    comment="Groups of the source, by id.",
)

choice = Table(
    "choice",
    metadata,
    Column("source_id", ForeignKey("source.id"), primary_key=True),
    Column("kind", String(60), primary_key=True),
    Column("field", String(80), primary_key=True),
    Column("value", String(120), primary_key=True),
    Column("label", Text, nullable=False),
    comment="Labels of raw values as the instance has them configured.",
)

gap = Table(
    "gap",
    metadata,
    _id(),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("stream", String(120), nullable=False),
    Column("reason", String(60), nullable=False),
    Column("message", Text, nullable=False),
    Column("record", String(64), nullable=False, default=""),
    Column("field", String(80), nullable=False, default=""),
    Column("start", Instant),
    Column("end", Instant),
    Column("opened_at", Instant, nullable=False),
    Column("closed_at", Instant, comment="when a later read made it good"),
    Index("ix_gap_source_id_closed_at", "source_id", "closed_at"),
    Index("ix_gap_source_id_record", "source_id", "record"),
)

reconciliation = Table(
    "reconciliation",
    metadata,
    _id(),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("kind", String(60), nullable=False),
    Column("extent", String(10), nullable=False, comment="all, open"),
    Column("state", String(12), nullable=False, comment="comparing, concluding, done, stopped"),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("newest_id", Integer, nullable=False, comment="of the records that were stored when it began"),
    Column("horizon", Instant, nullable=False, comment="open: also those that changed since"),
    Column("cursor", Text, nullable=False, comment="how far it has got, for the next piece of work"),
    Column("known", Integer, nullable=False, comment="records that have to be there"),
    Column("seen", Integer, nullable=False, default=0),
    Column("missed", Integer, nullable=False, default=0, comment="found here, not by any poll"),
    Column("gone", Integer, nullable=False, default=0),
    Column("doubtful", Integer, nullable=False, default=0, comment="not shown, without any proof of what became of it"),
    Column("delay", Instant, nullable=False, default=0, comment="longest time that a missed fact had waited, ms"),
    Column("gaps", Text, nullable=False, default="", comment="reasons of the gaps that it met, comma separated"),
    Column("problem", Text),
    Index("ix_reconciliation_source_id_kind", "source_id", "kind"),
    comment="One comparison of what a source shows with what is stored, by id.",
)

sighting = Table(
    "sighting",
    metadata,
    Column("reconciliation_id", ForeignKey("reconciliation.id"), primary_key=True),
    Column("record_id", ForeignKey("record.id"), primary_key=True),
    Column("doubt", Text, comment="null: it was shown; else why it cannot be told what became of it"),
    comment="What a running reconciliation has seen so far; emptied when it ends.",
)

finding = Table(
    "finding",
    metadata,
    _id(),
    Column("record_id", ForeignKey("record.id"), nullable=False),
    Column("reconciliation_id", ForeignKey("reconciliation.id"), comment="null: a poll told it"),
    Column("what", String(20), nullable=False, comment="missed, deleted, archived, moved, unreadable, restored"),
    Column("note", Text, nullable=False),
    Column("actor", String(40)),
    Column("occurred_at", Instant, comment="null: the source does not tell"),
    Column("learned_at", Instant, nullable=False),
    Index("ix_finding_record_id", "record_id"),
    comment="What polls could not see: records that vanished or came back, and facts that were found late.",
)

# --- what can be recomputed
# --------------------------------------------------------------------------------------------

record = Table(
    "record",
    metadata,
    _id(),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("kind", String(60), nullable=False),
    Column("native_id", String(64), nullable=False),
    Column("label", String(80)),
    Column("created_at", Instant),
    Column("updated_at", Instant, comment="null while only history of it was read"),
    Column("version", BigInteger),
    Column("fields", Text, comment="JSON: raw values as of updated_at"),
    Column("tombstone", String(40), comment="why the source no longer shows it"),
    Column("gone_at", Instant, comment="when the source stopped showing it, or when that was noticed"),
    Column("learned_at", Instant, nullable=False, comment="when the newest fact about it was learned"),
    Column(
        "judge_at",
        Instant,
        comment="next instant at which it has to be judged; 0 = it has new facts, 1 = a record it depends on has; "
        "far beyond = it waits for its history to be read, by its creation",
    ),
    UniqueConstraint("source_id", "kind", "native_id", name="uq_record_native"),
    Index("ix_record_judge_at", "judge_at"),
    Index("ix_record_source_id_kind_judge_at", "source_id", "kind", "judge_at"),
    Index("ix_record_label", "label"),
)

relation = Table(
    "relation",
    metadata,
    _id(),
    Column("record_id", ForeignKey("record.id"), nullable=False, comment="the record that names the other one"),
    Column("tie", String(10), nullable=False, comment="link, pair, part"),
    Column("role", String(60), nullable=False),
    Column("inverse", String(60), nullable=False, comment="its role seen from the other; empty: not seen from there"),
    Column("process", String(60), nullable=False, comment="process of which the naming record is a case or a part"),
    Column("to", Text, nullable=False, comment="processes that the other record may be a case of, comma separated"),
    Column("field", String(80), nullable=False),
    Column("system", String(60), nullable=False, comment="of the other record; empty: the same source"),
    Column("by", String(10), nullable=False, comment="id, label"),
    Column("value", String(120), nullable=False),
    Column("other_id", ForeignKey("record.id"), comment="null while no record of that name was read"),
    UniqueConstraint("record_id", "tie", "role", "process", "value", name="uq_relation_name"),
    Index("ix_relation_other_id", "other_id"),
    Index("ix_relation_value", "value"),
    comment="Which record names which other one, by the mapping in force.",
)

event = Table(
    "event",
    metadata,
    _id(),
    Column("record_id", ForeignKey("record.id"), nullable=False),
    Column("witness", String(20), nullable=False),
    Column("witness_id", String(64), nullable=False),
    Column("field", String(80), nullable=False, comment="empty: a save whose content was not asked for"),
    Column("old", Text),
    Column("new", Text),
    Column("actor", String(40)),
    Column("position", BigInteger, comment="the source's own order inside the record"),
    Column("occurred_at", Instant, nullable=False),
    Column("learned_at", Instant, nullable=False),
    Column("since", Instant, comment="it happened after this and at occurred_at at the latest; null: exactly then"),
    UniqueConstraint("record_id", "witness_id", "witness", name="uq_event_witness"),
)

verdict = Table(
    "verdict",
    metadata,
    _id(),
    Column("record_id", ForeignKey("record.id"), nullable=False),
    Column("process", String(60), nullable=False),
    Column("requirement", String(60), nullable=False),
    Column("check", String(10), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", Text),
    Column("detail", Text),
    Column("occurred_at", Instant),
    Column("recheck_at", Instant),
    Column("learned_at", Instant, nullable=False),
    Column("superseded_at", Instant),
    Column("judgement_id", ForeignKey("judgement.id"), nullable=False),
    Index("ix_verdict_record_id_superseded_at", "record_id", "superseded_at"),
    Index("ix_verdict_process_superseded_at_requirement_status", "process", "superseded_at", "requirement", "status"),
)

case_state = Table(
    "case_state",
    metadata,
    Column("record_id", ForeignKey("record.id"), primary_key=True),
    Column("process", String(60), primary_key=True),
    Column("opened_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("state", String(60)),
    Column("scope", Text, nullable=False),
    Column("place", Text, nullable=False, comment="where it was worked on last"),
    Column("visited", Text, nullable=False, comment="states that the case was in, comma separated, sorted"),
    Column("period", Instant, nullable=False, comment="start of the month in which it ended, cut at go-live; 1 = open"),
    Index("ix_case_state_process_ended_at", "process", "ended_at"),
    comment="What the last judgement knew of each case.",
)

tally = Table(
    "tally",
    metadata,
    Column("process", String(60), primary_key=True),
    Column("source_id", ForeignKey("source.id"), primary_key=True),
    Column("period", Instant, primary_key=True, comment="as in case_state"),
    Column("requirement", String(60), primary_key=True),
    Column("check", String(10), primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("status", String(20), primary_key=True),
    Column("cases", Integer, nullable=False),
    comment="Verdicts that stand, counted; kept in step with them, so that no pass counts them all.",
)

judgement = Table(
    "judgement",
    metadata,
    _id(),
    Column("basis", String(64), nullable=False, comment="hash of documents, checks and program version"),
    Column("documents", Text, nullable=False, comment="JSON: document -> version and hash; check -> version; program"),
    Column("last_poll_id", Integer, comment="coverage: all polls up to this one were taken into account"),
    Column("as_of", Instant, nullable=False),
    Column("learned_at", Instant, nullable=False),
)

deviation = Table(
    "deviation",
    metadata,
    _id(),
    Column("record_id", ForeignKey("record.id"), nullable=False),
    Column("process", String(60), nullable=False),
    Column("requirement", String(60), nullable=False),
    Column("check", String(10), nullable=False),
    Column("state", String(20), nullable=False, comment="open, corrected, accepted, withdrawn"),
    Column("reason", Text),
    Column("occurred_at", Instant, nullable=False),
    Column("learned_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("ix_deviation_record_id", "record_id"),
    Index("ix_deviation_process_requirement_state", "process", "requirement", "state"),
)

audited_field = Table(
    "audited_field",
    metadata,
    Column("source_id", ForeignKey("source.id"), primary_key=True),
    Column("kind", String(60), primary_key=True),
    Column("field", String(80), primary_key=True),
    comment="Fields of which the source's history shows a change; a kind without any has no history that we may read.",
)

# --- what was decided and done
# -----------------------------------------------------------------------------------------

period = Table(
    "period",
    metadata,
    _id(),
    Column("process", String(60), nullable=False),
    Column("requirement", String(60), nullable=False),
    Column("check", String(10), nullable=False),
    Column("scope", Text, nullable=False),
    Column("start", Instant, nullable=False),
    Column("end", Instant, nullable=False),
    Column("judged", Integer, nullable=False),
    Column("deviating", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("lower", String(24), nullable=False, comment="Wilson bounds of the share, as decimal text"),
    Column("upper", String(24), nullable=False),
    Column("exceeds", Boolean, nullable=False),
    Column("decided_at", Instant, nullable=False),
    UniqueConstraint("process", "requirement", "check", "scope", "start", name="uq_period_key"),
    comment="One decision per requirement, scope and closed period; never taken twice.",
)

nonconformity = Table(
    "nonconformity",
    metadata,
    _id(),
    Column("tenant", String(60), nullable=False),
    Column("process", String(60), nullable=False),
    Column("requirement", String(60), nullable=False),
    Column("check", String(10), nullable=False),
    Column("scope", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("key", String(80), nullable=False, unique=True, comment="written into the ticket"),
    Column("state", String(20), nullable=False, comment="suspected, ended"),
    Column("queued", Boolean, nullable=False, comment="waits for a place under the owner's cap"),
    Column("severity", String(2), nullable=False),
    Column("owner", String(60), nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column(
        "evidence", Text, nullable=False, comment="JSON frozen at opening: text, cases, figures, coverage, documents"
    ),
    Column("evidence_hash", String(64), nullable=False),
    UniqueConstraint(
        "tenant", "process", "requirement", "check", "scope", "generation", name="uq_nonconformity_identity"
    ),
)

nonconformity_deviation = Table(
    "nonconformity_deviation",
    metadata,
    Column("nonconformity_id", ForeignKey("nonconformity.id"), primary_key=True),
    Column("deviation_id", ForeignKey("deviation.id"), primary_key=True),
)

intent = Table(
    "intent",
    metadata,
    _id(),
    Column("key", String(80), nullable=False),
    Column("action", String(20), nullable=False),
    Column("target", String(60), nullable=False, comment="name of the source that gets the write"),
    Column(
        "subject",
        String(80),
        nullable=False,
        default="",
        comment="tells several writes of one kind to one ticket apart",
    ),
    Column("content", Text, nullable=False, comment="JSON of the write"),
    Column("state", String(20), nullable=False, comment="pending, sending, unclear, done, parked, asked, waived"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Instant, nullable=False, default=0),
    Column("sent_at", Instant),
    Column("boot", String(40), comment="start of the machine from which uptime is counted"),
    Column("uptime", BigInteger, comment="how long the machine was up when the outcome became unclear (ms)"),
    Column("created_at", Instant, nullable=False),
    Column("done_at", Instant),
    Column("problem", Text),
    Column("basis", String(64), comment="hash of configuration and documents when the target refused it"),
    Column("held_at", Instant, comment="kept back since, because a cycle had too many writes"),
    Column("released_at", Instant, comment="when a person let it pass although a cycle had too many"),
    UniqueConstraint("key", "action", "subject", name="uq_intent_key"),
    Index("ix_intent_state", "state"),
    comment="Outgoing writes, committed before they are sent.",
)

intent_step = Table(
    "intent_step",
    metadata,
    _id(),
    Column("intent_id", ForeignKey("intent.id"), nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("problem", Text),
    Column("at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("times", Integer, nullable=False, comment="so often in a row the same came of it"),
    Index("ix_intent_step_intent_id", "intent_id"),
    comment="What became of each intent, step by step.",
)

request = Table(
    "request",
    metadata,
    _id(),
    Column("command", String(20), nullable=False, comment="replay, release"),
    Column("key", String(80), nullable=False, default="", comment="of the writes that are meant"),
    Column("content", Text, nullable=False, comment="JSON: what was asked for besides"),
    Column("made_at", Instant, nullable=False),
    Column("done_at", Instant),
    Column("answer", Text),
    comment="What people ask of whoever writes. The only table to which another process may add a row.",
)

ticket = Table(
    "ticket",
    metadata,
    Column("key", String(80), primary_key=True, comment="of the nonconformity and generation, or of a digest"),
    Column("target", String(60), primary_key=True),
    Column("native_id", String(64), nullable=False),
    Column("label", String(80), nullable=False),
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("read_at", Instant, nullable=False),
    Column("dropped", Text, nullable=False, default="", comment="what the target did not take over"),
    Column("place", Text, comment="key of the project, or name of the table, in which it stands"),
    Column("updated_at", Instant, comment="by the target's clock"),
    Column(
        "digests", Text, comment="JSON: field -> digest of what we wrote last; a field that is not here is not ours"
    ),
    Column("open_state", Text, comment="the newest state in which it was open"),
    Column("unassigned", Boolean, comment="somebody should be assigned and nobody could be"),
    Column("closed_at", Instant, comment="our clock when it was seen closed, or when we answered that"),
    Column("reopened", Integer, comment="so often we have reopened it; null is never"),
    Column("escalated_at", Instant, comment="when it was left to a person, because it had been reopened before"),
    Column("gone", String(20), comment="deleted, unseen; null while the target shows it"),
    Column("gone_at", Instant),
    Column("gone_message", Text),
    Index("ix_ticket_target_native_id", "target", "native_id"),
)

unexpected_ticket = Table(
    "unexpected_ticket",
    metadata,
    Column("target", String(60), primary_key=True),
    Column("native_id", String(64), primary_key=True),
    Column("key", String(80)),
    Column("label", String(80), nullable=False),
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("what", String(20), nullable=False, comment="twin: another ticket has its key; stray: its key is not ours"),
    Column("found_at", Instant, nullable=False),
    comment="Tickets that our account created and that this database did not expect, as of the newest sweep.",
)

cycle = Table(
    "cycle",
    metadata,
    _id(),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("as_of", Instant),
    Column("report", Text),
)
