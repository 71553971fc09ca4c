"""Celery's beat fires the daily rollup at 1 am, by the schedule that is shipped."""

from pathlib import Path

import pytest
from redis import Redis

from tests.support.celery_worker import start_worker
from tests.support.engagement import OPENED, deliver_all, record_events
from tests.support.factory import make_batch
from tests.support.shell import wait_until
from tracker.queries.report import make_reports
from tracker.record.engagement import EngagementEvent
from tracker.record.rollup import read_daily_rollup_time
from tracker.settings import Settings
from tracker.store.database import Database
from workers.queues import UPKEEP_QUEUE

LATE_EVENING = """
import time
from datetime import UTC, datetime, timedelta
from workers.app import app

app.conf.broker_url = {broker!r}
started = []

def just_before_1_am():
    started.append(time.monotonic())
    elapsed = timedelta(seconds=started[-1] - started[0])
    return datetime(2026, 1, 15, 0, 59, 59, tzinfo=UTC) + elapsed

app.conf.beat_schedule["rollup"]["schedule"].__setstate__({{"nowfun": just_before_1_am}})
"""
"""The shipped app, whose crontab reads a clock that begins a second before 1 am."""


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_beat_fires_the_rollup_at_1_am(
    settings: Settings,
    database: Database,
    client: Redis,
    broker_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = make_batch(database)
    deliver_all(database, batch)
    record_events(database, batch, [EngagementEvent(1, OPENED, batch.campaign.started_at)])
    monkeypatch.setenv("SENDTRACE_DATABASE_URL", settings.resolved_database_url)
    monkeypatch.setenv("SENDTRACE_BROKER_URL", broker_url)

    def has_run() -> bool:
        with database.read() as connection:
            return read_daily_rollup_time(connection) is not None

    assert not has_run()
    beat = ("--beat", f"--schedule={tmp_path / 'beat'}", "--pool=solo")
    with start_worker(tmp_path, broker_url, program=LATE_EVENING, queue=UPKEEP_QUEUE, options=beat):
        wait_until(has_run, "beat has fired the rollup, and the worker has run it")
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    assert report.engagement[OPENED] == 1
    assert report.engagement_as_of is not None
    assert [*report.engagement_days.values()] == [{OPENED: 1}]
