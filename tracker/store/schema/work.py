"""Tables of the work on batches: recorded steps, re-queues, segments, reports to apply, actions."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from tracker.campaign_states import ActionKind, TargetKind
from tracker.status import Step
from tracker.store.schema.metadata import metadata, sql_string_list

steps = Table(
    "steps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("step", String(16), nullable=False),
    Column("task_id", Text),
    Column("worker", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("moved", Integer, nullable=False),
    Column("check_times", Text),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint(f"step IN ({sql_string_list(Step)})", name="step"),
    Index(None, "campaign_id", "batch"),
    comment="One recorded step on one batch. task_id: the Celery task that ran it. moved: messages"
    " whose status it changed. check_times: estimated calls and microseconds of each check, as a"
    " JSON object of lists; null if that is too little to matter.",
)

recoveries = Table(
    "recoveries",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("step", String(16), nullable=False),
    Column("times", Integer, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint(f"step IN ({sql_string_list(Step)})", name="step"),
    sqlite_with_rowid=False,
    comment="The last re-queue of a stalled batch. times: re-queues in a row without progress."
    " touched_at: the batch's touched_at when it was re-queued. sent_at: real time.",
)

parts = Table(
    "parts",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("step", String(16), primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text),
    Column("ended_at", BigInteger),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint(f"step IN ({sql_string_list(Step)})", name="step"),
    CheckConstraint("size >= 1", name="size"),
    CheckConstraint("ended_at IS NULL OR size = 1", name="ended_at"),
    sqlite_with_rowid=False,
    comment="Segments of a batch, message numbers first to first + size - 1, that a step processes"
    " one by one because it failed on the whole batch. tries: attempts begun. ended_at: when a"
    " message that failed every try was stopped. error: its last known error.",
)

reports = Table(
    "reports",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("kind", String(17), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    CheckConstraint("kind IN ('receipts_due_at', 'engagement_due_at')", name="kind"),
    Index(None, "campaign_id", "batch"),
    comment="Reports from gateways that no step has applied yet. kind: the column of batches that"
    " says when the step is due. received_at: real time. body: a JSON list of receipts or of"
    " engagement events.",
)

upkeep = Table(
    "upkeep",
    metadata,
    Column("task", String(16), primary_key=True),
    Column("ran_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    comment="Tasks that beat starts once a day, such as rollup. ran_at: real time of the last run.",
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("labels", String(64), primary_key=True),
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("events", BigInteger, nullable=False),
    Column("microseconds", BigInteger, nullable=False),
    CheckConstraint("events > 0", name="events"),
    CheckConstraint("microseconds >= 0", name="microseconds"),
    sqlite_with_rowid=False,
    comment="What happened since the database was created, for the metrics; also work on campaigns"
    " that were deleted. labels: separated by spaces. shard: the rows of a counter are added up;"
    " there are several, so that workers seldom wait for each other. microseconds: what the events"
    " took, in real time.",
)

deferrals = Table(
    "deferrals",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("check_name", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("first_deferred_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    sqlite_with_rowid=False,
    comment="Queued messages that a check deferred. until: when they are judged again.",
)

open_submissions = Table(
    "open_submissions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    ForeignKeyConstraint(["campaign_id", "batch"], ["batches.campaign_id", "batches.batch"]),
    Index(None, "campaign_id", "batch"),
    comment="Messages that a step has begun to submit, and whose answer isn't recorded: the numbers"
    " first to last that wait for an attempt. Written before the gateway is called, and deleted"
    " with the answer.",
)

actions = Table(
    "actions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(8), nullable=False),
    Column("target_kind", String(8), nullable=False),
    Column("target", Text, nullable=False),
    Column("campaign_id", Integer),
    Column("batch", Integer),
    Column("run_id", Integer),
    Column("reason", Text, nullable=False, server_default=text("''")),
    CheckConstraint(f"action IN ({sql_string_list(ActionKind)})", name="action"),
    CheckConstraint(f"target_kind IN ({sql_string_list(TargetKind)})", name="target_kind"),
    comment="What people did: the action log. at: real time, by the database's clock. actor: who."
    " target: the name of the campaign or queue, CAMPAIGN/BATCH, or the number of the run."
    " campaign_id, batch, run_id: keys of the target, where it has them; a campaign has its run's."
    " reason: why; may be empty.",
)
