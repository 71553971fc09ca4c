"""Tables of runs, organizations, gateways, audiences, campaigns and batches."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)

from tracker.campaign_states import GIVEN_UP_STATES
from tracker.status import Channel
from tracker.store.schema.metadata import metadata, sql_string_list

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scenario", Text, nullable=False),
    Column("seed", BigInteger),
    Column("started_at", BigInteger, nullable=False),
    Column("clock_start", BigInteger),
    Column("finished_at", BigInteger),
    Column("speed", Float, nullable=False, server_default=text("1")),
    Column("definition", Text, nullable=False),
    Column("rules", Text, nullable=False, server_default=text("'{}'")),
    Column("defer_at_most", BigInteger, nullable=False, server_default=text("86400000000")),
    Column("ahead", BigInteger, nullable=False, server_default=text("0")),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("given_up_at", BigInteger),
    Column("given_up_as", String(16)),
    Column("resumes", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("speed > 0", name="speed"),
    CheckConstraint(
        f"given_up_as IN ({sql_string_list(GIVEN_UP_STATES)})"
        " AND given_up_at IS NOT NULL OR given_up_as IS NULL AND given_up_at IS NULL",
        name="given_up",
    ),
    comment="One execution of a scenario: campaigns recorded together. started_at: real time."
    " clock_start: what its clock showed then; null if that was real time. rules: a JSON object of"
    " settings by rule. defer_at_most: microseconds for which rules may defer a message. ahead:"
    " microseconds by which its clock was put forward. heartbeat_at: when its driver last said that"
    " it is alive, by the database's clock. given_up_at, given_up_as: when an unfinished run was"
    " given up, so that no sweep continues it, and as what. resumes: how often a further driver"
    " continued it after a pause.",
)

organizations = Table(
    "organizations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("credit", BigInteger),
    Column("credit_used", BigInteger, nullable=False, server_default=text("0")),
    Column("hard_bounce_limit", Integer, nullable=False, server_default=text("2")),
    Column("soft_bounce_limit", Integer, nullable=False, server_default=text("3")),
    Column("message_limit", Integer),
    Column("message_limit_days", Integer, nullable=False, server_default=text("1")),
    Column("channels", Text, nullable=False, server_default=text("'{}'")),
    Column("title", Text),
    Column("credit_email", BigInteger),
    Column("credit_sms", BigInteger),
    Column("credit_used_email", BigInteger, nullable=False, server_default=text("0")),
    Column("credit_used_sms", BigInteger, nullable=False, server_default=text("0")),
    Column("suppressions", Integer),
    Column("suppressions_digest", String(64)),
    CheckConstraint("credit >= 0", name="credit"),
    CheckConstraint("credit_email >= 0", name="credit_email"),
    CheckConstraint("credit_sms >= 0", name="credit_sms"),
    comment="The sender of campaigns. credit: messages left, for all channels together; null is"
    " unlimited. credit_used: messages charged to it. credit_email, credit_used_email, credit_sms,"
    " credit_used_sms: of one channel. message_limit:"
    " messages per customer within message_limit_days; null is unlimited. channels: a JSON object"
    " of settings by channel. title: what people read instead of the name. suppressions,"
    " suppressions_digest: size and digest of its suppression list when the run began; null if it"
    " keeps none.",
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("rate", Integer),
    Column("retry_after", BigInteger, nullable=False, server_default=text("0")),
    Column("replies", Text, nullable=False, server_default=text("'[]'")),
    Column("unconfirmed_after", BigInteger, nullable=False, server_default=text("86400000000")),
    comment="A service that accepts messages. kind: name of an entry point in sendtrace.gateways."
    " settings: read by that gateway only. rate: messages accepted per second; null is unlimited."
    " retry_after: microseconds until a soft-bounced message is submitted again, at first; doubled"
    " with each attempt. replies: a JSON list of rules that classify its replies."
    " unconfirmed_after: microseconds after which a message without a reply is not delivered.",
)

audiences = Table(
    "audiences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("source", Text, nullable=False),
    Column("size", Integer, nullable=False, server_default=text("0")),
    Column("title", Text),
    CheckConstraint("size >= 0", name="size"),
    comment="The customers of one or several campaigns. size: their number, set once all of them"
    " are recorded. title: what people read instead of the source.",
)

customers = Table(
    "customers",
    metadata,
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", Text, nullable=False),
    Column("email", Text),
    Column("mobile", Text),
    Column("mobile_e164", String(16)),
    Column("loyalty_member", Boolean, nullable=False, server_default=false()),
    Column("unsubscribed_email", Boolean, nullable=False, server_default=false()),
    Column("unsubscribed_sms", Boolean, nullable=False, server_default=false()),
    Column("marked_spam_email", Boolean, nullable=False, server_default=false()),
    Column("marked_spam_sms", Boolean, nullable=False, server_default=false()),
    Column("ndnc", Boolean, nullable=False, server_default=false()),
    Column("hard_bounces_email", Integer, nullable=False, server_default=text("0")),
    Column("soft_bounces_email", Integer, nullable=False, server_default=text("0")),
    Column("last_store", Text),
    Column("profile", Text),
    Column("coupon_id", Text),
    Column("coupon_expires", Text),
    Column("coupon_redeemed", Boolean, nullable=False, server_default=false()),
    Column("custom", Text, nullable=False, server_default=text("'{}'")),
    Column("hard_bounces_sms", Integer, nullable=False, server_default=text("0")),
    Column("soft_bounces_sms", Integer, nullable=False, server_default=text("0")),
    Column("email_key", Text),
    Column("mobile_key", String(16)),
    # In this order, so that no query planner uses its index to find customers by number.
    UniqueConstraint("customer_id", "audience_id"),
    CheckConstraint("hard_bounces_email >= 0", name="hard_bounces"),
    CheckConstraint("soft_bounces_email >= 0", name="soft_bounces"),
    sqlite_with_rowid=False,
    comment="A person in an audience, numbered within it. mobile_e164: null where mobile isn't a"
    " valid number. custom: a JSON object of tag:NAME and field:NAME. email_key, mobile_key: the"
    " address and the number as they are compared; null where they aren't: for generated customers,"
    " malformed addresses, and recipients that force an outcome.",
)

shared_addresses = Table(
    "shared_addresses",
    metadata,
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True),
    Column("channel", String(8), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("address", Integer, nullable=False),
    Column("is_duplicate", Boolean, nullable=False),
    Index(None, "organization_id", "channel", "address"),
    CheckConstraint(f"channel IN ({sql_string_list(Channel)})", name="channel"),
    sqlite_with_rowid=False,
    comment="Customers whose address or number other customers of the organization have, too."
    " address: the same for all of them on the channel. is_duplicate: an earlier customer of the"
    " audience has it and gets the message.",
)

coupon_series = Table(
    "coupon_series",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("active", Boolean, nullable=False, server_default=true()),
    comment="Coupons that are issued together and valid while the series is active.",
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Column("gateway_id", ForeignKey("gateways.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("channel", String(8), nullable=False),
    Column("requires", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("1")),
    Column("kind", Text, nullable=False, server_default=text("'promotion'")),
    Column("sender", Text),
    Column("coupon_series", Text),
    Column("services_kind", Text, nullable=False, server_default=text("'sql'")),
    Column("services_settings", Text, nullable=False, server_default=text("'{}'")),
    Column("tracks_engagement", Boolean, nullable=False, server_default=false()),
    Column("engagement_as_of", BigInteger),
    Column("title", Text),
    Column("message", Text, nullable=False, server_default=text("'{}'")),
    Column("keeps_suppressions", Boolean, nullable=False, server_default=false()),
    Column("paused_at", BigInteger),
    Column("resumed_at", BigInteger),
    Column("cancelled_at", BigInteger),
    UniqueConstraint("run_id", "name"),
    Index(None, "name"),
    CheckConstraint(f"channel IN ({sql_string_list(Channel)})", name="channel"),
    CheckConstraint("attempts >= 1", name="attempts"),
    comment="One message to one audience over one channel. requires: a JSON list of required data."
    " kind, services_kind: names of entry points in sendtrace.handlers and sendtrace.services."
    " coupon_series: may name a series that the organization doesn't have. engagement_as_of: when"
    " its engagement was last rolled up. title: what people read beside the name. message: a JSON"
    " object of its templates and its size. keeps_suppressions: whether it adds to the suppression"
    " list of its organization. paused_at: since when a person has paused it; null if it isn't"
    " paused. resumed_at: when it was last resumed. cancelled_at: when a person cancelled it; null"
    " if nobody has. All are instants of the run's clock.",
)

batches = Table(
    "batches",
    metadata,
    Column("campaign_id", ForeignKey("campaigns.id"), primary_key=True),
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("first", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    Column("receipts_due_at", BigInteger),
    Column("engagement_due_at", BigInteger),
    Column("deferral_due_at", BigInteger),
    Column("deferred", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("first >= 0", name="first"),
    CheckConstraint("size >= 1", name="size"),
    Column("unconfirmed_due_at", BigInteger),
    Column("unconfirmed", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("deferred >= 0", name="deferred"),
    CheckConstraint("unconfirmed >= 0", name="unconfirmed"),
    Index(
        None,
        "unconfirmed_due_at",
        sqlite_where=text("unconfirmed_due_at IS NOT NULL"),
        postgresql_where=text("unconfirmed_due_at IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
    comment="The message numbers first to first + size - 1 of a campaign: the unit of a task."
    " touched_at: when a step last changed it. receipts_due_at, engagement_due_at: when the gateway"
    " may next have news; null is never. deferred, deferral_due_at: its rows in deferrals, and the"
    " earliest of their times. unconfirmed, unconfirmed_due_at: its messages in the gateway that"
    " got no reply, and when the first of them counts as not delivered.",
)
