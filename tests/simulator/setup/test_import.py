"""Audience files in a run: a bad file stops it, the problems of a good one are figures."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from simulator.audience.rejects import TooManyRejects
from simulator.figures import IMPORT_FIGURES, REJECTS_SHARE
from simulator.oracle.coverage import count_predicted_reasons
from simulator.run.abort import AbortCheck
from simulator.scenario.file import Scenario
from simulator.setup.absent_columns import describe_absent_columns
from simulator.setup.dry_run import DryRun
from simulator.setup.record import record_run
from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tracker.campaign_states import CampaignState
from tracker.errors import UsageError
from tracker.queries.report import make_reports
from tracker.status import Reason
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.messages import messages

CONTENT = """\
customer_id;E-Mail;Phone
1;a@example.com;07700 900001
2;b@example.com;020 7946 0958
3;c@example.com;7.70E9
3;d@example.com;07700 900003
customer_id;E-Mail;Phone
4;e@example.com;7700900004.0
5
"""

COLUMNS = {"E-Mail": "email", "Phone": "mobile"}


def scenario_with(folder: Path, *, content: str = CONTENT, **keys: Any) -> Scenario:
    """Make a scenario with an SMS campaign to the customers of a file."""
    (folder / "crm.csv").write_text(content)
    audience = {"file": "crm.csv", "separator": ";", "columns": COLUMNS, "region": "GB"}
    tables = {name: keys.pop(name) for name in ("thresholds",) if name in keys}
    return build_scenario(
        build_campaign("one", channel="sms", audience={**audience, **keys}),
        build_campaign("two", audience={"same_as": "one"}),
        path=folder / "test.toml",
        **tables,
    )


def test_a_mapped_file_is_sent_and_predicted(database: Database, tmp_path: Path) -> None:
    result = run_scenario(database, scenario_with(tmp_path), tmp_path)
    assert_passed(result)
    reports = {report.campaign.name: report for report in result.reports}
    assert [report.audience for report in reports.values()] == [5, 5]
    blocked = {name: +report.as_json()["not_sent"]["total"] for name, report in reports.items()}
    assert blocked == {"one": 3, "two": 1}
    expected = {
        "rejects": 1,
        "rejects.duplicate_id": 1,
        "repairs": 3,
        "repairs.repeated_header": 1,
        "repairs.missing_cells": 1,
        "repairs.mobile": 1,
        "unusable_mobiles": 2,
        "unusable_mobiles.not_mobile": 1,
        "unusable_mobiles.spreadsheet": 1,
    }
    assert {name: result.figures[name] for name in IMPORT_FIGURES} == {
        **dict.fromkeys(IMPORT_FIGURES, 0),
        **expected,
    }
    assert result.figures[REJECTS_SHARE] == pytest.approx(1 / 6)
    [rejects] = result.as_json()["rejects"]
    assert (rejects["audience"], rejects["rows"]) == ("crm.csv", 1)


def test_a_threshold_can_fail_on_a_cause(database: Database, tmp_path: Path) -> None:
    thresholds = {"rejects.duplicate_id": "== 0", "repairs.mobile": "<= 1"}
    result = run_scenario(database, scenario_with(tmp_path, thresholds=thresholds), tmp_path)
    assert [threshold.is_met for threshold in result.thresholds] == [False, True]
    assert not result.has_passed


@pytest.mark.parametrize(("limit", "is_missed"), [("== 0", True), ("<= 1", False)])
def test_a_threshold_on_rejects_can_abort_at_once(
    database: Database, tmp_path: Path, limit: str, is_missed: bool
) -> None:
    thresholds = {"rejects": {"is": limit, "abort": True}}
    run = record_run(
        database, scenario_with(tmp_path, thresholds=thresholds), tmp_path, lambda _: None
    )
    with database.read() as connection:
        reports = make_reports(connection, run.recorded_campaigns)
        missed = AbortCheck(run).find_unreachable_threshold(connection, reports)
    assert (missed is not None) is is_missed


def test_without_files_no_row_is_rejected(database: Database, tmp_path: Path) -> None:
    result = run_scenario(database, build_scenario(build_campaign()), tmp_path)
    assert {result.figures[name] for name in IMPORT_FIGURES} == {0}
    assert result.figures[REJECTS_SHARE] is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_rejects": "1 %"}, "1 of 6 rows (16.7 %) could not be read; expected at most 1 %"),
        ({"max_rejects": 0}, "expected at most 0 % (max_rejects)"),
        ({"content": "customer_id\n\n \n"}, "no rows; expected customers below the header"),
        (
            {"content": "customer_id;ndnc\n1;maybe\n2;perhaps\n", "columns": {}},
            "no row could be read as a customer, of 2 rows",
        ),
        (
            {"content": "customer_id\n" + "1\n" * 3 + "2\n3\n4\n"},
            "2 of 6 rows (33.3 %) could not be read; expected at most 10 %",
        ),
    ],
)
def test_a_bad_file_stops_the_run_before_anything_is_sent(
    database: Database, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    if "content" in keys:
        keys = {"columns": {}, **keys}
    scenario = scenario_with(tmp_path, **keys)
    with pytest.raises(TooManyRejects) as raised:
        record_run(database, scenario, tmp_path, lambda _: None)
    assert message in str(raised.value)
    assert raised.value.exit_code == 2
    if "no rows" not in message:
        [rejects] = tmp_path.glob("runs/*/crm.*.rejects.csv")
        assert f"see {rejects}" in str(raised.value)
    with database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(messages)) == 0
        assert connection.scalar(sa.select(runs.c.given_up_as)) == CampaignState.ABORTED


def test_rejects_within_the_limit_stop_nothing(database: Database, tmp_path: Path) -> None:
    run = record_run(
        database, scenario_with(tmp_path, max_rejects="20 %"), tmp_path, lambda _: None
    )
    assert run.imports[0].rejects == 1


def test_a_dry_run_and_the_coverage_refuse_a_bad_file(tmp_path: Path) -> None:
    """Neither leaves a rejects file, so the error names none."""
    scenario = scenario_with(tmp_path, max_rejects="1 %")
    home = tmp_path / "home"
    home.mkdir()
    for judge in (
        lambda: list(DryRun(scenario, home, print).judge_customers()),
        lambda: count_predicted_reasons(scenario),
    ):
        with pytest.raises(UsageError, match="duplicate_id: 1 row, the first in line 5") as raised:
            judge()
        assert "see " not in str(raised.value)


def test_the_coverage_predicts_a_mapped_file(tmp_path: Path) -> None:
    assert +count_predicted_reasons(scenario_with(tmp_path)) == {
        Reason.MOBILE_MISSING_OR_INVALID: 3,
        Reason.EMAIL_MISSING: 1,
    }


def test_customers_are_recorded_with_their_country(database: Database, tmp_path: Path) -> None:
    content = "customer_id;Country;Phone\n1;United Kingdom;07700 900001\n"
    columns = {"Country": "region", "Phone": "mobile"}
    scenario = scenario_with(tmp_path, content=content, columns=columns)
    record_run(database, scenario, tmp_path, lambda _: None)
    with database.read() as connection:
        row = connection.execute(sa.text("SELECT mobile_e164, custom FROM customers")).one()
    assert (row[0], json.loads(row[1])) == ("+447700900001", {"field:region": "GB"})


def test_a_required_field_without_a_column_is_named_with_similar_columns(tmp_path: Path) -> None:
    file = tmp_path / "crm.csv"
    file.write_text("customer_id,email,field:city\n1,a@example.com,Pune\n")
    message = "{{ field.ciity }} {{ field.city }} {{ field.region }} {{ tag.vip | default('') }}"
    campaign = build_campaign(audience=str(file), message={"text": message})
    [warning] = describe_absent_columns(build_scenario(campaign).campaigns)
    assert warning == (
        "crm.csv: no column gives field:ciity, so no message of spring is sent;"
        " did you mean field:city?"
    )
