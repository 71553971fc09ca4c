"""Record runs, their organizations, gateways, audiences and campaigns, and when a run ends."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.campaign_states import CampaignState
from tracker.clock import Instant, to_microseconds
from tracker.errors import SendtraceError
from tracker.record.catalog import DEFAULT_DEFER_AT_MOST, ChannelSettings
from tracker.status import Channel
from tracker.store.database_clock import transaction_start
from tracker.store.schema.catalog import (
    audiences,
    campaigns,
    coupon_series,
    gateways,
    organizations,
    runs,
)


class RunSuperseded(SendtraceError):
    """Another driver has resumed a run, while its own one seemed to be dead."""

    def __init__(self) -> None:
        super().__init__("another driver has resumed the run; this one stops")


def record_run(
    connection: Connection,
    *,
    scenario: str,
    seed: int | None,
    started_at: Instant,
    speed: float,
    definition: str,
    clock_start: Instant | None = None,
    rules: str = "{}",
    defer_at_most: int = to_microseconds(DEFAULT_DEFER_AT_MOST),
) -> int:
    """Record a run and return its id. This counts as the run's first heartbeat.

    Args:
        seed: seed of all draws, if there are any.
        started_at: real time of the start.
        speed: seconds of the run's clock in a second.
        definition: text of the scenario file.
        clock_start: what the run's clock shows at the start; None for the real time.
        rules: settings of rules, as the text of a JSON object of objects.
        defer_at_most: microseconds for which rules may defer a message.
    """
    return _insert_row(
        connection,
        runs,
        scenario=scenario,
        seed=seed,
        started_at=started_at,
        speed=speed,
        definition=definition,
        clock_start=clock_start,
        rules=rules,
        defer_at_most=defer_at_most,
        heartbeat_at=transaction_start(),
    )


def record_heartbeat(connection: Connection, run_id: int, resumes: int = 0) -> bool:
    """Record that a driver of a run is alive now; return whether the run is still its own.

    Args:
        resumes: how often the run had been resumed when this driver started. If it was resumed
            since then, nothing is recorded.
    """
    update = sa.update(runs).where(runs.c.id == run_id, runs.c.resumes == resumes)
    result = connection.execute(update.values(heartbeat_at=transaction_start()))
    return bool(result.rowcount)


def lock_driven_run(connection: Connection, run_id: int, resumes: int) -> None:
    """Let no further driver resume a run until the transaction ends.

    Args:
        resumes: how often the run had been resumed when this driver started.

    Raises:
        RunSuperseded: a further driver has resumed it already.
    """
    query = sa.select(runs.c.id).where(runs.c.id == run_id, runs.c.resumes == resumes)
    if connection.scalar(query.with_for_update(read=True)) is None:
        raise RunSuperseded


def resume_run(
    connection: Connection, run_id: int, resumes: int, can_resume: sa.ColumnElement[bool]
) -> bool:
    """Make a run that has ended or was abandoned running again, for a further driver.

    Args:
        resumes: how often the run was resumed so far.
        can_resume: condition on the run.

    Returns:
        False if the condition isn't true, or another driver was faster.
    """
    update = sa.update(runs).where(runs.c.id == run_id, runs.c.resumes == resumes, can_resume)
    result = connection.execute(
        update.values(
            resumes=resumes + 1,
            heartbeat_at=transaction_start(),
            given_up_at=None,
            given_up_as=None,
        )
    )
    return bool(result.rowcount)


def start_run(connection: Connection, run_id: int, at: Instant) -> None:
    """Set the start of a run again, after its customers have been recorded."""
    connection.execute(sa.update(runs).where(runs.c.id == run_id).values(started_at=at))


def finish_run(connection: Connection, run_id: int, at: Instant) -> None:
    """Record that a run is finished and nothing more will happen in it."""
    connection.execute(sa.update(runs).where(runs.c.id == run_id).values(finished_at=at))


def give_up_run(connection: Connection, run_id: int, at: Instant, state: CampaignState) -> None:
    """Record that a run ends early, as interrupted or aborted, unless its end is on record."""
    update = sa.update(runs).where(
        runs.c.id == run_id, runs.c.finished_at.is_(None), runs.c.given_up_as.is_(None)
    )
    connection.execute(update.values(given_up_at=at, given_up_as=state))


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
    """Record an organization and return its id; see `Organization` for the values."""
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
        channels=json.dumps({channel: asdict(settings) for channel, settings in channels.items()}),
    )


def record_coupon_series(
    connection: Connection, organization_id: int, *, name: str, active: bool
) -> None:
    """Record a coupon series of an organization."""
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
    """Record a gateway and return its id; see the table `gateways` for the values."""
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
    """Record an audience, without its customers, and return its id."""
    return _insert_row(connection, audiences, organization_id=organization_id, source=source)


def record_audience_size(connection: Connection, audience_id: int, size: int) -> None:
    """Record the number of an audience's customers, once all of them are recorded."""
    connection.execute(sa.update(audiences).where(audiences.c.id == audience_id).values(size=size))


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
    """Record a campaign, without its messages, and return its id; see `Campaign` for the values.

    Args:
        sender: None for the organization's sender on this channel.
        series: name of a coupon series.
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
    row_id: int = connection.execute(
        sa.insert(table).values(values).returning(table.c.id)
    ).scalar_one()
    return row_id
