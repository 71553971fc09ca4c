"""The state of a campaign and of its run, derived from the record: every output asks this module.

A driver can't record its own death. So it records a heartbeat every few seconds, and a run whose
heartbeat has stopped is abandoned. That state isn't final: if a driver was only cut off from
the database, its next heartbeat makes the run running again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.campaign_states import GIVEN_UP_STATES, CampaignState
from tracker.clock import Instant, to_datetime, to_microseconds
from tracker.record.catalog import Campaign
from tracker.store.database_clock import reachable_since, server_start, transaction_start
from tracker.store.schema.catalog import batches, campaigns, runs

ABANDONED_AFTER = timedelta(seconds=30)
"""Time without a heartbeat after which a run counts as abandoned, if its driver could have reached
the database meanwhile."""

IS_UNFINISHED = sa.and_(runs.c.finished_at.is_(None), runs.c.given_up_as.is_(None))
"""The condition that a run is neither finished nor given up; an abandoned one is unfinished."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The campaign that an output is about, its state, and the time at which both were read.

    Attributes:
        as_of: real time, by the database's clock.
    """

    campaign: Campaign
    state: CampaignState
    as_of: Instant

    @property
    def time(self) -> datetime:
        """The time as of which the output was read, in UTC."""
        return to_datetime(self.as_of)

    def as_json(self) -> dict[str, Any]:
        """Return the origin as other programs read it; the keys are a contract."""
        return {
            "campaign": self.campaign.name,
            "channel": self.campaign.channel.value,
            "run": self.campaign.run_id,
            "seed": self.campaign.seed,
            "state": self.state.value,
            "as_of": self.time.isoformat(timespec="seconds"),
        }


def campaign_state(connection: Connection) -> sa.ColumnElement[str]:
    """Return the SQL expression for a campaign's state, in a query of `campaigns` and `runs`."""
    queued = sa.select(batches.c.batch).where(batches.c.campaign_id == campaigns.c.id)
    is_queued = sa.exists(queued.correlate(campaigns))
    state = _state(is_queued, connection, is_paused=campaigns.c.paused_at.is_not(None))
    is_cancelled = campaigns.c.cancelled_at.is_not(None)
    return sa.case((is_cancelled, CampaignState.CANCELLED.value), else_=state)


def run_state(connection: Connection) -> sa.ColumnElement[str]:
    """Return the SQL expression for a run's state, in a query of `runs`."""
    queued = (
        sa.select(batches.c.batch)
        .join(campaigns, campaigns.c.id == batches.c.campaign_id)
        .where(campaigns.c.run_id == runs.c.id)
    )
    return _state(sa.exists(queued.correlate(runs)), connection, is_paused=sa.false())


def _state(
    is_queued: sa.ColumnElement[bool],
    connection: Connection,
    *,
    is_paused: sa.ColumnElement[bool],
) -> sa.ColumnElement[str]:
    silent_since = transaction_start() - to_microseconds(ABANDONED_AFTER)
    is_silent = sa.and_(
        runs.c.heartbeat_at <= silent_since,
        server_start() <= silent_since,
        sa.literal(reachable_since(connection), sa.BigInteger) <= silent_since,
    )
    return sa.case(
        (runs.c.finished_at.is_not(None), CampaignState.FINISHED.value),
        *((runs.c.given_up_as == state.value, state.value) for state in GIVEN_UP_STATES),
        (is_silent, CampaignState.ABANDONED.value),
        (is_paused, CampaignState.PAUSED.value),
        (is_queued, CampaignState.RUNNING.value),
        else_=CampaignState.SCHEDULED.value,
    )


def read_origins(connection: Connection, selected: Sequence[Campaign]) -> list[Origin]:
    """Return the origin of an output about each of some campaigns, in their order."""
    query = (
        sa.select(
            campaigns.c.id,
            campaign_state(connection).label("state"),
            transaction_start().label("at"),
        )
        .join_from(campaigns, runs)
        .where(campaigns.c.id.in_([campaign.id for campaign in selected]))
    )
    rows = {row.id: row for row in connection.execute(query)}
    return [
        Origin(
            campaign=campaign,
            state=CampaignState(rows[campaign.id].state),
            as_of=rows[campaign.id].at,
        )
        for campaign in selected
    ]


def read_silence(connection: Connection, run_id: int) -> int:
    """Return the microseconds since a run was given up, or else since its last heartbeat.

    The driver of a run that was given up records heartbeats until it has kept the result.
    """
    ended_at = sa.func.coalesce(runs.c.given_up_at, runs.c.heartbeat_at)
    query = sa.select(transaction_start() - ended_at).where(runs.c.id == run_id)
    return max(0, connection.scalars(query).one())


def read_run_states(connection: Connection, run_ids: Sequence[int]) -> dict[int, CampaignState]:
    """Return the states of runs by their ids, without unknown runs."""
    query = sa.select(runs.c.id, run_state(connection)).where(runs.c.id.in_(run_ids))
    return {run_id: CampaignState(state) for run_id, state in connection.execute(query)}
