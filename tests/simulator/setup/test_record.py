"""A run is recorded first and starts when everything is ready."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from simulator.results.archive.run_list import list_runs
from simulator.setup.record import record_run, start_run
from simulator.world.behaviour import EngagementRates
from simulator.world.gateway import SimulatedGatewaySettings
from tests.support.inline_runs import build_campaign, build_scenario
from tests.support.statements import executed
from tracker.campaign_states import CampaignState
from tracker.clock import make_clock
from tracker.record.catalog import load_campaign
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.mobile import RESERVED_FOR_FICTION, to_e164


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


def test_campaigns_of_both_channels_share_the_gateway_that_they_name(
    database: Database, tmp_path: Path
) -> None:
    """Otherwise the gateway would accept its rate twice."""
    rates = EngagementRates(open=0.5)
    scenario = build_scenario(
        build_campaign("one", channel="sms", gateway="shared"),
        build_campaign("two", channel="email", gateway="shared"),
        build_campaign("three", channel="email"),
        gateways={"shared": {"rate": 50}},
        engagement={"email": rates},
    )
    run = record_run(database, scenario, tmp_path, lambda _: None)
    sms, email, other = (run_campaign.campaign for run_campaign in run.campaigns)
    assert sms.gateway_id == email.gateway_id != other.gateway_id
    settings = SimulatedGatewaySettings.model_validate_json(email.gateway_settings)
    assert settings.engagement == rates


def test_generated_numbers_and_addresses_belong_to_no_person(
    database: Database, tmp_path: Path
) -> None:
    campaign = build_campaign(channel="sms", audience=1_001)
    record_run(database, build_scenario(campaign), tmp_path, lambda _: None)
    with database.read() as connection:
        rows = connection.execute(sa.select(customers)).all()
    assert len(rows) == 1_001
    assert {row.email.partition("@")[2] for row in rows} == {"example.com"}
    for number in {row.mobile for row in rows}:
        assert to_e164(number) == number
        assert RESERVED_FOR_FICTION.fullmatch(number)
    assert [row.mobile_e164 for row in rows] == [row.mobile for row in rows]


def test_times_in_settings_of_rules_are_recorded_in_iso_8601(
    database: Database, tmp_path: Path
) -> None:
    scenario = build_scenario(build_campaign())
    begin = datetime(2026, 11, 30, 10, 15, tzinfo=UTC)
    settings = {"from": begin, "days": [begin.date()], "until": begin.time()}
    run = record_run(
        database, replace(scenario, rules={"hold_out": settings}), tmp_path, lambda _: None
    )
    with database.read() as connection:
        campaign = load_campaign(connection, run.campaigns[0].campaign.id)
    assert campaign.rule_settings("hold_out") == {
        "from": "2026-11-30T10:15:00+00:00",
        "days": ["2026-11-30"],
        "until": "10:15:00",
    }


@pytest.mark.parametrize("has_folder", [True, False])
def test_run_that_is_interrupted_while_it_is_recorded_is_given_up(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_folder: bool
) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    if not has_folder:
        monkeypatch.setattr(Path, "mkdir", interrupt)
    with pytest.raises(KeyboardInterrupt):
        record_run(database, build_scenario(build_campaign()), tmp_path, interrupt)
    with database.read() as connection:
        [run] = list_runs(connection)
    assert (run.state, run.summary) == (CampaignState.INTERRUPTED, None)


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_shared_addresses_are_found_with_plans_that_need_no_statistics(
    database: Database, tmp_path: Path
) -> None:
    """Otherwise PostgreSQL compares each customer with each: 30,000 of them took minutes."""
    (tmp_path / "people.csv").write_text("customer_id,email\nC1,ana@shop.example\n")
    scenario = build_scenario(build_campaign(audience="people.csv"), path=tmp_path / "test.toml")
    with executed(database) as statements:
        record_run(database, scenario, tmp_path, lambda _: None)
    texts = [statement for statement, _ in statements]
    [inserted, _] = [at for at, text in enumerate(texts) if "INSERT INTO shared_addr" in text]
    assert "SET LOCAL enable_nestloop = off" in texts[max(0, inserted - 4) : inserted]
