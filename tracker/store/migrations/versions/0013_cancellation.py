"""Campaigns can be cancelled: the reason, and what was given to the gateway before it answered.

Written out instead of derived from the vocabulary, so that it stays the same when that grows.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

revision = "0013_cancellation"
down_revision = "0012_retention"
compatible = False

REASONS = "reason IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)"

NEW_REASONS = REASONS.replace("26)", "26, 27)")

TABLES_WITH_REASONS = ("messages", "transitions", "tallies")

SQLITE_TRIGGER = """\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN NOT (CASE OLD.status WHEN 0 THEN NEW.status IN (1, 2) WHEN 1 THEN NEW.status IN (2, 3) WHEN 3 THEN NEW.status IN (4, 5, 6, 7) WHEN 4 THEN NEW.status IN (3) WHEN 6 THEN NEW.status IN (7) ELSE 1 = 0 END)
BEGIN SELECT RAISE(ABORT, 'illegal change of status'); END
"""

SQLITE_STATISTICS = (
    "DELETE FROM sqlite_stat1 WHERE tbl IN ('messages', 'transitions', 'tallies', 'messages_before', 'transitions_before', 'tallies_before')",
    "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('messages', 'messages', '1000000 100000 1'), ('transitions', 'transitions', '4000000 400000 100000 100000 1'), ('tallies', 'tallies', '10000 1000 10 2 2 1')",
)

VIEWS = (
    """\
CREATE VIEW messages_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, messages.number, attempt,
    CASE status WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS status, CASE reason WHEN 1 THEN 'organization_disabled' WHEN 2 THEN 'configuration' WHEN 3 THEN 'unsubscribed' WHEN 4 THEN 'ndnc' WHEN 5 THEN 'bounced_repeatedly' WHEN 6 THEN 'message_limit' WHEN 7 THEN 'out_of_credit' WHEN 8 THEN 'email_missing' WHEN 9 THEN 'mobile_missing_or_invalid' WHEN 10 THEN 'not_in_loyalty_program' WHEN 11 THEN 'coupon_configuration' WHEN 12 THEN 'coupon_id_missing' WHEN 13 THEN 'coupon_date_format' WHEN 14 THEN 'coupon_expired' WHEN 15 THEN 'coupon_redeemed' WHEN 16 THEN 'data_missing' WHEN 17 THEN 'gateway_configuration' WHEN 18 THEN 'timeout' WHEN 19 THEN 'handler_not_found' WHEN 20 THEN 'coupon_issue' WHEN 21 THEN 'referral_service' WHEN 22 THEN 'subscription_service' WHEN 23 THEN 'rule_failed' WHEN 24 THEN 'step_failed' WHEN 25 THEN 'custom_rule' WHEN 26 THEN 'duplicate_recipient' WHEN 27 THEN 'cancelled' END AS reason
FROM messages JOIN campaigns ON campaigns.id = messages.campaign_id
""",
    """\
CREATE VIEW transitions_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, number, attempt,
    CASE previous WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS previous, CASE status WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS status,
    CASE reason WHEN 1 THEN 'organization_disabled' WHEN 2 THEN 'configuration' WHEN 3 THEN 'unsubscribed' WHEN 4 THEN 'ndnc' WHEN 5 THEN 'bounced_repeatedly' WHEN 6 THEN 'message_limit' WHEN 7 THEN 'out_of_credit' WHEN 8 THEN 'email_missing' WHEN 9 THEN 'mobile_missing_or_invalid' WHEN 10 THEN 'not_in_loyalty_program' WHEN 11 THEN 'coupon_configuration' WHEN 12 THEN 'coupon_id_missing' WHEN 13 THEN 'coupon_date_format' WHEN 14 THEN 'coupon_expired' WHEN 15 THEN 'coupon_redeemed' WHEN 16 THEN 'data_missing' WHEN 17 THEN 'gateway_configuration' WHEN 18 THEN 'timeout' WHEN 19 THEN 'handler_not_found' WHEN 20 THEN 'coupon_issue' WHEN 21 THEN 'referral_service' WHEN 22 THEN 'subscription_service' WHEN 23 THEN 'rule_failed' WHEN 24 THEN 'step_failed' WHEN 25 THEN 'custom_rule' WHEN 26 THEN 'duplicate_recipient' WHEN 27 THEN 'cancelled' END AS reason, at AS microseconds_utc, step_id
FROM transitions JOIN campaigns ON campaigns.id = transitions.campaign_id
""",
)

COMMENT = "One message to one audience over one channel. requires: a JSON list of required data. kind, services_kind: names of entry points in sendtrace.handlers and sendtrace.services. coupon_series: may name a series that the organization doesn't have. engagement_as_of: when its engagement was last rolled up. title: what people read beside the name. message: a JSON object of its templates and its size. keeps_suppressions: whether it adds to the suppression list of its organization. paused_at: since when a person has paused it; null if it isn't paused. resumed_at: when it was last resumed. cancelled_at: when a person cancelled it; null if nobody has. All are instants of the run's clock."


def upgrade() -> None:
    op.add_column("campaigns", sa.Column("cancelled_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "open_submissions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("open_submissions_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("open_submissions_pkey")),
        comment="Messages that a step has begun to submit, and whose answer isn't recorded: the numbers first to last that wait for an attempt. Written before the gateway is called, and deleted with the answer.",
    )
    op.create_index(
        op.f("open_submissions_campaign_id_batch_idx"), "open_submissions", ["campaign_id", "batch"]
    )
    connection = op.get_bind()
    for view in ("messages_by_name", "transitions_by_name"):
        connection.exec_driver_sql(f"DROP VIEW {view}")
    if connection.dialect.name == "postgresql":
        _allow_reason_on_postgresql(connection)
        op.create_table_comment("campaigns", COMMENT)
    else:
        _allow_reason_on_sqlite(connection)
    for view in VIEWS:
        connection.exec_driver_sql(view)


def _allow_reason_on_postgresql(connection: Connection) -> None:
    for table in TABLES_WITH_REASONS:
        name = f"{table}_reason_check"
        connection.exec_driver_sql(
            f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name}"
            f" CHECK ((status = 2 AND {NEW_REASONS}) OR (status <> 2 AND reason = 0))"
        )


def _allow_reason_on_sqlite(connection: Connection) -> None:
    """Copy the tables: SQLite can't change a constraint."""
    connection.exec_driver_sql("DROP TRIGGER messages_legal")
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    for table in TABLES_WITH_REASONS:
        definition = connection.exec_driver_sql(query, (table,)).scalar_one()
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_before")
        connection.exec_driver_sql(definition.replace(REASONS, NEW_REASONS))
        connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM {table}_before")
        connection.exec_driver_sql(f"DROP TABLE {table}_before")
    for statement in (SQLITE_TRIGGER, *SQLITE_STATISTICS):
        connection.exec_driver_sql(statement)
