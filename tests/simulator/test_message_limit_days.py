"""A message limit over several days, in runs that last longer than its period."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from simulator.results.result import RunResult
from simulator.setup.record import record_run
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    enqueue_campaign,
    judge_recorded_run,
    run_step,
    settle_batch,
)
from tracker.clock import to_microseconds
from tracker.record import allowance
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema.catalog import runs

pytestmark = pytest.mark.usefixtures("no_retry_delay")

SIZE = 30

Batches = Sequence[tuple[str, float]]
"""Campaigns and days of the run, in order; each is one more batch of its campaign."""


def run_over_days(
    database: Database,
    folder: Path,
    batches: Batches,
    *,
    is_chained: bool = True,
    is_repeated: bool = False,
    **organization: Any,
) -> RunResult:
    """Run campaigns to the same customers, one batch after the other, on days of the run's clock.

    Args:
        is_chained: whether each campaign comes after the previous one, according to the scenario.
        is_repeated: whether the last step of all is a repeated suppress step of the last batch.
    """
    names = list(dict.fromkeys(name for name, _ in batches))
    scenario = build_scenario(
        build_campaign(names[0], audience=SIZE, defects={"unsubscribed": 0.2}),
        *(
            build_campaign(
                name, audience={"same_as": names[0]}, after=before if is_chained else None
            )
            for before, name in itertools.pairwise(names)
        ),
        organization={"hard_bounce_limit": 9} | organization,
        gateways={"email": {"hard_bounce": 0.2}},
    )
    run = record_run(database, scenario, folder, lambda _: None)
    queued = {}
    for run_campaign in run.campaigns:
        number = sum(name == run_campaign.plan.name for name, _ in batches)
        queued[run_campaign.plan.name] = enqueue_campaign(database, run_campaign, number)
    for name, day in batches:
        batch = queued[name].pop(0)
        set_day(database, run.id, day)
        settle_batch(database, batch)
    if is_repeated:
        set_day(database, run.id, day + 10)
        run_step(database, batch, Step.SUPPRESS)
    return judge_recorded_run(database, run)


def set_day(database: Database, run_id: int, day: float) -> None:
    """Put a run's clock forward, as the fault `clock` does."""
    ahead = to_microseconds(timedelta(days=day))
    with database.write() as connection:
        connection.execute(sa.update(runs).where(runs.c.id == run_id).values(ahead=ahead))


def sent(result: RunResult) -> list[int]:
    """Return how many messages each campaign sent."""
    return [report.sent for report in result.reports]


@pytest.mark.parametrize(
    ("settings", "is_chained"),
    [
        pytest.param("sqlite", True, id="after"),
        pytest.param("postgresql", False, id="by their start"),
    ],
    indirect=["settings"],
)
@pytest.mark.parametrize(
    ("limit", "days", "is_sent"),
    [
        pytest.param((1, 3), (0, 1, 4), (True, False, True), id="the first is too old"),
        pytest.param((1, 1), (0, 2, 4), (True, True, True), id="each is too old"),
        pytest.param((2, 3), (0, 2, 4), (True, True, True), id="one of two is too old"),
        pytest.param((1, 30), (0, 2, 4), (True, False, False), id="none is too old"),
        pytest.param((2, 7), (0, 2, 8), (True, True, True), id="a week"),
    ],
)
def test_a_message_counts_for_the_days_of_the_limit(
    database: Database,
    tmp_path: Path,
    is_chained: bool,
    limit: tuple[int, int],
    days: tuple[int, int, int],
    is_sent: tuple[bool, bool, bool],
) -> None:
    count, period = limit
    result = run_over_days(
        database,
        tmp_path,
        list(zip(("one", "two", "three"), days, strict=True)),
        is_chained=is_chained,
        message_limit={"count": count, "days": period},
    )
    assert_passed(result)
    first = sent(result)[0]
    assert sent(result) == [first if was_sent else 0 for was_sent in is_sent]
    if is_chained:
        assert [check.uncertain for check in result.prediction_checks] == [0, 0, 0]


def test_each_message_counts_from_its_own_dispatch(database: Database, tmp_path: Path) -> None:
    batches = [("one", 0), ("one", 2), ("two", 3.5), ("two", 3.5)]
    result = run_over_days(database, tmp_path, batches, message_limit={"count": 1, "days": 2})
    assert_passed(result)
    one, two = sent(result)
    assert 0 < two < one
    assert [check.uncertain for check in result.prediction_checks] == [0, 0]


def test_credit_is_counted_with_the_limit(database: Database, tmp_path: Path) -> None:
    result = run_over_days(
        database,
        tmp_path,
        [("one", 0), ("two", 1), ("three", 4)],
        is_chained=False,
        message_limit={"count": 1, "days": 3},
        credit=30,
    )
    assert_passed(result)
    assert sum(sent(result)) == 30


def test_a_period_that_the_record_leaves_open_is_not_predicted(
    database: Database, tmp_path: Path
) -> None:
    """The batch was judged twice, and the record doesn't say which time decided."""
    result = run_over_days(
        database,
        tmp_path,
        [("one", 0), ("two", 1)],
        is_repeated=True,
        message_limit={"count": 1, "days": 3},
    )
    assert_passed(result)
    [withheld] = result.withheld.values()
    assert withheld.predicted is None


@pytest.mark.parametrize("wrong_days", [1, 1_000])
def test_workers_that_count_another_period_differ_from_the_prediction(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_days: int
) -> None:
    count_recent_messages = allowance.count_recent_messages

    def count_wrongly(
        connection: sa.Connection,
        database: Database,
        campaign: Any,
        *arguments: Any,
        **keywords: Any,
    ) -> Any:
        organization = replace(campaign.organization, message_limit_days=wrong_days)
        wrong = replace(campaign, organization=organization)
        return count_recent_messages(connection, database, wrong, *arguments, **keywords)

    monkeypatch.setattr(allowance, "count_recent_messages", count_wrongly)
    result = run_over_days(
        database,
        tmp_path,
        [("one", 0), ("two", 2), ("three", 6)],
        message_limit={"count": 1, "days": 3},
    )
    assert not result.is_as_predicted
