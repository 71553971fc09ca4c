"""The record of a run's drivers: their options, their conditions and their observations."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy import Connection

from simulator.results.observations import DriverObservations, RunConditions
from simulator.run.options import RunOptions
from simulator.schema import run_drivers
from simulator.setup.run import Run
from tracker.clock import Instant
from tracker.store.database import Database

_OPTIONS = TypeAdapter(RunOptions)
_CONDITIONS = TypeAdapter(RunConditions)
_OBSERVATIONS = TypeAdapter(DriverObservations)


@dataclass(frozen=True, kw_only=True)
class DriverRecord:
    """A driver of a run, as recorded.

    Attributes:
        started_at: instant of the run's clock.
        paused: microseconds of the run's clock without a driver, all pauses until then together.
        observations: what it saw; None if it never recorded its end.
    """

    started_at: Instant
    paused: int
    options: RunOptions
    conditions: RunConditions
    observations: DriverObservations | None


def record_driver(
    database: Database,
    connection: Connection,
    run: Run,
    options: RunOptions,
    conditions: RunConditions,
    started_at: Instant,
) -> None:
    """Record that a driver starts; a second call changes nothing."""
    connection.execute(
        database.insert_missing(run_drivers).values(
            run_id=run.id,
            number=run.driver_number,
            started_at=started_at,
            paused=run.paused,
            options=_OPTIONS.dump_json(options).decode(),
            conditions=_CONDITIONS.dump_json(conditions).decode(),
        )
    )


def record_observations(connection: Connection, run: Run, observations: DriverObservations) -> None:
    """Record what the current driver of a run has seen, at its end."""
    connection.execute(
        sa.update(run_drivers)
        .where(run_drivers.c.run_id == run.id, run_drivers.c.number == run.driver_number)
        .values(observations=_OBSERVATIONS.dump_json(observations).decode())
    )


def load_drivers(connection: Connection, run_id: int) -> Sequence[DriverRecord]:
    """Return the drivers of a run in their order; none if it never started."""
    query = sa.select(run_drivers).where(run_drivers.c.run_id == run_id)
    return [
        DriverRecord(
            started_at=row.started_at,
            paused=row.paused,
            options=_OPTIONS.validate_json(row.options),
            conditions=_CONDITIONS.validate_json(row.conditions),
            observations=(
                None if row.observations is None else _OBSERVATIONS.validate_json(row.observations)
            ),
        )
        for row in connection.execute(query.order_by(run_drivers.c.number))
    ]
