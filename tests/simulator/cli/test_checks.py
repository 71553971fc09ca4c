"""The commands of `sendtrace checks`, and what is refused before anything is written."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator.cli.main import app
from tests.support.factory import Plan, judge, make_batch
from tests.support.paths import SCENARIOS
from tests.support.plugins import plugin_installer
from tests.support.rules import THIS_MODULE, deferring
from tracker.errors import UsageError
from tracker.output.tables import RowFormat
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.catalog import Campaign
from tracker.settings import Settings
from tracker.store.database import Database, connect
from tracker.store.migrate import TRACKER_MIGRATIONS, prepare_schema
from workers.checks.base import all_checks
from workers.rules import cli


@pytest.fixture
def campaign(database: Database) -> Campaign:
    """Record ten queued messages that no check blocked; number 5 has a hostile id.

    Number 4 passed although its address had bounced.
    """
    people: dict[int, dict[str, object]] = {
        4: {"hard_bounces_email": 1},
        5: {"customer_id": "c\x1b[31m\u202e5"},
    }
    batch = make_batch(database, Plan(size=10), people)
    for step in CHECK_STEPS:
        judge(database, batch, step)
    return batch.campaign


@pytest.mark.parametrize("format", RowFormat)
def test_notes_are_printed_to_stderr(campaign: Campaign, settings: Settings, format: str) -> None:
    options = ["--campaign", campaign.name, "--database", settings.resolved_database_url]
    options += ["--format", format, "--with", f"{THIS_MODULE}:fragile"]
    ended = CliRunner().invoke(app, ["checks", "diff", *options])
    assert ended.exit_code == 0, ended.output
    assert "note: check fragile failed on 10 messages" in ended.stderr
    assert "note" not in ended.stdout


def test_an_explanation_ends_with_the_outcome(campaign: Campaign, settings: Settings) -> None:
    options = ["--campaign", campaign.name, "--database", settings.resolved_database_url]
    ended = CliRunner().invoke(app, ["checks", "explain", *options, "--customer", "c4"])
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.endswith(
        "customer:  c4\n"
        "now:       Not Sent: bounced_repeatedly, blocked by check bounced_repeatedly\n"
        "recorded:  queued\n"
    )
    both = CliRunner().invoke(
        app, ["checks", "explain", *options, "--customer", "c4", "--message", "4"]
    )
    assert (both.exit_code, "expected either --customer CUSTOMER or" in both.stderr) == (2, True)


def test_an_explanation_may_be_as_of_a_time(campaign: Campaign, settings: Settings) -> None:
    options = ["--campaign", campaign.name, "--database", settings.resolved_database_url]
    options += ["--message", "4", "--at"]
    ended = CliRunner().invoke(app, ["checks", "explain", *options, "2026-01-02T03:04+01:00"])
    assert ended.exit_code == 0, ended.output
    assert "\nat 2026-01-02 02:04:00 UTC: Not Sent: bounced_repeatedly" in ended.stdout
    at = [*options, "2026-01-02T03:04+01:00"]
    ended = CliRunner().invoke(app, ["checks", "explain", *at, "--format", "json"])
    explanation = json.loads(ended.stdout)
    assert explanation["as_of"] == "2026-01-02T02:04:00+00:00"
    read_at = datetime.fromisoformat(explanation["read_at"])
    assert abs(datetime.now(UTC) - read_at) < timedelta(days=1), "the time of the record"
    wrong = CliRunner().invoke(app, ["checks", "explain", *options, "yesterday"])
    assert (wrong.exit_code, "--at yesterday: not a time" in wrong.stderr) == (2, True)


def test_a_deferral_is_explained(
    campaign: Campaign, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "all_checks", lambda: [*all_checks(), deferring])
    options = ["--campaign", campaign.name, "--database", settings.resolved_database_url]
    options += ["--at", "2026-01-02T03:04+01:00", "--message"]
    ended = CliRunner().invoke(app, ["checks", "explain", *options, "3"])
    assert ended.exit_code == 0, ended.output
    deferred = "deferred until 2026-01-02 03:04:00 UTC"
    assert re.search(rf"deferring +{deferred}", ended.stdout)
    assert f"\nat 2026-01-02 02:04:00 UTC: {deferred} by check deferring\n" in ended.stdout
    ended = CliRunner().invoke(app, ["checks", "explain", *options, "3", "--format", "json"])
    explanation = json.loads(ended.stdout)
    assert (explanation["reason"], explanation["deferred_by"]) == (None, "deferring")
    assert explanation["deferred_until"].startswith("2026-01-02T03:04:00")
    blocked = CliRunner().invoke(app, ["checks", "explain", *options, "4"])
    assert "Not Sent: bounced_repeatedly, blocked by" in blocked.stdout


def test_control_characters_in_an_explanation_are_escaped(
    campaign: Campaign, settings: Settings
) -> None:
    options = ["--campaign", campaign.name, "--database", settings.resolved_database_url]
    ended = CliRunner().invoke(app, ["checks", "explain", *options, "--message", "5"])
    assert r"customer:  c\x1b[31m\u202e5" in ended.stdout
    assert not {"\x1b", "\u202e"} & set(ended.stdout)


@pytest.mark.parametrize("command", ["explain --message 0", "diff"])
def test_tables_of_all_layers_are_needed(tmp_path: Path, command: str) -> None:
    url = f"sqlite:///{tmp_path / 'sendtrace.db'}"
    with closing(connect(url)) as database:
        prepare_schema(database, TRACKER_MIGRATIONS)
    arguments = [*command.split(), "--campaign", "spring", "--database", url]
    ended = CliRunner().invoke(app, ["checks", *arguments])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "nothing is recorded in " in ended.stderr
    assert f"{tmp_path / 'sendtrace.db'}; run sendtrace simulate first" in ended.stderr


@pytest.mark.parametrize("name", ["sale.toml", "people.csv"])
@pytest.mark.parametrize("option", ["--verdicts", "--json"])
def test_an_input_file_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    people, sale = tmp_path / "people.csv", tmp_path / "sale.toml"
    people.write_text("customer_id,email\nanna,anna@example.com\n")
    sale.write_text(
        'name = "sale"\n[[campaigns]]\nname = "one"\nchannel = "email"\naudience = "people.csv"\n'
    )
    before = (tmp_path / name).read_text()
    command = ["checks", "try", "--scenario"] if option == "--verdicts" else ["simulate"]
    ended = CliRunner().invoke(app, [*command, str(sale), option, f"./{name}"])
    assert ended.exit_code == 2
    assert f"{option} {name}: got an input file; expected another file" in ended.stderr
    assert (tmp_path / name).read_text() == before


def test_a_broken_check_stops_a_run_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise UsageError("check x: import failed")

    monkeypatch.setattr("workers.checks.base.all_checks", refuse)
    monkeypatch.setenv("SENDTRACE_HOME", str(tmp_path / "home"))
    ended = CliRunner().invoke(app, ["simulate", str(SCENARIOS / "demo.toml")])
    assert (ended.exit_code, ended.stderr) == (2, "sendtrace: check x: import failed\n")
    assert not (tmp_path / "home").exists()


RULES = """\
from workers.checks.base import check

@check("custom_rule", step="suppress", order=1)
def hold_out(candidate, now):
    "Block number 0 at noon, and fail on number 1."
    if candidate.number == 1:
        raise LookupError("no luck")
    return candidate.number == 0 and now.hour == 12
"""

SMALL = 'name = "sale"\n[[campaigns]]\nname = "one"\nchannel = "email"\naudience = 5\n'


@pytest.fixture
def hold_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a rule of another package."""
    with plugin_installer(tmp_path, monkeypatch) as install:
        install(RULES, hold_out="extra:hold_out")
        yield


@pytest.mark.usefixtures("hold_out")
def test_try_exits_1_on_request_if_a_check_fails(tmp_path: Path) -> None:
    sale = tmp_path / "sale.toml"
    sale.write_text(SMALL)
    options = ["checks", "try", "--scenario", str(sale), "--format", "csv"]
    tried = CliRunner().invoke(app, [*options, "--at", "2026-12-24T12:00", "--fail-on-error"])
    assert (tried.exit_code, tried.stderr.count("check hold_out failed on 1 message")) == (1, 1)
    assert "one,custom_rule (hold_out),1" in tried.stdout
    assert "one,rule_failed (hold_out),1" in tried.stdout
    later = CliRunner().invoke(app, [*options, "--at", "2026-12-24T13:00"])
    assert (later.exit_code, "custom_rule" in later.stdout) == (0, False)
    for hour, is_blocked in ((12, True), (13, False)):
        sale.write_text(f"{SMALL}[clock]\nstart = 2026-12-24T{hour}:00:00Z\n")
        tried = CliRunner().invoke(app, options)
        assert (tried.exit_code, "custom_rule" in tried.stdout) == (0, is_blocked)


@pytest.mark.usefixtures("hold_out")
def test_coverage_names_rules_of_other_packages(tmp_path: Path) -> None:
    sale = tmp_path / "sale.toml"
    sale.write_text(SMALL)
    counted = CliRunner().invoke(app, ["checks", "coverage", str(sale)])
    assert counted.exit_code == 0, counted.output
    assert re.search(
        r"internally_suppressed +custom_rule \(hold_out\) +not predicted", counted.stdout
    )
    assert "not predicted: what rules of other packages block (hold_out)" in counted.stderr


SOURCED = """\
from workers.checks.base import check

@check("custom_rule", step="suppress", order=1, source=lambda campaign, customers: {})
def consent(candidate, now, data):
    "Block number 0."
    return candidate.number == 0
"""


def test_a_diff_says_that_a_source_answers_now(
    campaign: Campaign, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plugin_installer(tmp_path, monkeypatch) as install:
        install(SOURCED, consent="extra:consent")
        options = ["--campaign", campaign.name, "--database", settings.resolved_database_url]
        ended = CliRunner().invoke(app, ["checks", "diff", *options, "--format", "csv"])
    assert ended.exit_code == 0, ended.output
    assert "passes,custom_rule (consent),1,c0" in ended.stdout
    assert "note: check consent used the data that its source has now" in ended.stderr
