"""A run is recorded first, and begins when everything is ready."""

from pathlib import Path

from simulator.setup.record import record_run, start_run
from tests.support.playing import campaign_of, scenario_of
from tracker.clock import make_clock
from tracker.record.catalog import load_campaign
from tracker.store.database import Database


def test_the_clock_of_a_run_starts_when_it_begins(database: Database, tmp_path: Path) -> None:
    """Else an outage in its first seconds would be over before the first message."""
    scenario = scenario_of(campaign_of("one"), campaign_of("two"), clock={"speed": 1_000.0})
    recorded = record_run(database, scenario, tmp_path, lambda _: None)
    begun = start_run(database, recorded)
    [before] = {loaded.campaign.started_at for loaded in recorded.campaigns}
    [after] = {loaded.campaign.started_at for loaded in begun.campaigns}
    assert after > before
    for loaded in begun.campaigns:
        with database.read() as connection:
            assert load_campaign(connection, loaded.campaign.id) == loaded.campaign
        assert loaded.campaign.clock == make_clock(after, 1_000)
