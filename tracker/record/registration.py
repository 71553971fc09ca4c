"""Record runs, their organizations, gateways, audiences and campaigns, and when a run ends."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import NotRequired, TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.campaign_states import CampaignState
from tracker.clock import Instant
from tracker.errors import SendtraceError
from tracker.organizations import ChannelSettings
from tracker.record.retention.ids import find_next_id
from tracker.record.retention.runs import IS_NOT_PRUNED
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


class NewRun(TypedDict):
    """The values of a run to record; see the table `runs`."""

    scenario: str
    seed: int | None
    started_at: Instant
    speed: float
    definition: str
    clock_start: NotRequired[Instant | None]
    rules: NotRequired[str]
    defer_at_most: NotRequired[int]


def record_run(connection: Connection, **run: Unpack[NewRun]) -> int:
    """Record a run and return its id. This counts as the run's first heartbeat."""
    return _insert_row(connection, runs, heartbeat_at=transaction_start(), **run)


def record_heartbeat(connection: Connection, run_id: int, resumes: int) -> bool:
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
    update = sa.update(runs).where(
        runs.c.id == run_id, runs.c.resumes == resumes, IS_NOT_PRUNED, can_resume
    )
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


def give_up_run(connection: Connection, run_id: int, state: CampaignState) -> None:
    """Record that a run ends early, as interrupted or aborted, unless its end is on record.

    The time is by the database's clock, as that of a heartbeat.
    """
    update = sa.update(runs).where(
        runs.c.id == run_id, runs.c.finished_at.is_(None), runs.c.given_up_as.is_(None)
    )
    connection.execute(update.values(given_up_at=transaction_start(), given_up_as=state))


class NewOrganization(TypedDict):
    """The values of an organization to record; see `Organization`."""

    name: str
    enabled: bool
    credit: int | None
    hard_bounce_limit: int
    soft_bounce_limit: int
    message_limit: NotRequired[int | None]
    message_limit_days: NotRequired[int]
    title: NotRequired[str | None]
    credit_email: NotRequired[int | None]
    credit_sms: NotRequired[int | None]


def record_organization(
    connection: Connection,
    run_id: int,
    channels: Mapping[Channel, ChannelSettings] = MappingProxyType({}),
    **organization: Unpack[NewOrganization],
) -> int:
    """Record an organization with its settings by channel, and return its id."""
    settings = json.dumps({channel: asdict(settings) for channel, settings in channels.items()})
    return _insert_row(connection, organizations, run_id=run_id, channels=settings, **organization)


def record_coupon_series(
    connection: Connection, organization_id: int, *, name: str, active: bool
) -> None:
    """Record a coupon series of an organization."""
    connection.execute(
        sa.insert(coupon_series).values(organization_id=organization_id, name=name, active=active)
    )


class NewGateway(TypedDict):
    """The values of a gateway to record; see the table `gateways`."""

    kind: str
    settings: str
    enabled: NotRequired[bool]
    rate: NotRequired[int | None]
    retry_after: NotRequired[int]
    replies: NotRequired[str]
    unconfirmed_after: NotRequired[int]


def record_gateway(connection: Connection, run_id: int, **gateway: Unpack[NewGateway]) -> int:
    """Record a gateway and return its id."""
    return _insert_row(connection, gateways, run_id=run_id, **gateway)


def record_audience(
    connection: Connection, organization_id: int, source: str, title: str | None = None
) -> int:
    """Record an audience, without its customers, and return its id."""
    return _insert_row(
        connection, audiences, organization_id=organization_id, source=source, title=title
    )


def record_audience_size(connection: Connection, audience_id: int, size: int) -> None:
    """Record the number of an audience's customers, once all of them are recorded."""
    connection.execute(sa.update(audiences).where(audiences.c.id == audience_id).values(size=size))


class NewCampaign(TypedDict):
    """The values of a campaign to record; see the table `campaigns`."""

    organization_id: int
    audience_id: int
    gateway_id: int
    name: str
    channel: Channel
    attempts: int
    kind: NotRequired[str]
    sender: NotRequired[str | None]
    coupon_series: NotRequired[str | None]
    services_kind: NotRequired[str]
    services_settings: NotRequired[str]
    tracks_engagement: NotRequired[bool]
    title: NotRequired[str | None]
    message: NotRequired[str]
    keeps_suppressions: NotRequired[bool]


def record_campaign(
    connection: Connection, run_id: int, requires: Sequence[str], **campaign: Unpack[NewCampaign]
) -> int:
    """Record a campaign and the data that it requires, without its messages; return its id."""
    requirements = json.dumps(list(requires))
    return _insert_row(connection, campaigns, run_id=run_id, requires=requirements, **campaign)


def _insert_row(connection: Connection, table: sa.Table, **values: object) -> int:
    if connection.dialect.name == "sqlite":
        values["id"] = find_next_id(connection, table)
    row_id: int = connection.execute(
        sa.insert(table).values(values).returning(table.c.id)
    ).scalar_one()
    return row_id
