"""The heartbeat of a run's driver."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from simulator.setup.heartbeat import keep_alive
from tests.support.factory import make_campaign
from tests.support.migrations import add_migration
from tests.support.shell import wait_until
from tracker.errors import DatabaseTooNew
from tracker.settings import Settings
from tracker.store.database import Database, connect
from tracker.store.migrate import TRACKER_MIGRATIONS, migrate
from tracker.store.schema.catalog import runs


@pytest.fixture(autouse=True)
def beat_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.setup.heartbeat.HEARTBEAT_INTERVAL_SECONDS", 0.01)


def read_heartbeat(database: Database) -> int:
    with database.read() as connection:
        heartbeat_at: int = connection.scalars(sa.select(runs.c.heartbeat_at)).one()
    return heartbeat_at


def test_heartbeats_are_recorded_for_the_duration_of_the_block(database: Database) -> None:
    run_id = make_campaign(database).run_id
    recorded = {read_heartbeat(database)}

    def is_beating() -> bool:
        recorded.add(read_heartbeat(database))
        return len(recorded) > 3

    with keep_alive(database, run_id, resumes=0):
        wait_until(is_beating, "three heartbeats")
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


@dataclass(frozen=True)
class FailingDatabase(Database):
    """A database that is unavailable for its next writes."""

    failures: list[OperationalError] = field(default_factory=list)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.failures:
            raise self.failures.pop()
        with super().write() as connection:
            yield connection


def test_heartbeat_continues_after_the_database_was_unavailable(database: Database) -> None:
    run_id = make_campaign(database).run_id
    error = OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))
    failing = FailingDatabase(database.engine, [error, error])
    before = read_heartbeat(database)
    with keep_alive(failing, run_id, resumes=0):
        wait_until(lambda: read_heartbeat(database) > before, "a heartbeat")
    assert failing.failures == []


def test_an_incompatible_migration_ends_the_driver(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    run_id = make_campaign(database).run_id
    compatible = add_migration(TRACKER_MIGRATIONS, "9998", tmp_path / "first", compatible=True)
    other = add_migration(compatible, "9999", tmp_path / "last", compatible=False)
    with (
        closing(connect(settings.resolved_database_url)) as elsewhere,
        keep_alive(database, run_id, resumes=0) as heartbeat,
    ):
        begun = read_heartbeat(elsewhere)
        wait_until(lambda: read_heartbeat(elsewhere) > begun, "a heartbeat")
        migrate(elsewhere, compatible)
        before = read_heartbeat(elsewhere)
        wait_until(lambda: read_heartbeat(elsewhere) > before, "a heartbeat")
        heartbeat.require_ownership()
        migrate(elsewhere, other)
        errors: list[DatabaseTooNew] = []

        def has_ended() -> bool:
            try:
                heartbeat.require_ownership()
            except DatabaseTooNew as error:
                errors.append(error)
            return bool(errors)

        wait_until(has_ended, "the driver is told to end")
    assert "tracker tables are at 9999); use that version" in str(errors[0])
