"""What is being sent, by whom and to whom: runs, organizations, audiences, campaigns, batches."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from tracker.clock import Clock, Instant, make_clock
from tracker.errors import NotFound
from tracker.status import Channel
from tracker.store.schema.catalog import (
    audiences,
    batches,
    campaigns,
    coupon_series,
    gateways,
    organizations,
    runs,
)


@dataclass(frozen=True, kw_only=True)
class Organization:
    """Who sends. ``credit`` is the number of messages left, None for unlimited.

    ``message_limit`` is how many messages a customer may get within ``message_limit_days``.
    """

    id: int
    name: str
    enabled: bool
    credit: int | None
    hard_bounce_limit: int
    soft_bounce_limit: int
    message_limit: int | None = None
    message_limit_days: int = 1


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """What an organization does on a channel. The sender is None for the organization's name."""

    enabled: bool = True
    sender: str | None = None


@dataclass(frozen=True, kw_only=True)
class CouponSeries:
    """Coupons that are given out together, as long as the series is active."""

    name: str
    active: bool


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """One message to one audience over one channel, with all that a step needs to know of it.

    ``kind`` says who prepares its messages: a name among the entry points ``sendtrace.handlers``.
    ``sender`` is the campaign's own or else the organization's on this channel.
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

    @cached_property
    def clock(self) -> Clock:
        """The clock of the campaign's run."""
        return make_clock(self.started_at, self.speed, self.ahead)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The messages ``first`` … ``last`` of a campaign: the unit of a task."""

    campaign: Campaign
    batch: int
    first: int
    size: int

    @property
    def last(self) -> int:
        return self.first + self.size - 1


def record_run(
    connection: Connection,
    *,
    scenario: str,
    seed: int | None,
    started_at: Instant,
    speed: float,
    definition: str,
) -> int:
    """A new run's id."""
    return _insert_row(
        connection,
        runs,
        scenario=scenario,
        seed=seed,
        started_at=started_at,
        speed=speed,
        definition=definition,
    )


def begin_run(connection: Connection, run_id: int, at: Instant) -> None:
    """Note that a run begins only now: making its customers took its time."""
    connection.execute(sa.update(runs).where(runs.c.id == run_id).values(started_at=at))


def finish_run(connection: Connection, run_id: int, at: Instant) -> None:
    """Note that nothing more will happen in a run."""
    connection.execute(sa.update(runs).where(runs.c.id == run_id).values(finished_at=at))


def give_up_run(connection: Connection, run_id: int, at: Instant) -> None:
    """Note that nobody is to go on with a run that has not finished."""
    unfinished = (runs.c.id == run_id, runs.c.finished_at.is_(None))
    connection.execute(sa.update(runs).where(*unfinished).values(given_up_at=at))


def record_organization(
    connection: Connection,
    run_id: int,
    *,
    name: str,
    enabled: bool,
    credit: int | None,
    hard_bounce_limit: int,
    soft_bounce_limit: int,
    message_limit: int | None = None,
    message_limit_days: int = 1,
    channels: Mapping[Channel, ChannelSettings] = MappingProxyType({}),
) -> int:
    """A new organization's id."""
    return _insert_row(
        connection,
        organizations,
        run_id=run_id,
        name=name,
        enabled=enabled,
        credit=credit,
        hard_bounce_limit=hard_bounce_limit,
        soft_bounce_limit=soft_bounce_limit,
        message_limit=message_limit,
        message_limit_days=message_limit_days,
        channels=json.dumps({channel: asdict(each) for channel, each in channels.items()}),
    )


def record_coupon_series(
    connection: Connection, organization_id: int, *, name: str, active: bool
) -> None:
    """Note that an organization has a coupon series."""
    connection.execute(
        sa.insert(coupon_series).values(organization_id=organization_id, name=name, active=active)
    )


def record_gateway(
    connection: Connection,
    run_id: int,
    *,
    kind: str,
    settings: str,
    enabled: bool = True,
    rate: int | None = None,
    retry_after: int = 0,
) -> int:
    """A new gateway's id. ``settings`` is for the gateway alone to understand; it takes ``rate``
    messages a second, and soft bounces again after so many microseconds."""
    return _insert_row(
        connection,
        gateways,
        run_id=run_id,
        kind=kind,
        settings=settings,
        enabled=enabled,
        rate=rate,
        retry_after=retry_after,
    )


def record_audience(connection: Connection, organization_id: int, source: str) -> int:
    """A new audience's id, without customers yet."""
    return _insert_row(connection, audiences, organization_id=organization_id, source=source)


def record_campaign(
    connection: Connection,
    run_id: int,
    *,
    organization_id: int,
    audience_id: int,
    gateway_id: int,
    name: str,
    channel: Channel,
    requires: Sequence[str],
    attempts: int,
    kind: str = "promotion",
    sender: str | None = None,
    series: str | None = None,
    services_kind: str = "sql",
    services_settings: str = "{}",
    tracks_engagement: bool = False,
) -> int:
    """A new campaign's id, without messages yet.

    Without a sender it has its organization's; ``series`` is the name of a coupon series.
    """
    return _insert_row(
        connection,
        campaigns,
        run_id=run_id,
        organization_id=organization_id,
        audience_id=audience_id,
        gateway_id=gateway_id,
        name=name,
        channel=channel,
        requires=json.dumps(list(requires)),
        attempts=attempts,
        kind=kind,
        sender=sender,
        coupon_series=series,
        services_kind=services_kind,
        services_settings=services_settings,
        tracks_engagement=tracks_engagement,
    )


def _insert_row(connection: Connection, table: sa.Table, **values: object) -> int:
    key: int = connection.execute(
        sa.insert(table).values(values).returning(table.c.id)
    ).scalar_one()
    return key


_CAMPAIGN_QUERY = (
    sa.select(
        campaigns,
        organizations.c.name.label("organization"),
        organizations.c.enabled,
        organizations.c.credit,
        organizations.c.hard_bounce_limit,
        organizations.c.soft_bounce_limit,
        organizations.c.message_limit,
        organizations.c.message_limit_days,
        organizations.c.channels,
        gateways.c.kind.label("gateway_kind"),
        gateways.c.settings.label("gateway_settings"),
        gateways.c.enabled.label("gateway_enabled"),
        gateways.c.rate.label("gateway_rate"),
        gateways.c.retry_after,
        coupon_series.c.name.label("series"),
        coupon_series.c.active.label("series_active"),
        runs.c.seed,
        runs.c.started_at,
        runs.c.speed,
        runs.c.ahead,
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


def _campaign_from_row(row: Row[Any]) -> Campaign:
    on_channel = ChannelSettings(**json.loads(row.channels).get(row.channel, {}))
    sender = on_channel.sender if row.sender is None else row.sender
    return Campaign(
        id=row.id,
        run_id=row.run_id,
        name=row.name,
        channel=Channel(row.channel),
        requires=tuple(json.loads(row.requires)),
        attempts=row.attempts,
        audience_id=row.audience_id,
        organization=Organization(
            id=row.organization_id,
            name=row.organization,
            enabled=row.enabled,
            credit=row.credit,
            hard_bounce_limit=row.hard_bounce_limit,
            soft_bounce_limit=row.soft_bounce_limit,
            message_limit=row.message_limit,
            message_limit_days=row.message_limit_days,
        ),
        gateway_id=row.gateway_id,
        gateway_kind=row.gateway_kind,
        gateway_settings=row.gateway_settings,
        seed=row.seed,
        started_at=row.started_at,
        speed=row.speed,
        ahead=row.ahead,
        kind=row.kind,
        channel_enabled=on_channel.enabled,
        sender=row.organization if sender is None else sender,
        coupon_series=(
            None if row.series is None else CouponSeries(name=row.series, active=row.series_active)
        ),
        gateway_enabled=row.gateway_enabled,
        services_kind=row.services_kind,
        services_settings=row.services_settings,
        tracks_engagement=row.tracks_engagement,
        gateway_rate=row.gateway_rate,
        retry_after=row.retry_after,
    )


def load_campaign(connection: Connection, campaign_id: int) -> Campaign:
    """A campaign as it is now; :exc:`NotFound` if there is none."""
    row = connection.execute(_CAMPAIGN_QUERY.where(campaigns.c.id == campaign_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no campaign with the id {campaign_id}")
    return _campaign_from_row(row)


def load_campaigns(connection: Connection, ids: Sequence[int]) -> list[Campaign]:
    """Those campaigns of some ids that there are, in the order of their ids."""
    query = _CAMPAIGN_QUERY.where(campaigns.c.id.in_(ids)).order_by(campaigns.c.id)
    return [_campaign_from_row(row) for row in connection.execute(query)]


def find_latest_campaign_ids(connection: Connection, limit: int) -> list[int]:
    """The ids of the campaigns that were recorded last, the latest first."""
    query = sa.select(campaigns.c.id).order_by(campaigns.c.id.desc()).limit(limit)
    return list(connection.scalars(query))


def load_batch(connection: Connection, campaign_id: int, batch: int) -> Batch:
    """A batch with its campaign as they are now; :exc:`NotFound` if there is none."""
    query = _CAMPAIGN_QUERY.add_columns(batches.c.first, batches.c.size).join(
        batches, batches.c.campaign_id == campaigns.c.id
    )
    row = connection.execute(
        query.where(campaigns.c.id == campaign_id, batches.c.batch == batch)
    ).one_or_none()
    if row is None:
        raise NotFound(f"campaign {campaign_id} has no batch {batch}")
    return Batch(campaign=_campaign_from_row(row), batch=batch, first=row.first, size=row.size)


def find_latest_run_id(connection: Connection) -> int | None:
    """The id of the last run of which a campaign is recorded."""
    latest: int | None = connection.scalar(sa.select(sa.func.max(campaigns.c.run_id)))
    return latest


def find_campaigns(
    connection: Connection, name: str | None = None, run: int | None = None
) -> list[Campaign]:
    """The campaigns of a run; without one, of the latest run that has such a campaign.

    Raises :exc:`NotFound`, with the nearest names, where nothing fits.
    """
    query = _CAMPAIGN_QUERY.order_by(campaigns.c.id)
    if name is not None:
        query = query.where(campaigns.c.name == name)
        if run is None:
            run = connection.scalar(
                sa.select(sa.func.max(campaigns.c.run_id)).where(campaigns.c.name == name)
            )
    elif run is None:
        run = find_latest_run_id(connection)
    found = [
        _campaign_from_row(row) for row in connection.execute(query.where(_run_condition(run)))
    ]
    if not found:
        raise NotFound(_not_found_message(connection, name, run))
    return found


def _run_condition(run: int | None) -> sa.ColumnElement[bool]:
    return campaigns.c.run_id == sa.literal(run, sa.BigInteger)  # a person may type any number


def _not_found_message(connection: Connection, name: str | None, run: int | None) -> str:
    of_run = sa.select(sa.exists().where(_run_condition(run)))
    if run is not None and (name is None or not connection.scalar(of_run)):
        return f"there is no run {run}"
    if name is None:
        return "nothing is recorded yet"
    names = sa.select(campaigns.c.name).distinct()
    known = connection.scalars(names if run is None else names.where(_run_condition(run))).all()
    near = get_close_matches(name, known, n=3) or sorted(known)[:3]
    hint = f"; did you mean {' or '.join(near)}?" if near else "; nothing is recorded yet"
    return f"there is no campaign {name!r}" + ("" if run is None else f" in run {run}") + hint
