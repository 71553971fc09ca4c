"""Campaigns and batches with all that a step needs to know of them, as the record has them now."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from tracker.clock import Clock, Instant, make_clock, to_microseconds
from tracker.errors import NotFound
from tracker.message_ids import MessageId, compute_digest
from tracker.organizations import (
    DEFAULT_CHANNEL_SETTINGS,
    ChannelSettings,
    CouponSeries,
    Organization,
)
from tracker.record.retention.runs import IS_NOT_PRUNED
from tracker.status import Channel
from tracker.store.schema.catalog import (
    batches,
    campaigns,
    coupon_series,
    gateways,
    organizations,
    runs,
    shared_addresses,
)
from tracker.text import suggest_similar

BatchKey = tuple[int, int]
"""A campaign's id and a batch."""

DEFAULT_DEFER_AT_MOST = timedelta(hours=24)
"""Time of a run's clock for which rules may defer a message."""

DEFAULT_UNCONFIRMED_AFTER = timedelta(hours=24)
"""Time of a run's clock after which a message without a reply counts as not delivered."""


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """One message to one audience over one channel.

    Attributes:
        requires: data of the customer without which the message can't be made.
        attempts: number of submissions of a message that soft-bounces.
        started_at: start of the run, by the run's clock.
        ahead: microseconds by which a fault has put the run's clock forward.
        really_started_at: real time of the start; None if the run's clock shows it.
        kind: entry point in `sendtrace.handlers` that prepares the messages.
        sender: the campaign's own, else the organization's on this channel.
        services_kind: entry point in `sendtrace.services`.
        gateway_rate: messages per second of the run's clock; None is unlimited.
        retry_after: microseconds from the first soft bounce of a message to its next submission.
        replies: rules for the gateway's replies, as JSON text for `tracker.replies.parse_rules`.
        unconfirmed_after: microseconds after which a message that was handed over without a reply
            counts as not delivered.
        rules: settings of rules, as the text of a JSON object; read them with `rule_settings`.
        defer_at_most: microseconds for which rules may defer a message.
        title: what people read beside the name, if it has one.
        message: templates of the message, as JSON text for `workers.message.source`.
        channel_settings: the organization's settings for the channel.
        keeps_suppressions: whether it adds to the suppression list of its organization.
        has_shared_addresses: whether other customers of the organization have the same addresses.
        paused_at: instant since when it is paused; None if it isn't.
        resumed_at: instant at which it was last resumed.
        cancelled_at: instant at which it was cancelled; None if it wasn't.
    """

    id: int
    run_id: int
    name: str
    channel: Channel
    requires: tuple[str, ...]
    attempts: int
    audience_id: int
    organization: Organization
    gateway_id: int
    gateway_kind: str
    gateway_settings: str
    seed: int | None
    started_at: Instant
    speed: float
    ahead: int = 0
    really_started_at: Instant | None = None
    kind: str = "promotion"
    channel_enabled: bool = True
    sender: str = ""
    coupon_series: CouponSeries | None = None
    gateway_enabled: bool = True
    services_kind: str = "sql"
    services_settings: str = "{}"
    tracks_engagement: bool = False
    gateway_rate: int | None = None
    retry_after: int = 0
    replies: str = "[]"
    unconfirmed_after: int = to_microseconds(DEFAULT_UNCONFIRMED_AFTER)
    rules: str = "{}"
    defer_at_most: int = to_microseconds(DEFAULT_DEFER_AT_MOST)
    title: str | None = None
    message: str = "{}"
    channel_settings: ChannelSettings = DEFAULT_CHANNEL_SETTINGS
    keeps_suppressions: bool = False
    has_shared_addresses: bool = False
    paused_at: Instant | None = None
    resumed_at: Instant | None = None
    cancelled_at: Instant | None = None

    def rule_settings(self, name: str) -> Mapping[str, Any]:
        """Return the settings of a rule, the table `[rules.NAME]` of the scenario; empty if none.

        Dates and times are texts in ISO 8601.
        """
        settings: Mapping[str, Any] = self._settings_by_rule.get(name, {})
        return settings

    def message_id(self, number: int) -> MessageId:
        """Return the Message-ID of an email, by the number of its message."""
        digest = compute_digest(self.run_id, self.really_started_at, self.name)
        return MessageId(number, self.id, digest)

    @cached_property
    def _settings_by_rule(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads(self.rules)
        return settings

    @cached_property
    def clock(self) -> Clock:
        """The clock of the campaign's run."""
        return make_clock(self.started_at, self.speed, self.ahead, self.really_started_at)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The messages `first` to `last` of a campaign: the unit of a task.

    Attributes:
        deferred: number of its messages that a check had deferred when the batch was loaded.
    """

    campaign: Campaign
    batch: int
    first: int
    size: int
    deferred: int = 0

    @property
    def last(self) -> int:
        """The number of the last message."""
        return self.first + self.size - 1


_CAMPAIGN_QUERY = (
    sa.select(
        campaigns,
        organizations.c.name.label("organization"),
        organizations.c.title.label("organization_title"),
        *(organizations.c[name] for name in ("enabled", "credit", "credit_email", "credit_sms")),
        *(organizations.c[name] for name in ("hard_bounce_limit", "soft_bounce_limit")),
        *(organizations.c[name] for name in ("message_limit", "message_limit_days", "channels")),
        gateways.c.kind.label("gateway_kind"),
        gateways.c.settings.label("gateway_settings"),
        gateways.c.enabled.label("gateway_enabled"),
        gateways.c.rate.label("gateway_rate"),
        *(gateways.c[name] for name in ("retry_after", "replies", "unconfirmed_after")),
        coupon_series.c.name.label("series"),
        coupon_series.c.active.label("series_active"),
        *(runs.c[name] for name in ("seed", "started_at", "clock_start", "speed", "ahead")),
        *(runs.c[name] for name in ("rules", "defer_at_most")),
        sa.exists()
        .where(shared_addresses.c.audience_id == campaigns.c.audience_id)
        .label("has_shared_addresses"),
    )
    .join(organizations, organizations.c.id == campaigns.c.organization_id)
    .join(gateways, gateways.c.id == campaigns.c.gateway_id)
    .join(runs, runs.c.id == campaigns.c.run_id)
    .outerjoin(
        coupon_series,
        sa.and_(
            coupon_series.c.organization_id == campaigns.c.organization_id,
            coupon_series.c.name == campaigns.c.coupon_series,
        ),
    )
)


def load_campaign(connection: Connection, campaign_id: int) -> Campaign:
    """Return a campaign; raise `NotFound` for an unknown id."""
    row = connection.execute(_CAMPAIGN_QUERY.where(campaigns.c.id == campaign_id)).one_or_none()
    if row is None:
        raise NotFound(f"unknown campaign id {campaign_id}")
    return _campaign_from_row(row)


def load_campaigns(connection: Connection, ids: Sequence[int]) -> list[Campaign]:
    """Return the campaigns with some ids, in the order of their ids, without unknown ones."""
    query = _CAMPAIGN_QUERY.where(campaigns.c.id.in_(ids)).order_by(campaigns.c.id)
    return [_campaign_from_row(row) for row in connection.execute(query)]


def find_latest_campaign_ids(connection: Connection, limit: int) -> list[int]:
    """Return the ids of the last recorded campaigns, the latest first."""
    query = sa.select(campaigns.c.id).order_by(campaigns.c.id.desc()).limit(limit)
    return list(connection.scalars(query))


def load_batch(connection: Connection, campaign_id: int, batch: int) -> Batch:
    """Return a batch with its campaign; raise `NotFound` for an unknown one."""
    query = _CAMPAIGN_QUERY.add_columns(batches.c.first, batches.c.size, batches.c.deferred).join(
        batches, batches.c.campaign_id == campaigns.c.id
    )
    row = connection.execute(
        query.where(campaigns.c.id == campaign_id, batches.c.batch == batch)
    ).one_or_none()
    if row is None:
        raise NotFound(f"campaign id {campaign_id}: unknown batch {batch}")
    return Batch(
        campaign=_campaign_from_row(row),
        batch=batch,
        first=row.first,
        size=row.size,
        deferred=row.deferred,
    )


def find_campaigns(
    connection: Connection, name: str | None = None, run: int | None = None
) -> list[Campaign]:
    """Return the campaigns of a run, or the one with a name.

    Args:
        name: name of the campaign; None for all.
        run: id of the run; None for the latest run that has such a campaign.

    Raises:
        NotFound: no campaign matches; the message suggests similar names. Or the run, or the
            latest one, has no campaigns yet.
    """
    _reject_run_without_campaigns(connection, run)
    is_named = sa.true() if name is None else campaigns.c.name == name
    if run is None:
        run = connection.scalar(sa.select(sa.func.max(campaigns.c.run_id)).where(is_named))
    query = _CAMPAIGN_QUERY.where(is_named, _is_in_run(run)).order_by(campaigns.c.id)
    rows = connection.execute(query).all()
    if not rows:
        raise NotFound(_not_found_message(connection, name, run))
    return [_campaign_from_row(row) for row in rows]


def _is_in_run(run: int | None) -> sa.ColumnElement[bool]:
    # As a bigint, since a person may type a number that an integer column can't hold.
    return campaigns.c.run_id == sa.literal(run, sa.BigInteger)


def _reject_run_without_campaigns(connection: Connection, run: int | None) -> None:
    """Reject a run, or the latest one, that has no campaigns.

    Otherwise an earlier run's answer would be taken for the answer about the latest run.
    """
    latest = sa.select(sa.func.max(runs.c.id)).where(IS_NOT_PRUNED).scalar_subquery()
    selected = latest if run is None else sa.literal(run, sa.BigInteger)
    has_campaigns = sa.exists().where(campaigns.c.run_id == runs.c.id)
    query = sa.select(runs.c.id).where(runs.c.id == selected, IS_NOT_PRUNED, ~has_campaigns)
    unprepared = connection.scalar(query)
    if unprepared is not None:
        raise NotFound(
            f"run {unprepared} has no campaigns: it is being prepared, or it ended before its"
            " start; see sendtrace runs, and choose another run with --run"
        )


def _not_found_message(connection: Connection, name: str | None, run: int | None) -> str:
    run_exists = sa.select(sa.exists().where(_is_in_run(run)))
    if run is not None and (name is None or not connection.scalar(run_exists)):
        return f"unknown run {run}"
    query = sa.select(campaigns.c.name).distinct().order_by(campaigns.c.name)
    names = connection.scalars(query if run is None else query.where(_is_in_run(run))).all()
    if name is None or not names:
        return "nothing is recorded yet"
    where = "" if run is None else f" in run {run}"
    return f"unknown campaign {name!r}{where}{suggest_similar(name, names)}"


def _campaign_from_row(row: Row[Any]) -> Campaign:
    channel_settings = ChannelSettings(**json.loads(row.channels).get(row.channel, {}))
    sender = channel_settings.sender if row.sender is None else row.sender
    series = None
    if row.series is not None:
        series = CouponSeries(name=row.series, active=row.series_active)
    return Campaign(
        id=row.id,
        run_id=row.run_id,
        name=row.name,
        channel=Channel(row.channel),
        requires=tuple(json.loads(row.requires)),
        attempts=row.attempts,
        audience_id=row.audience_id,
        organization=_organization_from_row(row),
        gateway_id=row.gateway_id,
        gateway_kind=row.gateway_kind,
        gateway_settings=row.gateway_settings,
        seed=row.seed,
        started_at=row.started_at if row.clock_start is None else row.clock_start,
        really_started_at=row.started_at,
        speed=row.speed,
        ahead=row.ahead,
        kind=row.kind,
        channel_enabled=channel_settings.enabled,
        sender=row.organization if sender is None else sender,
        coupon_series=series,
        gateway_enabled=row.gateway_enabled,
        services_kind=row.services_kind,
        services_settings=row.services_settings,
        tracks_engagement=row.tracks_engagement,
        gateway_rate=row.gateway_rate,
        retry_after=row.retry_after,
        replies=row.replies,
        unconfirmed_after=row.unconfirmed_after,
        rules=row.rules,
        defer_at_most=row.defer_at_most,
        title=row.title,
        message=row.message,
        channel_settings=channel_settings,
        keeps_suppressions=row.keeps_suppressions,
        has_shared_addresses=row.has_shared_addresses,
        paused_at=row.paused_at,
        resumed_at=row.resumed_at,
        cancelled_at=row.cancelled_at,
    )


def _organization_from_row(row: Row[Any]) -> Organization:
    return Organization(
        id=row.organization_id,
        name=row.organization,
        enabled=row.enabled,
        credit=row.credit,
        hard_bounce_limit=row.hard_bounce_limit,
        soft_bounce_limit=row.soft_bounce_limit,
        message_limit=row.message_limit,
        message_limit_days=row.message_limit_days,
        title=row.organization_title,
        credit_email=row.credit_email,
        credit_sms=row.credit_sms,
    )
