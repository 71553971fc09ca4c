"""Nightly rollups: when the next one is due, and what it rolls up."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from celery import Celery

from simulator.retry import Outages
from simulator.run.observers.base import RunProgress, RunSnapshot
from simulator.run.observers.nightly import NightlyRollups, next_one_am
from simulator.setup.record import record_run
from tests.support.inline_runs import build_campaign, build_scenario
from tests.support.shell import wait_until
from tracker.clock import Instant, from_datetime
from tracker.store.database import Database
from workers.queues import ROLLUP_TASK, UPKEEP_QUEUE


def parse_utc(text: str) -> Instant:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        ("2026-11-24 00:59", "UTC", "2026-11-24 01:00"),
        ("2026-11-24 01:00", "UTC", "2026-11-25 01:00"),
        ("2026-11-23 19:29", "Asia/Kolkata", "2026-11-23 19:30"),
        ("2026-03-28 23:30", "Europe/Berlin", "2026-03-29 00:00"),
        ("2026-03-29 00:00", "Europe/Berlin", "2026-03-29 23:00"),
        ("2026-10-24 23:00", "Europe/Berlin", "2026-10-26 00:00"),
    ],
)
def test_the_next_1_am(now: str, zone: str, expected: str) -> None:
    assert next_one_am(parse_utc(now), ZoneInfo(zone)) == parse_utc(expected)


@dataclass
class Outbox:
    """A stand-in for the app that keeps the tasks that are sent."""

    tasks: list[tuple[str, object]] = field(default_factory=list)

    def send_task(self, name: str, *, kwargs: object, queue: str) -> None:
        assert queue == UPKEEP_QUEUE
        self.tasks.append((name, kwargs))


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_run_rolls_up_its_own_emails_at_1_am_of_its_clock(
    database: Database, tmp_path: Path
) -> None:
    campaigns = (build_campaign("mail"), build_campaign("text", channel="sms"))
    scenario = build_scenario(*campaigns, clock={"speed": 100_000})
    run = record_run(database, scenario, tmp_path, lambda _: None)
    outbox = Outbox()
    nightly = NightlyRollups(cast(Celery, outbox), Outages(), run, UTC, lambda _: None)
    snapshot = RunSnapshot(reports=[], progress=RunProgress.from_reports([]), planned=10)

    def is_sent() -> bool:
        nightly.ticked(snapshot)
        return bool(outbox.tasks)

    wait_until(is_sent, "1 am of a clock whose day takes less than a second")
    mail, _ = run.campaigns
    assert outbox.tasks[0] == (ROLLUP_TASK, {"campaigns": [mail.campaign.id]})
