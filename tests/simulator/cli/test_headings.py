"""What the commands on the record say their output is about."""

import re

import pytest
from typer.testing import CliRunner

from simulator.cli.main import app
from tests.support.factory import make_batch
from tracker.record.catalog import Campaign
from tracker.settings import Settings
from tracker.store.database import Database

ORIGIN = re.compile(
    r"spring · email · run 1 · seed 1 · running · \d+ [A-Z][a-z]+ 20\d\d \d\d:\d\d:\d\d UTC"
)


@pytest.fixture
def campaign(database: Database) -> Campaign:
    """Record a campaign of a running run."""
    return make_batch(database).campaign


@pytest.mark.parametrize(
    "command",
    [
        "report spring",
        "report spring --days",
        "trace spring 4",
        "rollup",
        "verify spring",
        "checks explain --campaign spring --message 4",
        "checks diff --campaign spring",
    ],
)
def test_a_text_names_run_seed_state_and_time(
    campaign: Campaign, settings: Settings, command: str
) -> None:
    options = ["--database", settings.resolved_database_url]
    ended = CliRunner().invoke(app, [*command.split(), *options])
    first = ended.stdout.splitlines()[0]
    assert ORIGIN.search(first), ended.output
