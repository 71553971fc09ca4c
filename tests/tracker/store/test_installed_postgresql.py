"""An installed PostgreSQL server, of any supported version, works like the one of the wheel."""

from contextlib import closing
from pathlib import Path

import pytest

from simulator.schema import open_database
from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tests.support.postgresql import MIN_VERSION, find_installed_servers, start_installed_server
from tracker.settings import load_settings
from tracker.status import Channel

SERVERS = find_installed_servers()


@pytest.mark.skipif(
    not SERVERS, reason=f"no PostgreSQL server from version {MIN_VERSION} on in /usr/lib/postgresql"
)
@pytest.mark.parametrize("version", [*SERVERS] or [None])
def test_a_run_on_an_installed_server_matches_its_prediction(version: int, tmp_path: Path) -> None:
    email = build_campaign(audience=300)
    sms = build_campaign("summer", channel=Channel.SMS, audience=100)
    gateway = {"soft_bounce": 0.2, "hard_bounce": 0.1, "receipts": {"late_bounce": 0.3}}
    scenario = build_scenario(email, sms, gateways={"email": gateway})
    with start_installed_server(SERVERS[version]) as server:
        settings = load_settings(database_url=server.url)
        with closing(open_database(settings)) as database:
            assert_passed(run_scenario(database, scenario, tmp_path))
