"""A run whose clock starts at another time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from simulator.oracle.coverage import count_predicted_reasons
from simulator.setup.record import record_run
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    enqueue_campaign,
    judge_recorded_run,
    run_scenario,
    run_step,
    settle_batch,
)
from tracker.clock import from_seconds, to_datetime
from tracker.record.catalog import load_batch
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.messages import transitions
from workers.candidates import Candidate
from workers.checks import base, validation
from workers.checks.base import all_checks

pytestmark = pytest.mark.usefixtures("no_retry_delay")

EVENING = datetime(2030, 12, 24, 18, tzinfo=UTC)


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_everything_happens_by_the_runs_clock(
    database: Database, tmp_path: Path, speed: float
) -> None:
    scenario = build_scenario(
        build_campaign(audience=20, defects={"unsubscribed": 0.5}),
        clock={"start": EVENING, "speed": speed},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    with database.read() as connection:
        instants = connection.scalars(sa.select(transitions.c.at)).all()
    assert to_datetime(min(instants)) >= EVENING
    assert to_datetime(max(instants)) < EVENING + timedelta(hours=12)
    assert result.reports[0].campaign.clock.now() >= max(instants)


def test_a_coupon_expires_by_the_runs_clock(database: Database, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text(
        "customer_id,email,coupon_id,coupon_expires\n"
        "anna,anna@example.com,A1,2030-12-23\n"
        "bert,bert@example.com,B2,2030-12-24\n"
    )
    campaign = build_campaign(audience=str(people), requires=["coupon"])
    scenario = build_scenario(campaign, clock={"start": EVENING})
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    assert result.reports[0].count_messages(Status.NOT_SENT, Reason.COUPON_EXPIRED) == 1


@pytest.mark.parametrize(
    ("zone", "hour", "expired"),
    [
        pytest.param("Asia/Kolkata", 20, 2, id="the 25th in Kolkata"),
        pytest.param("UTC", 20, 1, id="the 24th in UTC"),
        pytest.param("America/Los_Angeles", 2, 0, id="the 23rd in Los Angeles"),
    ],
)
def test_a_coupon_expires_at_midnight_in_the_zone_of_the_settings(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    hour: int,
    expired: int,
) -> None:
    monkeypatch.setenv("SENDTRACE_TIMEZONE", zone)
    people = tmp_path / "people.csv"
    people.write_text(
        "customer_id,email,coupon_id,coupon_expires\n"
        "anna,anna@example.com,A1,2030-12-23\n"
        "bert,bert@example.com,B2,2030-12-24\n"
    )
    campaign = build_campaign(audience=str(people), requires=["coupon"])
    scenario = build_scenario(campaign, clock={"start": EVENING.replace(hour=hour)})
    assert count_predicted_reasons(scenario)[Reason.COUPON_EXPIRED] == expired
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    assert result.reports[0].count_messages(Status.NOT_SENT, Reason.COUPON_EXPIRED) == expired


@pytest.mark.parametrize("batches", [1, 2], ids=["over midnight", "before and after midnight"])
def test_a_coupon_expires_during_a_run(database: Database, tmp_path: Path, batches: int) -> None:
    people = tmp_path / "people.csv"
    rows = [f"c{number},c{number}@example.com,A1,2030-12-24" for number in range(10)]
    people.write_text("\n".join(["customer_id,email,coupon_id,coupon_expires", *rows]))
    campaign = build_campaign(audience=str(people), requires=["coupon"])
    scenario = build_scenario(campaign, clock={"start": EVENING})
    run = record_run(database, scenario, tmp_path, lambda _: None)
    queued = enqueue_campaign(database, run.campaigns[0], batches)
    if batches == 2:
        settle_batch(database, queued[0])
    else:
        run_step(database, queued[0], Step.SUPPRESS)
    with database.write() as connection:
        connection.execute(sa.update(runs).values(ahead=runs.c.ahead + from_seconds(7 * 3600)))
        batch = load_batch(connection, queued[-1].campaign.id, queued[-1].batch)
    settle_batch(database, batch)
    result = judge_recorded_run(database, run)
    assert_passed(result)
    expired = result.reports[0].count_messages(Status.NOT_SENT, Reason.COUPON_EXPIRED)
    assert expired == 10 / batches


def test_a_message_whose_coupon_is_taken_for_expired_is_not_as_predicted(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = tmp_path / "people.csv"
    people.write_text(
        "customer_id,email,coupon_id,coupon_expires\nanna,anna@example.com,A1,2030-12-24\n"
    )
    campaign = build_campaign(audience=str(people), requires=["coupon"])

    def coupon_expired(_candidate: Candidate, _now: datetime) -> bool:
        return True

    too_early = replace(validation.coupon_expired, rule=coupon_expired)
    checks = tuple(too_early if check.name == too_early.name else check for check in all_checks())
    monkeypatch.setattr(base, "all_checks", lambda: checks)
    scenario = build_scenario(campaign, clock={"start": EVENING})
    [check] = run_scenario(database, scenario, tmp_path).prediction_checks
    assert check.matching == 0


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("2030-12-24T18:00:00Z", "got '2030-12-24T18:00:00Z'; expected a date and time, such as"),
        (EVENING.replace(tzinfo=None), "got 2030-12-24T18:00:00 without an offset from UTC"),
        (EVENING.replace(year=1999), "got the year 1999; expected 2021 to 2098"),
        (5, "got 5; expected a date and time"),
    ],
)
def test_a_start_is_a_date_and_time_with_its_offset(start: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_scenario(build_campaign(), clock={"start": start})
