"""A run is recorded first and starts when everything is ready."""

from pathlib import Path

import pytest

from simulator.results.archive import list_runs
from simulator.setup.record import record_run, start_run
from tests.support.inline_runs import build_campaign, build_scenario
from tracker.clock import make_clock
from tracker.record.catalog import load_campaign
from tracker.status import CampaignState
from tracker.store.database import Database


def test_the_clock_of_a_run_starts_with_start_run(database: Database, tmp_path: Path) -> None:
    """Otherwise an outage in the first seconds would be over before the first message."""
    scenario = build_scenario(
        build_campaign("one"), build_campaign("two"), clock={"speed": 1_000.0}
    )
    recorded = record_run(database, scenario, tmp_path, lambda _: None)
    started = start_run(database, recorded)
    [before] = {run_campaign.campaign.started_at for run_campaign in recorded.campaigns}
    [after] = {run_campaign.campaign.started_at for run_campaign in started.campaigns}
    assert after > before
    for run_campaign in started.campaigns:
        with database.read() as connection:
            assert load_campaign(connection, run_campaign.campaign.id) == run_campaign.campaign
        assert run_campaign.campaign.clock == make_clock(after, 1_000)


def test_run_that_is_interrupted_while_it_is_recorded_is_given_up(
    database: Database, tmp_path: Path
) -> None:
    def interrupt(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_run(database, build_scenario(build_campaign()), tmp_path, interrupt)
    with database.read() as connection:
        [run] = list_runs(connection)
    assert (run.state, run.summary) == (CampaignState.INTERRUPTED, None)
