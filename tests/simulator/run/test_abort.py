"""What a run can still become: a run is ended early only for what is lost for certain."""

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
from simulator.setup.record import Run, record_run
from tests.support.playing import batches_of, campaign_of, do, scenario_of, settle
from tracker.queries.report import make_reports
from tracker.record.catalog import Batch
from tracker.record.journal import enqueue_batch
from tracker.status import Step
from tracker.store.database import Database

SIZE = 20


def demanding(**thresholds: str) -> Scenario:
    demands: dict[str, Any] = {"abort": True}
    demands |= {name.replace("__", "."): told for name, told in thresholds.items()}
    campaign = campaign_of(audience=SIZE, defects={"unsubscribed": 0.5})
    return scenario_of(campaign, thresholds=demands)


def forebode(database: Database, run: Run) -> str | None:
    foreboding = AbortCheck(run)
    assert foreboding
    with database.read() as connection:
        reports = make_reports(connection, [loaded.campaign for loaded in run.campaigns])
        found = foreboding.look(connection, reports)
    return None if found is None else f"{found.figure} {found.told}"


def halves(database: Database, run: Run) -> list[Batch]:
    return batches_of(database, run.campaigns[0], 2)


@pytest.mark.parametrize(
    ("demanded", "at_first", "halfway"),
    [
        pytest.param({"not_sent": "<= 1"}, False, True, id="too many by now"),
        pytest.param({"not_sent__share": "<= 0.05"}, False, True, id="too large a share"),
        pytest.param({"not_sent": "<= 19"}, False, False, id="nobody knows yet"),
        pytest.param({"delivered": ">= 20"}, False, True, id="not enough are left"),
        pytest.param({"delivered__share": ">= 0.9"}, False, True, id="not enough of a share"),
        pytest.param({"delivered": ">= 1"}, False, False, id="enough may come"),
        pytest.param({"delivered": "<= 3"}, False, False, id="what bounces late is not counted"),
        pytest.param({"not_sent": "== 2"}, False, True, id="more than that"),
        pytest.param({"not_sent": "== 10"}, False, False, id="may come to that"),
        pytest.param({"seconds": "< 0s"}, True, True, id="too long by now"),
        pytest.param({"seconds": "< 1h"}, False, False, id="not too long yet"),
        pytest.param({"gateway__repeats": "> 5"}, False, False, id="may still be repeated"),
        pytest.param({"gateway__repeats": "< 0"}, True, True, id="repeated by now"),
        pytest.param({"queued_to_gateway__p50": "< 1h"}, False, False, id="in time"),
        pytest.param({"queued_to_gateway__max": "< 0s"}, True, True, id="one is too late"),
        pytest.param({"spring.queued_to_gateway__max": "< 1ms"}, False, True, id="of a campaign"),
        pytest.param({"queued_to_gateway__p99": "< 1ms"}, False, True, id="more than a hundredth"),
        pytest.param({"queued_to_gateway__p50": "< 1ms"}, False, False, id="the rest may be fast"),
        pytest.param({"queued_to_final__max": "< 1ms"}, False, True, id="settled too late"),
    ],
)
def test_what_can_not_be_met_any_more(
    database: Database,
    tmp_path: Path,
    demanded: dict[str, str],
    at_first: bool,
    halfway: bool,
) -> None:
    run = record_run(database, demanding(**demanded), tmp_path, lambda _: None)
    batch, _ = halves(database, run)
    [(name, told)] = demanded.items()
    said = f"{name.replace('__', '.')} {told}"
    assert forebode(database, run) == (said if at_first else None)
    settle(database, batch)
    assert forebode(database, run) == (said if halfway else None)


def test_latencies_of_batches_on_their_way_are_not_known(
    database: Database, tmp_path: Path
) -> None:
    scenario = demanding(queued_to_gateway__max="< 1ms")
    run = record_run(database, scenario, tmp_path, lambda _: None)
    foreboding = AbortCheck(run)
    campaigns = [loaded.campaign for loaded in run.campaigns]
    long_ago = campaigns[0].clock.now() - 10_000_000
    batch = enqueue_batch(
        database, campaigns[0], batch=0, first=0, size=SIZE, author=DRIVER_AUTHOR, at=long_ago
    )
    found = []
    for step in (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, Step.SUBMIT, Step.DELIVER):
        do(database, batch, step)
        with database.read() as connection:
            reports = make_reports(connection, campaigns)
            found.append(foreboding.look(connection, reports) is not None)
    assert found == [False, False, False, True, True]


@given(
    st.sampled_from(["<", "<=", ">", ">=", "=="]),
    st.integers(0, 10),
    st.lists(st.integers(0, 10), min_size=1),
)
def test_what_some_value_within_the_bounds_meets_can_be_met(
    relation: str, limit: int, values: list[int]
) -> None:
    threshold = Threshold(
        figure="sent", unit=Unit.MESSAGES, relation=relation, limit=limit, told="", abort=True
    )
    if any(threshold.is_met_by(value) for value in values):
        assert threshold.can_be_met_within(min(values), max(values))
    everything = range(min(values), max(values) + 1)
    if not any(threshold.is_met_by(value) for value in everything):
        assert not threshold.can_be_met_within(min(values), max(values))
