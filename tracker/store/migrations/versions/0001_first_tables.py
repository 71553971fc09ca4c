"""The first tables. Written out, so that it stays what it is when the vocabulary grows."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

POSTGRESQL_EXTRAS = (
    """\
CREATE FUNCTION messages_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'illegal change of message '
        || OLD.campaign_id || '.' || OLD.number || ': ' || OLD.status || ' to ' || NEW.status;
END $$
""",
    """\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN (NOT (CASE OLD.status WHEN 0 THEN NEW.status IN (1, 2) WHEN 1 THEN NEW.status IN (2, 3) WHEN 3 THEN NEW.status IN (4, 5, 6, 7) WHEN 4 THEN NEW.status IN (3) WHEN 6 THEN NEW.status IN (7) ELSE 1 = 0 END)) EXECUTE FUNCTION messages_refuse_change()
""",
)

SQLITE_EXTRAS = (
    """\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN NOT (CASE OLD.status WHEN 0 THEN NEW.status IN (1, 2) WHEN 1 THEN NEW.status IN (2, 3) WHEN 3 THEN NEW.status IN (4, 5, 6, 7) WHEN 4 THEN NEW.status IN (3) WHEN 6 THEN NEW.status IN (7) ELSE 1 = 0 END)
BEGIN SELECT RAISE(ABORT, 'illegal change of status'); END
""",
    """\
ANALYZE
""",
    """\
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('messages', 'messages', '1000000 100000 1'), ('transitions', 'transitions', '4000000 400000 100000 100000 1'), ('customers', 'customers', '1000000 100000 1'), ('batches', 'batches', '1000 100 1'), ('tallies', 'tallies', '10000 1000 10 2 2 1')
""",
)

VIEWS = (
    """\
CREATE VIEW messages_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, messages.number, attempt,
    CASE status WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS status, CASE reason WHEN 1 THEN 'organization_disabled' WHEN 2 THEN 'configuration' WHEN 3 THEN 'unsubscribed' WHEN 4 THEN 'ndnc' WHEN 5 THEN 'bounced_repeatedly' WHEN 6 THEN 'message_limit' WHEN 7 THEN 'out_of_credit' WHEN 8 THEN 'email_missing' WHEN 9 THEN 'mobile_missing_or_invalid' WHEN 10 THEN 'not_in_loyalty_program' WHEN 11 THEN 'coupon_configuration' WHEN 12 THEN 'coupon_id_missing' WHEN 13 THEN 'coupon_date_format' WHEN 14 THEN 'coupon_expired' WHEN 15 THEN 'coupon_redeemed' WHEN 16 THEN 'data_missing' WHEN 17 THEN 'gateway_configuration' WHEN 18 THEN 'timeout' WHEN 19 THEN 'handler_not_found' WHEN 20 THEN 'coupon_issue' WHEN 21 THEN 'referral_service' WHEN 22 THEN 'subscription_service' END AS reason
FROM messages JOIN campaigns ON campaigns.id = messages.campaign_id
""",
    """\
CREATE VIEW transitions_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, number, attempt,
    CASE previous WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS previous, CASE status WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS status,
    CASE reason WHEN 1 THEN 'organization_disabled' WHEN 2 THEN 'configuration' WHEN 3 THEN 'unsubscribed' WHEN 4 THEN 'ndnc' WHEN 5 THEN 'bounced_repeatedly' WHEN 6 THEN 'message_limit' WHEN 7 THEN 'out_of_credit' WHEN 8 THEN 'email_missing' WHEN 9 THEN 'mobile_missing_or_invalid' WHEN 10 THEN 'not_in_loyalty_program' WHEN 11 THEN 'coupon_configuration' WHEN 12 THEN 'coupon_id_missing' WHEN 13 THEN 'coupon_date_format' WHEN 14 THEN 'coupon_expired' WHEN 15 THEN 'coupon_redeemed' WHEN 16 THEN 'data_missing' WHEN 17 THEN 'gateway_configuration' WHEN 18 THEN 'timeout' WHEN 19 THEN 'handler_not_found' WHEN 20 THEN 'coupon_issue' WHEN 21 THEN 'referral_service' WHEN 22 THEN 'subscription_service' END AS reason, at AS microseconds_utc, step_id
FROM transitions JOIN campaigns ON campaigns.id = transitions.campaign_id
""",
)


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(status = 2 AND reason IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22)) OR (status <> 2 AND reason = 0)",
            name=op.f("messages_reason_check"),
        ),
        sa.CheckConstraint(
            "(status IN (0, 1, 2) AND attempt = 0) OR (status NOT IN (0, 1, 2) AND attempt >= 1)",
            name=op.f("messages_attempt_check"),
        ),
        sa.CheckConstraint(
            "status IN (0, 1, 2, 3, 4, 5, 6, 7)", name=op.f("messages_status_check")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "number", name=op.f("messages_pkey")),
        comment="One campaign to one customer (of the same number in the campaign's audience).",
        postgresql_with={"fillfactor": 40},
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scenario", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("speed", sa.Float(), server_default=sa.text("1"), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.CheckConstraint("speed > 0", name=op.f("runs_speed_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_pkey")),
        comment="Campaigns recorded together: one execution of a scenario.",
    )
    op.create_table(
        "tallies",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(status = 2 AND reason IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22)) OR (status <> 2 AND reason = 0)",
            name=op.f("tallies_reason_check"),
        ),
        sa.CheckConstraint(
            "(status IN (0, 1, 2) AND attempt = 0) OR (status NOT IN (0, 1, 2) AND attempt >= 1)",
            name=op.f("tallies_attempt_check"),
        ),
        sa.CheckConstraint("messages >= 0", name=op.f("tallies_messages_check")),
        sa.CheckConstraint("status IN (0, 1, 2, 3, 4, 5, 6, 7)", name=op.f("tallies_status_check")),
        sa.PrimaryKeyConstraint(
            "campaign_id", "batch", "status", "reason", "attempt", name=op.f("tallies_pkey")
        ),
        comment="How many messages of a batch are in a state: what the report adds up.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transitions",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("previous", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("step_id", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(status = 2 AND reason IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22)) OR (status <> 2 AND reason = 0)",
            name=op.f("transitions_reason_check"),
        ),
        sa.CheckConstraint(
            "(status IN (0, 1, 2) AND attempt = 0) OR (status NOT IN (0, 1, 2) AND attempt >= 1)",
            name=op.f("transitions_attempt_check"),
        ),
        sa.CheckConstraint(
            "CASE WHEN previous IS NULL THEN status IN (0) ELSE CASE previous WHEN 0 THEN status IN (1, 2) WHEN 1 THEN status IN (2, 3) WHEN 3 THEN status IN (4, 5, 6, 7) WHEN 4 THEN status IN (3) WHEN 6 THEN status IN (7) ELSE 1 = 0 END END",
            name=op.f("transitions_legal_check"),
        ),
        sa.CheckConstraint(
            "status IN (0, 1, 2, 3, 4, 5, 6, 7)", name=op.f("transitions_status_check")
        ),
        sa.PrimaryKeyConstraint(
            "campaign_id", "status", "attempt", "number", name=op.f("transitions_pkey")
        ),
        comment="Every change of a status, once: a message enters a status once an attempt.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gateways",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("gateways_run_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("gateways_pkey")),
        comment="What takes messages over. Kind is the name of an entry point in sendtrace.gateways.",
    )
    op.create_table(
        "organizations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("credit", sa.BigInteger(), nullable=True),
        sa.Column("hard_bounce_limit", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("soft_bounce_limit", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.CheckConstraint("credit >= 0", name=op.f("organizations_credit_check")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("organizations_run_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("organizations_pkey")),
        comment="Who sends. Credit counts messages; null is unlimited.",
    )
    op.create_table(
        "audiences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("audiences_organization_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("audiences_pkey")),
        comment="The customers of one campaign, or of several.",
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("audience_id", sa.Integer(), nullable=False),
        sa.Column("gateway_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("requires", sa.Text(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint("channel IN ('email', 'sms')", name=op.f("campaigns_channel_check")),
        sa.CheckConstraint("attempts >= 1", name=op.f("campaigns_attempts_check")),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("campaigns_audience_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["gateway_id"], ["gateways.id"], name=op.f("campaigns_gateway_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("campaigns_organization_id_fkey")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("campaigns_run_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("campaigns_pkey")),
        sa.UniqueConstraint("run_id", "name", name=op.f("campaigns_run_id_name_key")),
        comment="One message to one audience over one channel. requires is a JSON list.",
    )
    op.create_index(op.f("campaigns_name_idx"), "campaigns", ["name"], unique=False)
    op.create_table(
        "customers",
        sa.Column("audience_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("mobile", sa.Text(), nullable=True),
        sa.Column("mobile_e164", sa.String(length=16), nullable=True),
        sa.Column("loyalty_member", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("unsubscribed_email", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("unsubscribed_sms", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("ndnc", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("hard_bounces", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("soft_bounces", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_store", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("coupon_id", sa.Text(), nullable=True),
        sa.Column("coupon_expires", sa.Text(), nullable=True),
        sa.Column("coupon_redeemed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("custom", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.CheckConstraint("hard_bounces >= 0", name=op.f("customers_hard_bounces_check")),
        sa.CheckConstraint("soft_bounces >= 0", name=op.f("customers_soft_bounces_check")),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("customers_audience_id_fkey")
        ),
        sa.PrimaryKeyConstraint("audience_id", "number", name=op.f("customers_pkey")),
        sa.UniqueConstraint(
            "customer_id", "audience_id", name=op.f("customers_customer_id_audience_id_key")
        ),
        comment="People, numbered within their audience. mobile_e164 is null where no number can be read from mobile; custom is a JSON object of tag:NAME and field:NAME.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batches",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("first >= 0", name=op.f("batches_first_check")),
        sa.CheckConstraint("size >= 1", name=op.f("batches_size_check")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("batches_campaign_id_fkey")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "batch", name=op.f("batches_pkey")),
        comment="Message numbers first … first + size - 1. touched_at: when a step last changed it.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "step IN ('enqueue', 'suppress', 'validate', 'dispatch', 'submit', 'deliver')",
            name=op.f("steps_step_check"),
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("steps_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("steps_pkey")),
        comment="One step on one batch that was recorded: who did it, when, and how many it moved.",
    )
    op.create_index(
        op.f("steps_campaign_id_batch_idx"), "steps", ["campaign_id", "batch"], unique=False
    )
    extras = POSTGRESQL_EXTRAS if op.get_bind().dialect.name == "postgresql" else SQLITE_EXTRAS
    for statement in (*extras, *VIEWS):
        op.get_bind().exec_driver_sql(statement)
