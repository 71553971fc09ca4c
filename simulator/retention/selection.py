"""Choose the runs that a prune deletes, and measure what goes with each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from simulator.retention.files import RunFiles, find_run_files
from simulator.schema import metadata
from tracker.campaign_states import CampaignState
from tracker.clock import Instant, to_microseconds
from tracker.errors import NotFound
from tracker.queries.campaign_state import run_state
from tracker.record.retention.runs import (
    IS_NOT_PRUNED,
    list_hidden_runs,
    list_owned_tables,
    read_owners,
)
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.database_clock import transaction_start
from tracker.store.schema.catalog import runs
from tracker.store.schema.integers import MAX_INTEGER

SIMULATOR_TABLES = tuple(metadata.sorted_tables)

LIVING_STATES = (CampaignState.SCHEDULED, CampaignState.RUNNING)
"""States of a run that may have a driver; such a run is never deleted."""


@dataclass(frozen=True, kw_only=True)
class RunSelection:
    """The runs that a person wants to delete; exactly one attribute is set.

    Attributes:
        numbers: these runs.
        older_than: runs that ended longer ago, in real time.
        keep: all but so many runs, the latest.
    """

    numbers: Sequence[int] | None = None
    older_than: timedelta | None = None
    keep: int | None = None


@dataclass(frozen=True, kw_only=True)
class PrunableRun:
    """A run that a prune deletes, and what goes with it.

    Attributes:
        ended_at: real time of its end, or of its driver's last heartbeat.
        database_bytes: estimated from its share of the rows of each table.
    """

    id: int
    scenario: str
    state: CampaignState
    ended_at: Instant
    rows: int
    database_bytes: int
    files: RunFiles


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """What a prune does.

    Attributes:
        left: the states of selected runs that stay, because they may have a driver.
        hidden: runs whose deletion was interrupted, and goes on.
    """

    runs: Sequence[PrunableRun]
    left: Mapping[int, CampaignState]
    hidden: Sequence[int]


def plan_prune(database: Database, settings: Settings, selection: RunSelection) -> PrunePlan:
    """Choose the runs of a selection, and measure them.

    Raises:
        NotFound: a run that was given by its number doesn't exist.
    """
    with database.read_only_analytics() as connection:
        hidden = list_hidden_runs(connection)
        rows = connection.execute(_select_runs(connection, selection)).all()
        missing = {*(selection.numbers or ())} - {row.id for row in rows} - {*hidden}
        if missing:
            raise NotFound(f"run {min(missing)} does not exist; see sendtrace runs")
        bytes_by_row = _measure_rows(database, connection) if rows else {}
        chosen = [row for row in rows if CampaignState(row.state) not in LIVING_STATES]
        return PrunePlan(
            runs=[_measure_run(connection, settings, row, bytes_by_row) for row in chosen],
            left={row.id: CampaignState(row.state) for row in rows if row not in chosen},
            hidden=hidden,
        )


def find_prunable_runs(database: Database, selection: RunSelection) -> list[int]:
    """Return the runs of a selection that have no driver."""
    with database.read() as connection:
        rows = connection.execute(_select_runs(connection, selection)).all()
    return [row.id for row in rows if CampaignState(row.state) not in LIVING_STATES]


def can_prune(connection: Connection) -> sa.ColumnElement[bool]:
    """Return the SQL condition that a run of `runs` has no driver."""
    return run_state(connection).not_in([state.value for state in LIVING_STATES])


def _select_runs(connection: Connection, selection: RunSelection) -> sa.Select[tuple[object, ...]]:
    ended_at = sa.func.coalesce(runs.c.given_up_at, runs.c.heartbeat_at)
    state = run_state(connection)
    query = sa.select(
        runs.c.id, runs.c.scenario, state.label("state"), ended_at.label("ended_at")
    ).where(IS_NOT_PRUNED)
    if selection.numbers is not None:
        numbers = [number for number in selection.numbers if number <= MAX_INTEGER]
        query = query.where(runs.c.id.in_(numbers))
    if selection.older_than is not None:
        latest = transaction_start() - to_microseconds(selection.older_than)
        # A run that began so long ago and has not ended is named among those that stay.
        living = state.in_([living.value for living in LIVING_STATES])
        query = query.where(sa.case((living, runs.c.started_at), else_=ended_at) < latest)
    if selection.keep is not None:
        kept = sa.select(runs.c.id).where(IS_NOT_PRUNED).order_by(runs.c.id.desc())
        query = query.where(runs.c.id.not_in(kept.limit(selection.keep)))
    return query.order_by(runs.c.id)


def _measure_rows(database: Database, connection: Connection) -> dict[Table, float]:
    """Return the average bytes of a row by table, indexes included."""
    sizes = database.measure_tables(connection)
    tables = [table for table, _ in list_owned_tables(SIMULATOR_TABLES)]
    counts = {table: _count(connection, table, sa.true()) for table in tables}
    if "" in sizes:  # one size for all
        average = sizes[""] / max(1, sum(counts.values()))
        return dict.fromkeys(tables, average)
    return {table: sizes.get(table.name, 0) / max(1, count) for table, count in counts.items()}


def _measure_run(
    connection: Connection,
    settings: Settings,
    row: sa.Row[tuple[object, ...]],
    bytes_by_row: Mapping[Table, float],
) -> PrunableRun:
    owners = read_owners(connection, row.id)
    counts = {
        table: _count(connection, table, table.c[column].in_(owners[column]))
        for table, column in list_owned_tables(SIMULATOR_TABLES)
    }
    return PrunableRun(
        id=row.id,
        scenario=row.scenario,
        state=CampaignState(row.state),
        ended_at=row.ended_at,
        rows=sum(counts.values()) + 1,  # with the row of the run
        database_bytes=round(sum(count * bytes_by_row[table] for table, count in counts.items())),
        files=find_run_files(connection, settings, row.id),
    )


def _count(connection: Connection, table: Table, condition: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(condition)
    return connection.execute(query).scalar_one()
