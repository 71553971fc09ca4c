"""The example rules of docs/common-rules.md work, in tests of their own and in a run."""

import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from docs.generate import FOLDER
from simulator.results.result import RunResult
from simulator.scenario.file import load_scenario
from simulator.setup.record import record_run
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    enqueue_campaign,
    judge_recorded_run,
    settle_batch,
)
from tests.support.pages import read_blocks
from tests.support.plugins import plugin_installer
from tracker.clock import from_seconds
from tracker.errors import UsageError
from tracker.queries.report import make_reports
from tracker.record.catalog import load_batch
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import customers, runs
from workers.candidates import Candidate
from workers.plugins import PluginGroup
from workers.rules.pytest_plugin import Judge

EXAMPLES = FOLDER / "examples" / "rules"

NOBODY = {"percent": 0}
QUIET_HOURS = {"begin": 21, "end": 8, "time_zone": "UTC"}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the example rules."""
    folder = tmp_path / "site"
    folder.mkdir()
    module = EXAMPLES / "example_rules.py"
    (folder / module.name).write_text(module.read_text(encoding="utf-8"), encoding="utf-8")
    project = tomllib.loads((EXAMPLES / "pyproject.toml").read_text(encoding="utf-8"))
    with plugin_installer(folder, monkeypatch) as install:
        install("", **project["project"]["entry-points"][PluginGroup.CHECKS])
        yield
    sys.modules.pop("example_rules", None)


def test_the_page_shows_the_example_and_its_tests_pass(
    candidate: Callable[..., Candidate], judge: Judge
) -> None:
    shown, with_suspects, its_tests = read_blocks("common-rules.md", "python")
    assert shown == (EXAMPLES / "example_rules.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(its_tests, "common-rules.md", "exec"), names)  # noqa: S102  # our own page
    tests = [names[name] for name in names if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test(candidate, judge)
    exec(compile(shown + with_suspects, "common-rules.md", "exec"), names)  # noqa: S102
    assert judge(candidate(profile="staff"), names["staff"]).check == "staff"
    assert not judge(candidate(), names["staff"])


def test_the_settings_of_the_page_load(tmp_path: Path) -> None:
    [settings] = [block for block in read_blocks("common-rules.md", "toml") if "[rules" in block]
    file = tmp_path / "example.toml"
    campaign = '[[campaigns]]\nname = "spring"\nchannel = "email"\naudience = 5\n'
    file.write_text(f'name = "example"\n{settings}\n{campaign}', encoding="utf-8")
    scenario = load_scenario(file)
    scenario.require_rules()
    assert scenario.defer_at_most.total_seconds() == 12 * 3600
    assert scenario.rules["hold_out"] == {"percent": 5}
    file.write_text(file.read_text().replace("hold_out", "hold_outs"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"rules\.hold_outs: no installed .* mean hold_out\?"):
        load_scenario(file).require_rules()


def run_through_a_night(database: Database, folder: Path, **tables: Any) -> tuple[int, RunResult]:
    """Run a campaign from the night until noon; return how many messages waited."""
    scenario = build_scenario(
        build_campaign(audience=60, defects={"email_missing": 0.2}),
        clock={"start": datetime(2026, 6, 15, 22, 30, tzinfo=UTC)},
        gateways={"email": {"hard_bounce": 0.1, "soft_bounce": 0.1}},
        **tables,
    )
    run = record_run(database, scenario, folder, lambda _: None)
    [run_campaign] = run.campaigns
    [batch] = enqueue_campaign(database, run_campaign)
    settle_batch(database, batch)
    with database.read() as connection:
        [night] = make_reports(connection, [batch.campaign])
    assert night.deferred == night.count_messages(Status.QUEUED)
    assert night.is_balanced
    with database.write() as connection:
        connection.execute(sa.update(runs).values(ahead=from_seconds(14 * 3600)))
        batch = load_batch(connection, batch.campaign.id, batch.batch)
    settle_batch(database, batch)
    return night.deferred, judge_recorded_run(database, run)


def test_deferred_messages_end_as_predicted(database: Database, tmp_path: Path) -> None:
    deferred, result = run_through_a_night(
        database, tmp_path, rules={"quiet_hours": QUIET_HOURS, "hold_out": NOBODY}
    )
    [report], [check] = result.reports, result.prediction_checks
    assert deferred == 60 - report.count_messages(Status.NOT_SENT, Reason.EMAIL_MISSING) > 40
    assert (report.deferred, report.in_progress, report.sent) == (0, 0, deferred)
    assert_passed(result)
    assert (check.compared, check.matching, check.not_predicted) == (60, 60, {})


def test_messages_that_may_not_wait_until_the_morning_are_not_sent(
    database: Database, tmp_path: Path
) -> None:
    """At the end of `defer_at_most` it is still night."""
    rules = {"quiet_hours": QUIET_HOURS | {"end": 20}, "hold_out": NOBODY}
    deferred, result = run_through_a_night(database, tmp_path, rules=rules, defer_at_most="13h")
    [report], [check] = result.reports, result.prediction_checks
    assert report.count_messages(Status.NOT_SENT, Reason.CUSTOM_RULE) == deferred > 40
    assert check.not_predicted == {"quiet_hours": deferred}
    assert_passed(result)


def test_a_blocklist_is_read_once_a_batch(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "blocked.txt"
    scenario = build_scenario(
        build_campaign("one", audience=20),
        build_campaign("two", audience={"same_as": "one"}, after="one"),
        rules={"blocklist": {"file": str(file)}, "hold_out": NOBODY},
    )
    run = record_run(database, scenario, tmp_path, lambda _: None)
    with database.read() as connection:
        query = sa.select(customers.c.customer_id).order_by(customers.c.number)
        ids = connection.scalars(query).all()
    reads: list[Path] = []
    read_text = Path.read_text

    def read_and_note(path: Path, **options: Any) -> str:
        if path == file:
            reads.append(path)
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", read_and_note)
    for run_campaign, blocked in zip(run.campaigns, (ids[:3], ids[:5]), strict=True):
        file.write_text("\n".join(blocked))
        for batch in enqueue_campaign(database, run_campaign, 2):
            settle_batch(database, batch)
    assert reads == [file] * 4
    result = judge_recorded_run(database, run)
    assert_passed(result)
    assert [check.not_predicted for check in result.prediction_checks] == [
        {"blocklist": 3},
        {"blocklist": 5},
    ]
