"""Runs on record, as their first driver has started them, and as a killed driver leaves them."""

from pathlib import Path

import sqlalchemy as sa

from simulator.results.observations import DriverObservations, RunConditions
from simulator.run.driver_record import record_driver, record_observations
from simulator.run.options import RunOptions
from simulator.scenario.file import load_scenario
from simulator.setup.record import record_run, start_run
from simulator.setup.run import Run
from tracker.campaign_states import CampaignState
from tracker.clock import SystemClock, from_seconds
from tracker.record import registration
from tracker.store.database import Database
from tracker.store.schema.catalog import runs

OPTIONS = RunOptions(
    workers=2, batch_size=10, is_attached=False, should_record=True, should_sweep=True
)

CONDITIONS = RunConditions(
    workers=2,
    batch_size=10,
    database="sqlite",
    durability={"synchronous": "full"},
    machine={"cores": "2"},
    versions={"python": "3"},
    timezone="UTC",
    log=Path("worker.log"),
)

KILLED_SECONDS = 40.0
"""Seconds since the last heartbeat of a killed driver: it counts as abandoned."""


def start_recorded_run(database: Database, text: str, home: Path, seed: int | None = None) -> Run:
    """Record the run of a scenario file with a text, and start it."""
    file = home.parent / "scenario.toml"
    file.write_text(text)
    scenario = load_scenario(file, seed=seed)
    run = start_run(database, record_run(database, scenario, home, lambda _: None))
    with database.write() as connection:
        started_at = run.clock.now()
        record_driver(database, connection, run, OPTIONS, CONDITIONS, started_at)
    return run


def kill_driver(database: Database, run: Run) -> None:
    """Set the last heartbeat of a run back, as if its driver had been killed."""
    before = SystemClock().now() - from_seconds(KILLED_SECONDS)
    with database.write() as connection:
        connection.execute(sa.update(runs).where(runs.c.id == run.id).values(heartbeat_at=before))


def end_driver(
    database: Database,
    run: Run,
    state: CampaignState,
    observations: DriverObservations | None = None,
) -> None:
    """Record the end of a run and, if given, what its driver has seen."""
    with database.write() as connection:
        if observations is not None:
            record_observations(connection, run, observations)
        if state is CampaignState.FINISHED:
            registration.finish_run(connection, run.id, SystemClock().now())
        else:
            registration.give_up_run(connection, run.id, state)
