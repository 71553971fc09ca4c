"""`sendtrace prune` deletes runs with all that belongs to them, and nothing else."""

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from simulator.cli.main import app
from simulator.retention import task
from simulator.retention.prune import prune_runs
from simulator.retention.selection import SIMULATOR_TABLES
from simulator.setup.run import Run
from tests.support.factory import find_violations
from tests.support.inline_runs import enqueue_campaign, settle_batch
from tests.support.recorded_runs import end_driver, start_recorded_run
from tracker.campaign_states import CampaignState
from tracker.record.retention import runs as retention
from tracker.record.rollup import roll_up_engagement
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, runs
from tracker.store.schema.retention import last_ids, prunes
from tracker.store.schema.tables import TRACKER_TABLES
from workers.runtime import Resources

SCENARIO = """
name = "retention"
seed = 7

[organization]
name = "Acme"
keep = true

[[campaigns]]
name = "first"
channel = "email"
audience = "people.csv"
requires = ["field:city"]

[[campaigns]]
name = "second"
channel = "sms"
audience = 10
requires = ["coupon"]

[gateways.email]
soft_bounce = 0.2
hard_bounce = 0.1
receipts = { duplicate = 0.2 }

[gateways.sms]
soft_bounce = 0.2

[engagement.email]
open = 0.8
click = 0.4
unsubscribe = 0.1
"""

SCENARIO_WITHOUT_FILE = """
name = "small"
[[campaigns]]
name = "only"
channel = "email"
audience = 3
"""

Rows = Mapping[str, list[Any]]


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands use the database of the test."""
    monkeypatch.setenv("SENDTRACE_HOME", str(settings.home))
    if settings.database_url:
        monkeypatch.setenv("SENDTRACE_DATABASE_URL", settings.database_url)


def invoke(*arguments: object, expected: int = 0) -> str:
    result = CliRunner().invoke(app, ["prune", *map(str, arguments)])
    assert result.exit_code == expected, result.output
    return result.output


def make_run(database: Database, settings: Settings) -> Run:
    """Return a run on record whose messages have settled, with its folder."""
    people = "".join(
        f"c{n},c{n}@shop.example,+4477009{n:05},{'Pune' if n % 6 else ''}\n" for n in range(20)
    )
    header = "customer_id,email,mobile,field:city\n"
    (settings.home.parent / "people.csv").write_text(f"{header}{people}c1,broken\n")
    run = start_recorded_run(database, SCENARIO, settings.home)
    (run.folder / "summary.json").write_text("{}")
    for run_campaign in run.campaigns:
        for batch in enqueue_campaign(database, run_campaign):
            settle_batch(database, batch)
    roll_up_engagement(database, settings.zone)
    end_driver(database, run, CampaignState.FINISHED)
    return run


def read_all(database: Database) -> Rows:
    """Return all rows of all tables."""
    with database.read() as connection:
        return {
            table.name: [*connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in (*TRACKER_TABLES, *SIMULATOR_TABLES)
            if table not in (last_ids, prunes)
        }


def without_run(rows: Rows, owners: Mapping[str, Any]) -> Rows:
    """Return rows without those that belong to a run."""
    owned = {table.name: column for table, column in retention.list_owned_tables(SIMULATOR_TABLES)}
    kept: dict[str, list[Any]] = {}
    for name, values in rows.items():
        column = owned.get(name)
        ids = owners["run_id"] if name == "runs" else owners.get(column or "", ())
        key = "id" if name == "runs" else column
        kept[name] = [row for row in values if key is None or getattr(row, key) not in ids]
    return kept


def test_a_run_goes_with_its_rows_and_files_and_all_else_stays(
    database: Database, settings: Settings
) -> None:
    first, second = (make_run(database, settings) for _ in range(2))
    log = settings.logs / "worker-1.log"
    log.write_text("started")
    with database.write() as connection:
        conditions = sa.text(
            "UPDATE run_drivers SET conditions = replace(conditions, 'worker.log', :log)"
            " WHERE run_id = 1"
        )
        connection.execute(conditions, {"log": str(log)})
        owners = retention.read_owners(connection, first.id)
    before = read_all(database)
    others = without_run(before, owners)
    filled = {name for name, rows in before.items() if len(others[name]) < len(rows)}
    assert filled >= {
        "runs", "campaigns", "batches", "messages", "transitions", "tallies", "steps", "customers",
        "engagements", "engagement_days", "gateway_ledger", "audience_census", "run_setups",
        "transition_details",
    }  # fmt: skip

    said = invoke("--run", first.id)
    assert "Nothing was deleted; --yes deletes." in said
    assert "1 run: about" in said
    assert read_all(database) == before
    assert first.folder.exists()

    invoke("--run", first.id, "--yes")
    assert read_all(database) == others
    assert before["counters"]
    assert before["suppressions"]
    assert not first.folder.exists()
    assert not log.exists()
    assert second.folder.exists()
    assert find_violations(database, *(campaign.campaign for campaign in second.campaigns)) == []
    assert "does not exist" in invoke("--run", first.id, "--yes", expected=2)


def test_a_run_that_may_have_a_driver_stays(database: Database, settings: Settings) -> None:
    run = start_recorded_run(database, SCENARIO_WITHOUT_FILE, settings.home)
    before = read_all(database)
    assert f"run {run.id} stays: it is scheduled" in invoke("--run", run.id, "--yes")
    assert json.loads(invoke("--keep", 0, "--format", "json"))["left"] == [
        {"run": run.id, "state": "scheduled"}
    ]
    assert read_all(database) == before
    end_driver(database, run, CampaignState.INTERRUPTED)
    invoke("--run", run.id, "--yes")
    assert read_all(database)["runs"] == []


def test_runs_are_chosen_by_age_and_by_number_of_the_latest(
    database: Database, settings: Settings
) -> None:
    old, middle, latest = (
        start_recorded_run(database, SCENARIO_WITHOUT_FILE, settings.home) for _ in range(3)
    )
    for run in (old, middle, latest):
        end_driver(database, run, CampaignState.INTERRUPTED)
    two_days = 2 * 86_400_000_000
    with database.write() as connection:
        update = sa.update(runs).where(runs.c.id == old.id)
        connection.execute(update.values(given_up_at=runs.c.given_up_at - two_days))

    def choose(*arguments: object) -> list[int]:
        plan = json.loads(invoke(*arguments, "--format", "json"))
        return [run["run"] for run in plan["runs"]]

    assert choose("--older-than", "1d") == [old.id]
    assert choose("--older-than", "3d") == []
    assert choose("--keep", 2) == [old.id]
    assert choose("--keep", 1) == [old.id, middle.id]
    assert choose("--run", latest.id, "--run", old.id) == [old.id, latest.id]
    assert "expected one of" in invoke("--keep", 1, "--run", 1, expected=2)
    assert "expected one of" in invoke(expected=2)
    assert "expected a time like 30d" in invoke("--older-than", "soon", expected=2)


@pytest.mark.parametrize("transactions", [0, 7])
def test_an_interrupted_deletion_leaves_a_consistent_record_and_goes_on(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, transactions: int
) -> None:
    kept, gone = (make_run(database, settings) for _ in range(2))
    with database.read() as connection:
        owners = retention.read_owners(connection, gone.id)
    expected = without_run(read_all(database), owners)
    monkeypatch.setattr(retention, "BATCH_ROWS", 6)
    deletion = prune_runs(database, settings, [gone.id])
    for _ in islice(deletion, transactions + 1):
        pass
    del deletion

    listed = CliRunner().invoke(app, ["runs", "--format", "json"]).stdout
    assert [run["run"] for run in json.loads(listed)] == [kept.id]
    assert CliRunner().invoke(app, ["verify"]).exit_code == 0
    for command in ("judge", "compare"):
        arguments = [str(gone.id)] * (2 if command == "compare" else 1)
        assert "does not exist" in CliRunner().invoke(app, [command, *arguments]).output
    new = start_recorded_run(database, SCENARIO_WITHOUT_FILE, settings.home)
    assert new.id > gone.id
    assert new.campaigns[0].campaign.id > gone.campaigns[-1].campaign.id
    assert "its deletion was interrupted, and goes on" in invoke("--keep", 9)
    end_driver(database, new, CampaignState.INTERRUPTED)
    invoke("--run", new.id, "--yes")
    assert read_all(database) == expected


@pytest.mark.parametrize("seconds", [-1.0, 60.0])
def test_the_task_of_beat_deletes_old_runs_in_slices(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    old, young = (
        start_recorded_run(database, SCENARIO_WITHOUT_FILE, settings.home) for _ in range(2)
    )
    for run in (old, young):
        end_driver(database, run, CampaignState.INTERRUPTED)
    with database.write() as connection:
        update = sa.update(runs).where(runs.c.id == old.id)
        connection.execute(update.values(given_up_at=runs.c.given_up_at - 2 * 86_400_000_000))
    calls: list[float] = []
    monkeypatch.setattr(task, "SLICE_SECONDS", seconds)
    monkeypatch.setattr(task.prune, "delay", lambda: calls.append(seconds))
    resources = Resources()
    vars(resources)["database"] = database
    monkeypatch.setattr(task, "resources", lambda: resources)
    task.prune()
    assert not calls
    assert [row.id for row in read_all(database)["runs"]] == [old.id, young.id]
    monkeypatch.setenv("SENDTRACE_PRUNE_OLDER_THAN", "1d")
    for _ in range(50):
        calls.clear()
        task.prune()
        if not calls:
            break
    assert not calls
    assert [row.id for row in read_all(database)["runs"]] == [young.id]


def test_an_id_is_never_given_again(database: Database, settings: Settings) -> None:
    first = start_recorded_run(database, SCENARIO_WITHOUT_FILE, settings.home)
    end_driver(database, first, CampaignState.INTERRUPTED)
    for _ in range(2):
        invoke("--keep", 0, "--yes")
    second = start_recorded_run(database, SCENARIO_WITHOUT_FILE, settings.home)
    assert second.id > first.id
    assert second.campaigns[0].campaign.id > first.campaigns[0].campaign.id


def test_sqlite_gives_the_space_back(database: Database, settings: Settings) -> None:
    run = start_recorded_run(database, SCENARIO_WITHOUT_FILE, settings.home)
    end_driver(database, run, CampaignState.INTERRUPTED)
    with database.write() as connection:
        connection.execute(sa.update(campaigns).values(message="x" * 3_000_000))
    assert list(database.release_space()) == []  # nothing is free; it writes the log back
    file = Path(database.engine.url.database or "")
    before = None if database.is_postgresql else file.stat().st_size
    said = invoke("--run", run.id, "--yes")
    if before is None:
        assert "PostgreSQL uses the space again" in said
    else:
        assert "the disk got" in said
        assert file.stat().st_size < before - 2_500_000
