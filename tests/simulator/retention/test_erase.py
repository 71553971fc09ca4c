"""`sendtrace erase` leaves no address of a customer, and still suppresses them."""

import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from simulator.cli.main import app
from simulator.schema import metadata
from simulator.setup.run import Run
from tests.support.inline_runs import (
    assert_passed,
    enqueue_campaign,
    judge_recorded_run,
    settle_batch,
)
from tests.support.recorded_runs import end_driver, start_recorded_run
from tracker.campaign_states import CampaignState
from tracker.queries.report import make_reports
from tracker.settings import Settings
from tracker.status import Reason
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import messages, transition_details
from tracker.store.schema.tables import TRACKER_TABLES

SCENARIO = """
name = "erase"
seed = 7

[organization]
name = "Acme"
keep = true

[[campaigns]]
name = "mail"
channel = "email"
audience = "people.csv"
"""

PEOPLE = """\
customer_id,email,mobile,unsubscribed,field:nick
ana,Ana@Shop.example,+44 7700 900001,{},ana@shop.example
bo,bo@shop.example,+447700900002,,
"""

TEXTS = ("ana@shop.example", "447700900001", "+44 7700 900001")


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands use the database of the test."""
    monkeypatch.setenv("SENDTRACE_HOME", str(settings.home))
    if settings.database_url:
        monkeypatch.setenv("SENDTRACE_DATABASE_URL", settings.database_url)


def invoke(*arguments: str, expected: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == expected, result.output
    return result.output


def make_run(database: Database, settings: Settings, opted_out: str) -> Run:
    """Return a run on record whose messages have settled."""
    people = PEOPLE.format(opted_out)
    (settings.home.parent / "people.csv").write_text(people)
    run = start_recorded_run(database, SCENARIO, settings.home)
    for run_campaign in run.campaigns:
        for batch in enqueue_campaign(database, run_campaign):
            settle_batch(database, batch)
    return run


def read_reason(database: Database, run: Run, customer: str) -> int:
    [run_campaign] = run.campaigns
    query = (
        sa.select(messages.c.reason)
        .join(customers, customers.c.number == messages.c.number)
        .where(
            messages.c.campaign_id == run_campaign.campaign.id,
            customers.c.audience_id == run_campaign.campaign.audience_id,
            customers.c.customer_id == customer,
        )
    )
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())


def find_texts(database: Database, home: Path) -> set[str]:
    """Return which of the customer's addresses tables and files have, in any case."""
    with database.read() as connection:
        tables = (*TRACKER_TABLES, *metadata.sorted_tables)
        dump = repr([connection.execute(sa.select(table)).all() for table in tables])
    files = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    everything = (dump.encode() + files).lower()
    return {text for text in TEXTS if text.encode() in everything}


def test_no_address_is_left_and_it_stays_suppressed(database: Database, settings: Settings) -> None:
    first = make_run(database, settings, "email")
    assert_passed(judge_recorded_run(database, first))
    second = make_run(database, settings, "")
    [run_campaign] = second.campaigns
    (second.folder / "rejects.csv").write_text("2,broken,Ana@Shop.example;+44 7700 900001\n")
    log = settings.logs / "worker-1.log"
    log.write_text("refused <ana@shop.example>\nnext\n")
    with database.write() as connection:
        connection.execute(
            sa.insert(transition_details).values(
                campaign_id=run_campaign.campaign.id,
                number=1,
                attempt=9,
                status=4,
                detail="550 <Ana@Shop.example> unknown",
            )
        )
    assert "may have a living driver" in invoke("erase", "--customer", "ana", expected=2)
    end_driver(database, second, CampaignState.INTERRUPTED)
    with database.read() as connection:
        before = [report.as_json() for report in make_reports(connection, [run_campaign.campaign])]
    assert find_texts(database, settings.home) == {*TEXTS}

    assert "no audience has a customer 'eve'" in invoke("erase", "--customer", "eve", expected=2)
    assert "erased in 2 audiences" in invoke("erase", "--customer", "ana")
    database.close()
    assert find_texts(database, settings.home) == set()
    assert log.read_text() == "refused <xxxxxxxxxxxxxxxx>\nnext\n"
    with database.read() as connection:
        after = [report.as_json() for report in make_reports(connection, [run_campaign.campaign])]
    for report in (*before, *after):
        report.pop("as_of")
    assert after == before
    invoke("verify", expected=1)  # not known: the second run was interrupted
    assert invoke("erase", "--customer", "ana").startswith("erased in 2 audiences, 0 other rows")
    key = settings.home / "erasure.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600

    third = make_run(database, settings, "")
    assert read_reason(database, third, "ana") == Reason.UNSUBSCRIBED
    assert read_reason(database, third, "bo") == 0
    assert_passed(judge_recorded_run(database, third))
    assert "email" in invoke("suppressions", "list", "ana@shop.example")
    key.unlink()
    with pytest.raises(Exception, match="can't be read"):
        make_run(database, settings, "")
