"""The tables of the tracker.

Written out instead of derived from the vocabulary, so that it stays the same when that grows.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008_initial"
down_revision = None
compatible = True

POSTGRESQL_TRIGGER = (
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

SQLITE_TRIGGER_AND_STATISTICS = (
    """\
CREATE TRIGGER messages_legal BEFORE UPDATE OF status ON messages FOR EACH ROW
WHEN NOT (CASE OLD.status WHEN 0 THEN NEW.status IN (1, 2) WHEN 1 THEN NEW.status IN (2, 3) WHEN 3 THEN NEW.status IN (4, 5, 6, 7) WHEN 4 THEN NEW.status IN (3) WHEN 6 THEN NEW.status IN (7) ELSE 1 = 0 END)
BEGIN SELECT RAISE(ABORT, 'illegal change of status'); END
""",
    "ANALYZE",
    "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('messages', 'messages', '1000000 100000 1'), ('transitions', 'transitions', '4000000 400000 100000 100000 1'), ('customers', 'customers', '1000000 100000 1'), ('batches', 'batches', '1000 100 1'), ('tallies', 'tallies', '10000 1000 10 2 2 1')",
)

VIEWS = (
    """\
CREATE VIEW messages_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, messages.number, attempt,
    CASE status WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS status, CASE reason WHEN 1 THEN 'organization_disabled' WHEN 2 THEN 'configuration' WHEN 3 THEN 'unsubscribed' WHEN 4 THEN 'ndnc' WHEN 5 THEN 'bounced_repeatedly' WHEN 6 THEN 'message_limit' WHEN 7 THEN 'out_of_credit' WHEN 8 THEN 'email_missing' WHEN 9 THEN 'mobile_missing_or_invalid' WHEN 10 THEN 'not_in_loyalty_program' WHEN 11 THEN 'coupon_configuration' WHEN 12 THEN 'coupon_id_missing' WHEN 13 THEN 'coupon_date_format' WHEN 14 THEN 'coupon_expired' WHEN 15 THEN 'coupon_redeemed' WHEN 16 THEN 'data_missing' WHEN 17 THEN 'gateway_configuration' WHEN 18 THEN 'timeout' WHEN 19 THEN 'handler_not_found' WHEN 20 THEN 'coupon_issue' WHEN 21 THEN 'referral_service' WHEN 22 THEN 'subscription_service' WHEN 23 THEN 'rule_failed' WHEN 24 THEN 'step_failed' WHEN 25 THEN 'custom_rule' WHEN 26 THEN 'duplicate_recipient' END AS reason
FROM messages JOIN campaigns ON campaigns.id = messages.campaign_id
""",
    """\
CREATE VIEW transitions_by_name AS
SELECT campaigns.name AS campaign, campaigns.run_id AS run, number, attempt,
    CASE previous WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS previous, CASE status WHEN 0 THEN 'queued' WHEN 1 THEN 'about_to_be_sent' WHEN 2 THEN 'not_sent' WHEN 3 THEN 'in_gateway' WHEN 4 THEN 'soft_bounced' WHEN 5 THEN 'not_delivered' WHEN 6 THEN 'delivered' WHEN 7 THEN 'hard_bounced' END AS status,
    CASE reason WHEN 1 THEN 'organization_disabled' WHEN 2 THEN 'configuration' WHEN 3 THEN 'unsubscribed' WHEN 4 THEN 'ndnc' WHEN 5 THEN 'bounced_repeatedly' WHEN 6 THEN 'message_limit' WHEN 7 THEN 'out_of_credit' WHEN 8 THEN 'email_missing' WHEN 9 THEN 'mobile_missing_or_invalid' WHEN 10 THEN 'not_in_loyalty_program' WHEN 11 THEN 'coupon_configuration' WHEN 12 THEN 'coupon_id_missing' WHEN 13 THEN 'coupon_date_format' WHEN 14 THEN 'coupon_expired' WHEN 15 THEN 'coupon_redeemed' WHEN 16 THEN 'data_missing' WHEN 17 THEN 'gateway_configuration' WHEN 18 THEN 'timeout' WHEN 19 THEN 'handler_not_found' WHEN 20 THEN 'coupon_issue' WHEN 21 THEN 'referral_service' WHEN 22 THEN 'subscription_service' WHEN 23 THEN 'rule_failed' WHEN 24 THEN 'step_failed' WHEN 25 THEN 'custom_rule' WHEN 26 THEN 'duplicate_recipient' END AS reason, at AS microseconds_utc, step_id
FROM transitions JOIN campaigns ON campaigns.id = transitions.campaign_id
""",
)


def upgrade() -> None:
    _create_catalog_tables()
    _create_message_tables()
    _create_work_tables()
    _create_counters()
    _create_deferrals()
    _create_message_costs()
    _create_engagement_tables()
    _create_suppression_tables()
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    extras = POSTGRESQL_TRIGGER if is_postgresql else SQLITE_TRIGGER_AND_STATISTICS
    for statement in (*extras, *VIEWS):
        op.get_bind().exec_driver_sql(statement)


def _create_catalog_tables() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scenario", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("clock_start", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("speed", sa.Float(), server_default=sa.text("1"), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "defer_at_most", sa.BigInteger(), server_default=sa.text("86400000000"), nullable=False
        ),
        sa.Column("ahead", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.Column("given_up_at", sa.BigInteger(), nullable=True),
        sa.Column("given_up_as", sa.String(length=16), nullable=True),
        sa.Column("resumes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("speed > 0", name=op.f("runs_speed_check")),
        sa.CheckConstraint(
            "given_up_as IN ('interrupted', 'aborted') AND given_up_at IS NOT NULL OR given_up_as IS NULL AND given_up_at IS NULL",
            name=op.f("runs_given_up_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_pkey")),
        comment="One execution of a scenario: campaigns recorded together. started_at: real time. clock_start: what its clock showed then; null if that was real time. rules: a JSON object of settings by rule. defer_at_most: microseconds for which rules may defer a message. ahead: microseconds by which its clock was put forward. heartbeat_at: when its driver last said that it is alive, by the database's clock. given_up_at, given_up_as: when an unfinished run was given up, so that no sweep continues it, and as what. resumes: how often a further driver continued it after a pause.",
    )
    op.create_table(
        "organizations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("credit", sa.BigInteger(), nullable=True),
        sa.Column("credit_used", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("hard_bounce_limit", sa.Integer(), server_default=sa.text("2"), nullable=False),
        sa.Column("soft_bounce_limit", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("message_limit", sa.Integer(), nullable=True),
        sa.Column("message_limit_days", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("channels", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("credit_email", sa.BigInteger(), nullable=True),
        sa.Column("credit_sms", sa.BigInteger(), nullable=True),
        sa.Column(
            "credit_used_email", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("credit_used_sms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("suppressions", sa.Integer(), nullable=True),
        sa.Column("suppressions_digest", sa.String(length=64), nullable=True),
        sa.CheckConstraint("credit >= 0", name=op.f("organizations_credit_check")),
        sa.CheckConstraint("credit_email >= 0", name=op.f("organizations_credit_email_check")),
        sa.CheckConstraint("credit_sms >= 0", name=op.f("organizations_credit_sms_check")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("organizations_run_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("organizations_pkey")),
        comment="The sender of campaigns. credit: messages left, for all channels together; null is unlimited. credit_used: messages charged to it. credit_email, credit_used_email, credit_sms, credit_used_sms: of one channel. message_limit: messages per customer within message_limit_days; null is unlimited. channels: a JSON object of settings by channel. title: what people read instead of the name. suppressions, suppressions_digest: size and digest of its suppression list when the run began; null if it keeps none.",
    )
    op.create_table(
        "gateways",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=True),
        sa.Column("retry_after", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("replies", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column(
            "unconfirmed_after",
            sa.BigInteger(),
            server_default=sa.text("86400000000"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("gateways_run_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("gateways_pkey")),
        comment="A service that accepts messages. kind: name of an entry point in sendtrace.gateways. settings: read by that gateway only. rate: messages accepted per second; null is unlimited. retry_after: microseconds until a soft-bounced message is submitted again, at first; doubled with each attempt. replies: a JSON list of rules that classify its replies. unconfirmed_after: microseconds after which a message without a reply is not delivered.",
    )
    op.create_table(
        "audiences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.CheckConstraint("size >= 0", name=op.f("audiences_size_check")),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("audiences_organization_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("audiences_pkey")),
        comment="The customers of one or several campaigns. size: their number, set once all of them are recorded. title: what people read instead of the source.",
    )
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
        sa.Column("marked_spam_email", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("marked_spam_sms", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("ndnc", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("hard_bounces_email", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("soft_bounces_email", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_store", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("coupon_id", sa.Text(), nullable=True),
        sa.Column("coupon_expires", sa.Text(), nullable=True),
        sa.Column("coupon_redeemed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("custom", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("hard_bounces_sms", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("soft_bounces_sms", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=True),
        sa.Column("mobile_key", sa.String(length=16), nullable=True),
        sa.CheckConstraint("hard_bounces_email >= 0", name=op.f("customers_hard_bounces_check")),
        sa.CheckConstraint("soft_bounces_email >= 0", name=op.f("customers_soft_bounces_check")),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("customers_audience_id_fkey")
        ),
        sa.PrimaryKeyConstraint("audience_id", "number", name=op.f("customers_pkey")),
        sa.UniqueConstraint(
            "customer_id", "audience_id", name=op.f("customers_customer_id_audience_id_key")
        ),
        comment="A person in an audience, numbered within it. mobile_e164: null where mobile isn't a valid number. custom: a JSON object of tag:NAME and field:NAME. email_key, mobile_key: the address and the number as they are compared; null where they aren't: for generated customers, malformed addresses, and recipients that force an outcome.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "shared_addresses",
        sa.Column("audience_id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("address", sa.Integer(), nullable=False),
        sa.Column("is_duplicate", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "channel IN ('email', 'sms')", name=op.f("shared_addresses_channel_check")
        ),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("shared_addresses_audience_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("shared_addresses_organization_id_fkey"),
        ),
        sa.PrimaryKeyConstraint(
            "audience_id", "channel", "number", name=op.f("shared_addresses_pkey")
        ),
        comment="Customers whose address or number other customers of the organization have, too. address: the same for all of them on the channel. is_duplicate: an earlier customer of the audience has it and gets the message.",
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("shared_addresses_organization_id_channel_address_idx"),
        "shared_addresses",
        ["organization_id", "channel", "address"],
        unique=False,
    )
    op.create_table(
        "coupon_series",
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("coupon_series_organization_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("organization_id", "name", name=op.f("coupon_series_pkey")),
        comment="Coupons that are issued together and valid while the series is active.",
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
        sa.Column("kind", sa.Text(), server_default=sa.text("'promotion'"), nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("coupon_series", sa.Text(), nullable=True),
        sa.Column("services_kind", sa.Text(), server_default=sa.text("'sql'"), nullable=False),
        sa.Column("services_settings", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("tracks_engagement", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("engagement_as_of", sa.BigInteger(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("keeps_suppressions", sa.Boolean(), server_default=sa.false(), nullable=False),
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
        comment="One message to one audience over one channel. requires: a JSON list of required data. kind, services_kind: names of entry points in sendtrace.handlers and sendtrace.services. coupon_series: may name a series that the organization doesn't have. engagement_as_of: when its engagement was last rolled up. title: what people read beside the name. message: a JSON object of its templates and its size. keeps_suppressions: whether it adds to the suppression list of its organization.",
    )
    op.create_index(op.f("campaigns_name_idx"), "campaigns", ["name"], unique=False)
    op.create_table(
        "batches",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.Column("receipts_due_at", sa.BigInteger(), nullable=True),
        sa.Column("engagement_due_at", sa.BigInteger(), nullable=True),
        sa.Column("deferral_due_at", sa.BigInteger(), nullable=True),
        sa.Column("deferred", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("unconfirmed_due_at", sa.BigInteger(), nullable=True),
        sa.Column("unconfirmed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("deferred >= 0", name=op.f("batches_deferred_check")),
        sa.CheckConstraint("unconfirmed >= 0", name=op.f("batches_unconfirmed_check")),
        sa.CheckConstraint("first >= 0", name=op.f("batches_first_check")),
        sa.CheckConstraint("size >= 1", name=op.f("batches_size_check")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("batches_campaign_id_fkey")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "batch", name=op.f("batches_pkey")),
        comment="The message numbers first to first + size - 1 of a campaign: the unit of a task. touched_at: when a step last changed it. receipts_due_at, engagement_due_at: when the gateway may next have news; null is never. deferred, deferral_due_at: its rows in deferrals, and the earliest of their times. unconfirmed, unconfirmed_due_at: its messages in the gateway that got no reply, and when the first of them counts as not delivered.",
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("batches_unconfirmed_due_at_idx"),
        "batches",
        ["unconfirmed_due_at"],
        unique=False,
        sqlite_where=sa.text("unconfirmed_due_at IS NOT NULL"),
        postgresql_where=sa.text("unconfirmed_due_at IS NOT NULL"),
    )


def _create_message_tables() -> None:
    op.create_table(
        "messages",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(status = 2 AND reason IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)) OR (status <> 2 AND reason = 0)",
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
        comment="One campaign to one customer. number: the customer's number in its audience.",
        postgresql_with={"fillfactor": 40},
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
            "(status = 2 AND reason IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)) OR (status <> 2 AND reason = 0)",
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
        comment="Every change of a message's status. A message enters a status once per attempt.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transition_details",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("status", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("check_name", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", "status", name=op.f("transition_details_pkey")
        ),
        comment="What a transition's status and reason don't say. check_name: the check that blocked the message, unless it is named like its reason. detail: the error, the check's text, or what the gateway reported, such as an enhanced status code (RFC 3463).",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refused_receipts",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("status", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("copy", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=9), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('duplicate', 'stale', 'unknown')",
            name=op.f("refused_receipts_verdict_check"),
        ),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", "status", "copy", name=op.f("refused_receipts_pkey")
        ),
        comment="Receipts that were not applied, each once, as the gateway gave them. copy: tells otherwise identical receipts apart.",
        sqlite_with_rowid=False,
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
            "(status = 2 AND reason IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)) OR (status <> 2 AND reason = 0)",
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
        comment="Messages of a batch by status, reason and attempt. The report sums these rows.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bounce_tallies",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("cause", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.CheckConstraint("status IN (4, 7)", name=op.f("bounce_tallies_status_check")),
        sa.CheckConstraint(
            "cause IN (0, 1, 2, 3, 4, 5, 6, 7)", name=op.f("bounce_tallies_cause_check")
        ),
        sa.CheckConstraint("messages >= 0", name=op.f("bounce_tallies_messages_check")),
        sa.PrimaryKeyConstraint(
            "campaign_id", "batch", "status", "cause", name=op.f("bounce_tallies_pkey")
        ),
        comment="Bounced messages of a batch by status and by the cause that the gateway gave.",
        sqlite_with_rowid=False,
    )


def _create_work_tables() -> None:
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
        sa.Column("check_times", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "step IN ('enqueue', 'suppress', 'validate', 'dispatch', 'submit', 'deliver', 'engage')",
            name=op.f("steps_step_check"),
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("steps_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("steps_pkey")),
        comment="One recorded step on one batch. task_id: the Celery task that ran it. moved: messages whose status it changed. check_times: estimated calls and microseconds of each check, as a JSON object of lists; null if that is too little to matter.",
    )
    op.create_index(
        op.f("steps_campaign_id_batch_idx"), "steps", ["campaign_id", "batch"], unique=False
    )
    op.create_table(
        "recoveries",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "step IN ('enqueue', 'suppress', 'validate', 'dispatch', 'submit', 'deliver', 'engage')",
            name=op.f("recoveries_step_check"),
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("recoveries_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("campaign_id", "batch", name=op.f("recoveries_pkey")),
        comment="The last re-queue of a stalled batch. times: re-queues in a row without progress. touched_at: the batch's touched_at when it was re-queued. sent_at: real time.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "parts",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "step IN ('enqueue', 'suppress', 'validate', 'dispatch', 'submit', 'deliver', 'engage')",
            name=op.f("parts_step_check"),
        ),
        sa.CheckConstraint("ended_at IS NULL OR size = 1", name=op.f("parts_ended_at_check")),
        sa.CheckConstraint("size >= 1", name=op.f("parts_size_check")),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("parts_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("campaign_id", "batch", "step", "first", name=op.f("parts_pkey")),
        comment="Segments of a batch, message numbers first to first + size - 1, that a step processes one by one because it failed on the whole batch. tries: attempts begun. ended_at: when a message that failed every try was stopped. error: its last known error.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=17), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('receipts_due_at', 'engagement_due_at')", name=op.f("reports_kind_check")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("reports_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("reports_pkey")),
        comment="Reports from gateways that no step has applied yet. kind: the column of batches that says when the step is due. received_at: real time. body: a JSON list of receipts or of engagement events.",
    )
    op.create_index(
        op.f("reports_campaign_id_batch_idx"), "reports", ["campaign_id", "batch"], unique=False
    )
    op.create_table(
        "upkeep",
        sa.Column("task", sa.String(length=16), nullable=False),
        sa.Column("ran_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("upkeep_pkey")),
        comment="Tasks that beat starts once a day, such as rollup. ran_at: real time of the last run.",
        sqlite_with_rowid=False,
    )


def _create_counters() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("labels", sa.String(length=64), nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("microseconds", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("events > 0", name=op.f("counters_events_check")),
        sa.CheckConstraint("microseconds >= 0", name=op.f("counters_microseconds_check")),
        sa.PrimaryKeyConstraint("name", "labels", "shard", name=op.f("counters_pkey")),
        comment="What happened since the database was created, for the metrics; also work on campaigns that were deleted. labels: separated by spaces. shard: the rows of a counter are added up; there are several, so that workers seldom wait for each other. microseconds: what the events took, in real time.",
        sqlite_with_rowid=False,
    )


def _create_message_costs() -> None:
    op.create_table(
        "message_costs",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("credit", sa.Integer(), nullable=False),
        sa.CheckConstraint("credit >= 2", name=op.f("message_costs_credit_check")),
        sa.PrimaryKeyConstraint("campaign_id", "number", name=op.f("message_costs_pkey")),
        comment="Messages that cost more credit than one: SMS of several segments. Others cost one.",
        sqlite_with_rowid=False,
    )


def _create_deferrals() -> None:
    op.create_table(
        "deferrals",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("check_name", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("first_deferred_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id", "batch"],
            ["batches.campaign_id", "batches.batch"],
            name=op.f("deferrals_campaign_id_batch_fkey"),
        ),
        sa.PrimaryKeyConstraint("campaign_id", "batch", "number", name=op.f("deferrals_pkey")),
        comment="Queued messages that a check deferred. until: when they are judged again.",
        sqlite_with_rowid=False,
    )


def _create_engagement_tables() -> None:
    op.create_table(
        "engagements",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("kind IN (1, 2, 3, 4, 5)", name=op.f("engagements_kind_check")),
        sa.PrimaryKeyConstraint(
            "campaign_id", "kind", "number", "at", name=op.f("engagements_pkey")
        ),
        comment="What recipients did with messages, each event once. Opt-outs may be recorded before the delivery.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "engagement_tallies",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("quarter", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("rolled", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("kind IN (1, 2, 3, 4, 5)", name=op.f("engagement_tallies_kind_check")),
        sa.CheckConstraint("recipients >= 0", name=op.f("engagement_tallies_recipients_check")),
        sa.PrimaryKeyConstraint(
            "campaign_id", "kind", "batch", "quarter", name=op.f("engagement_tallies_pkey")
        ),
        comment="Recipients of a batch whose first event of a kind falls in a quarter of an hour. quarter: counted from 1970-01-01 00:00 UTC. rolled: how many of them engagement_days counts already.",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "engagement_tallies_new_idx",
        "engagement_tallies",
        ["campaign_id"],
        unique=False,
        sqlite_where=sa.text("recipients <> rolled"),
        postgresql_where=sa.text("recipients <> rolled"),
    )
    op.create_table(
        "engagement_days",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.CheckConstraint("kind IN (1, 2, 3, 4, 5)", name=op.f("engagement_days_kind_check")),
        sa.CheckConstraint("recipients >= 0", name=op.f("engagement_days_recipients_check")),
        sa.PrimaryKeyConstraint("campaign_id", "day", "kind", name=op.f("engagement_days_pkey")),
        comment="The rollup: recipients whose first event of a kind falls on a local day, such as 2026-11-24.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "engaged_then_bounced",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.CheckConstraint("messages >= 0", name=op.f("engaged_then_bounced_messages_check")),
        sa.PrimaryKeyConstraint("campaign_id", "batch", name=op.f("engaged_then_bounced_pkey")),
        comment="Messages of a batch that bounced although their recipients engaged. The other tables of counts leave them out.",
        sqlite_with_rowid=False,
    )


def _create_suppression_tables() -> None:
    address = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    op.create_table(
        "suppressions",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("address", address, nullable=False),
        sa.Column("count", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("channel IN ('email', 'sms')", name=op.f("suppressions_channel_check")),
        sa.CheckConstraint(
            "reason IN ('unsubscribed', 'spam', 'ndnc', 'hard_bounced', 'soft_bounced')",
            name=op.f("suppressions_reason_check"),
        ),
        sa.CheckConstraint(
            "reason <> 'ndnc' OR channel = 'sms'", name=op.f("suppressions_ndnc_check")
        ),
        sa.CheckConstraint("count >= 1", name=op.f("suppressions_count_check")),
        sa.PrimaryKeyConstraint(
            "organization", "channel", "reason", "address", name=op.f("suppressions_pkey")
        ),
        comment="Recipients that organizations with keep suppress in all runs. organization: its name. address: an email address as it is compared, or a number in E.164. count: bounces; 1 for other reasons. source: where it comes from. since: when it was listed. expires_at: when it stops to count; null is never.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_suppressions",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("address", address, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("run_suppressions_run_id_fkey")),
        sa.PrimaryKeyConstraint(
            "run_id",
            "organization",
            "channel",
            "reason",
            "address",
            name=op.f("run_suppressions_pkey"),
        ),
        comment="The entries of suppressions that counted when a run began: a part of its input.",
        sqlite_with_rowid=False,
    )
