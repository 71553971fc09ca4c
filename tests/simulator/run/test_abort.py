"""Abort check: a run is aborted only for a threshold that it certainly can't meet."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.figures import Unit
from simulator.run.abort import AbortCheck
from simulator.run.driver import DRIVER_AUTHOR
from simulator.scenario.file import Scenario
from simulator.scenario.thresholds import Threshold
from simulator.setup.record import record_run
from simulator.setup.run import Run
from tests.support.inline_runs import (
    build_campaign,
    build_scenario,
    enqueue_campaign,
    run_step,
    settle_batch,
)
from tracker.queries.report import make_reports
from tracker.record.actions.campaigns import pause_campaign, resume_campaign
from tracker.record.journal import enqueue_batch
from tracker.status import Step
from tracker.store.database import Database

SIZE = 20


def scenario_with(**thresholds: str) -> Scenario:
    """Make a scenario with thresholds by figure, `__` for a dot; half of the messages are sent."""
    section: dict[str, Any] = {"abort": True}
    section |= {name.replace("__", "."): limit for name, limit in thresholds.items()}
    campaign = build_campaign(audience=SIZE, defects={"unsubscribed": 0.5})
    return build_scenario(campaign, thresholds=section)


def find_unreachable_threshold(database: Database, run: Run) -> str | None:
    check = AbortCheck(run)
    assert check
    with database.read() as connection:
        campaigns = run.recorded_campaigns
        reports = make_reports(connection, campaigns)
        threshold = check.find_unreachable_threshold(connection, reports)
    return None if threshold is None else f"{threshold.figure} {threshold.expression}"


@pytest.mark.parametrize(
    ("threshold", "at_first", "halfway"),
    [
        pytest.param({"not_sent": "<= 1"}, False, True, id="too many by now"),
        pytest.param({"not_sent__share": "<= 0.05"}, False, True, id="too large a share"),
        pytest.param({"not_sent": "<= 19"}, False, False, id="undecided"),
        pytest.param({"delivered": ">= 20"}, False, True, id="not enough are left"),
        pytest.param({"delivered__share": ">= 0.9"}, False, True, id="not enough of a share"),
        pytest.param({"delivered": ">= 1"}, False, False, id="enough may come"),
        pytest.param({"delivered": "<= 3"}, False, False, id="a late bounce is not counted"),
        pytest.param({"not_sent": "== 2"}, False, True, id="more than that"),
        pytest.param({"not_sent": "== 10"}, False, False, id="may come to that"),
        pytest.param({"seconds": "< 0s"}, True, True, id="too long by now"),
        pytest.param({"seconds": "< 1h"}, False, False, id="not too long yet"),
        pytest.param({"gateway__repeats": "> 5"}, False, False, id="may still be repeated"),
        pytest.param({"gateway__repeats": "< 0"}, True, True, id="not even none"),
        pytest.param({"queued_to_gateway__p50": "< 1h"}, False, False, id="in time"),
        pytest.param({"queued_to_gateway__max": "< 0s"}, True, True, id="one is too late"),
        pytest.param({"spring.queued_to_gateway__max": "< 1ms"}, False, True, id="of a campaign"),
        pytest.param({"queued_to_gateway__p99": "< 1ms"}, False, True, id="more than a hundredth"),
        pytest.param({"queued_to_gateway__p50": "< 1ms"}, False, False, id="the rest may be fast"),
        pytest.param({"queued_to_final__max": "< 1ms"}, False, True, id="settled too late"),
    ],
)
def test_thresholds_that_can_no_longer_be_met(
    database: Database,
    tmp_path: Path,
    threshold: dict[str, str],
    at_first: bool,
    halfway: bool,
) -> None:
    run = record_run(database, scenario_with(**threshold), tmp_path, lambda _: None)
    batch, _ = enqueue_campaign(database, run.campaigns[0], 2)
    [(name, limit)] = threshold.items()
    text = f"{name.replace('__', '.')} {limit}"
    assert find_unreachable_threshold(database, run) == (text if at_first else None)
    settle_batch(database, batch)
    assert find_unreachable_threshold(database, run) == (text if halfway else None)


def test_a_pause_is_no_reason_to_abort(database: Database, tmp_path: Path) -> None:
    scenario = scenario_with(seconds="< 0s", not_sent="== 0")
    run = record_run(database, scenario, tmp_path, lambda _: None)
    [campaign] = run.recorded_campaigns
    check = AbortCheck(run)

    def find() -> str | None:
        with database.read() as connection:
            reports = make_reports(connection, [campaign])
            threshold = check.find_unreachable_threshold(connection, reports)
        return None if threshold is None else threshold.figure

    assert find() == "seconds"
    pause_campaign(database, campaign, actor="asha", reason="")
    assert find() is None
    resume_campaign(database, campaign, actor="asha", reason="")
    assert find() is None, "the run stays longer by the pause"
    [batch] = enqueue_campaign(database, run.campaigns[0])
    settle_batch(database, batch)
    assert find() == "not_sent", "other thresholds still do"


def test_latencies_of_unfinished_batches_are_ignored(database: Database, tmp_path: Path) -> None:
    scenario = scenario_with(queued_to_gateway__max="< 1ms")
    run = record_run(database, scenario, tmp_path, lambda _: None)
    check = AbortCheck(run)
    campaigns = run.recorded_campaigns
    long_ago = campaigns[0].clock.now() - 10_000_000
    batch = enqueue_batch(
        database, campaigns[0], batch=0, first=0, size=SIZE, author=DRIVER_AUTHOR, at=long_ago
    )
    is_unreachable = []
    for step in (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, Step.SUBMIT, Step.DELIVER):
        run_step(database, batch, step)
        with database.read() as connection:
            reports = make_reports(connection, campaigns)
            threshold = check.find_unreachable_threshold(connection, reports)
            is_unreachable.append(threshold is not None)
    assert is_unreachable == [False, False, False, True, True]


@given(
    st.sampled_from(["<", "<=", ">", ">=", "=="]),
    st.integers(0, 10),
    st.lists(st.integers(0, 10), min_size=1),
)
def test_a_threshold_is_reachable_if_some_value_of_the_range_meets_it(
    relation: str, limit: int, values: list[int]
) -> None:
    threshold = Threshold(
        figure="sent",
        unit=Unit.MESSAGES,
        relation=relation,
        limit=limit,
        expression="",
        should_abort=True,
    )
    if any(threshold.is_met_by(value) for value in values):
        assert threshold.can_be_met_within(min(values), max(values))
    whole_range = range(min(values), max(values) + 1)
    if not any(threshold.is_met_by(value) for value in whole_range):
        assert not threshold.can_be_met_within(min(values), max(values))
