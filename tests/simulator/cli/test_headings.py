"""The outputs of commands on the record name run, seed, state and time."""

import csv
import json
import re
from datetime import datetime

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
    "command", ["report spring", "report spring --days", "verify spring", "trace spring 4"]
)
def test_json_names_run_seed_state_and_time(
    campaign: Campaign, settings: Settings, command: str
) -> None:
    options = ["--database", settings.resolved_database_url, "--format", "json"]
    parsed = json.loads(CliRunner().invoke(app, [*command.split(), *options]).stdout)
    first = parsed[0] if isinstance(parsed, list) else parsed
    origin = first["campaigns"][0] if command.startswith("verify") else first
    names = ("campaign", "channel", "run", "seed", "state")
    assert tuple(origin[name] for name in names) == ("spring", "email", 1, 1, "running")
    assert datetime.fromisoformat(origin["as_of"]).tzinfo is not None


def test_a_diff_as_csv_names_run_seed_state_and_time(
    campaign: Campaign, settings: Settings
) -> None:
    options = ["--database", settings.resolved_database_url, "--format", "csv"]
    ended = CliRunner().invoke(app, ["checks", "diff", "--campaign", "spring", *options])
    header = "from,to,messages,customers,campaign,channel,run,seed,state,as_of"
    assert ended.stdout.splitlines()[0] == header


def test_an_explanation_as_csv_names_run_seed_state_and_time(
    campaign: Campaign, settings: Settings
) -> None:
    command = ["checks", "explain", "--campaign", "spring", "--message", "4", "--format", "csv"]
    ended = CliRunner().invoke(app, [*command, "--database", settings.resolved_database_url])
    first, *_ = csv.DictReader(ended.stdout.splitlines())
    names = ("campaign", "channel", "run", "seed", "state", "message")
    assert [first[name] for name in names] == ["spring", "email", "1", "1", "running", "4"]
    assert datetime.fromisoformat(first["as_of"]).tzinfo is not None
    assert list(first)[:5] == ["step", "order", "check", "verdict", "looked at"]


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
