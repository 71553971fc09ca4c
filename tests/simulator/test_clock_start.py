"""A run whose clock starts at another time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tracker.clock import to_datetime
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.messages import transitions

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
