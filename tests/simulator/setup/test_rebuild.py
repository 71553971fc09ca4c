"""A run is rebuilt from the record, without the files that it was made from."""

from dataclasses import replace
from pathlib import Path

import pytest

from simulator.oracle.oracle import build_oracles
from simulator.scenario.file import load_scenario
from simulator.setup.rebuild import RunNotStarted, load_run
from simulator.setup.record import record_run
from simulator.setup.run import Run
from tests.support.inline_runs import (
    assert_passed,
    enqueue_campaign,
    judge_recorded_run,
    settle_batch,
)
from tests.support.recorded_runs import start_recorded_run
from tracker.errors import NotFound
from tracker.store.database import Database

SCENARIO = """
name = "rebuilt"
seed = 3

[organization]
hard_bounce_limit = 1

[[campaigns]]
name = "imported"
channel = "email"
audience = "people.csv"

[[campaigns]]
name = "again"
channel = "email"
audience = { same_as = "imported" }
after = "imported"

[[campaigns]]
name = "generated"
channel = "sms"
audience = 30
defects = { unsubscribed = 0.2 }

[gateways.email]
hard_bounce = 0.3
soft_bounce = 0.2

[engagement.email]
open = 0.8
click = 0.6
unsubscribe = 0.5
"""

PEOPLE = "customer_id,email,unsubscribed,hard_bounces\n" + "".join(
    f"p{number},p{number}@example.com,{'both' if number % 7 == 0 else ''},{int(number % 11 == 0)}\n"
    for number in range(40)
)


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Run:
    (tmp_path / "people.csv").write_text(PEOPLE + "p1,again@example.com,,0\n")
    return start_recorded_run(database, SCENARIO, tmp_path / "home", seed=8)


def rebuild(database: Database, run: Run) -> Run:
    with database.read() as connection:
        return load_run(connection, run.id)


def test_a_run_is_the_same_after_its_files_are_gone(
    database: Database, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").unlink()
    rebuilt = rebuild(database, run)
    assert rebuilt.scenario == run.scenario
    assert rebuilt.scenario.seed == 8, "not the seed of the file"
    assert (rebuilt.imports, rebuilt.folder) == (run.imports, run.folder)
    assert rebuilt.imports[0].rejects == 1
    for old, new in zip(run.campaigns, rebuilt.campaigns, strict=True):
        assert replace(new, imported_audience=None) == replace(old, imported_audience=None)


def test_the_oracle_predicts_the_same_after_campaigns_have_changed_the_customers(
    database: Database, run: Run, tmp_path: Path
) -> None:
    """Bounces and opt-outs are counted on the customers, so the customers don't tell any more."""
    for run_campaign in run.campaigns:
        for batch in enqueue_campaign(database, run_campaign, number=2):
            settle_batch(database, batch)
    before = judge_recorded_run(database, run)
    assert_passed(before)
    after = judge_recorded_run(database, rebuild(database, run))
    assert_passed(after)
    assert after.prediction_checks == before.prediction_checks
    unchanged = [oracle.count_sendable() for oracle in build_oracles(run.campaigns)]
    rebuilt = rebuild(database, run)
    assert [oracle.count_sendable() for oracle in build_oracles(rebuilt.campaigns)] == unchanged
    assert unchanged[1] < unchanged[0], "the second campaign leaves out who bounced or opted out"


def test_a_run_that_never_started_can_not_be_rebuilt(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text('name = "x"\n[[campaigns]]\nname = "a"\nchannel = "sms"\naudience = 5\n')
    run = record_run(database, load_scenario(file), tmp_path, lambda _: None)
    with pytest.raises(RunNotStarted, match=f"run {run.id} never started"):
        rebuild(database, run)
    with pytest.raises(NotFound, match="run 99 does not exist"):
        rebuild(database, replace(run, id=99))
