"""Credit by channel and by segments: what is charged, withheld and predicted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from simulator.oracle.costs import MessageCosts
from simulator.oracle.oracle import build_oracles
from simulator.results.result import RunResult
from simulator.setup.customers import make_generated_record
from simulator.setup.record import record_run
from simulator.world.defects import NO_DEFECT
from tests.support.factory import step_context
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    enqueue_campaign,
    run_scenario,
)
from tracker.record import allowance
from tracker.status import Channel, Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import customers, organizations
from tracker.store.schema.messages import message_costs
from workers.services.base import ServiceUnavailable
from workers.steps.charging import find_costs

pytestmark = pytest.mark.usefixtures("no_retry_delay")

TWO_SEGMENTS = {"text": 161 * "x"}
VARYING = {"text": 155 * "x" + "{{ customer_id }}"}
"""One segment for customers c0 to c9999, of whom the longest has five characters."""

BY_STORE = {"text": 153 * "x" + "{{ last_store }}"}
"""Two segments for the stores 10 to 40, which have eight characters, and one for others."""


def read_credit(database: Database) -> dict[str, int]:
    """Return the columns of the only organization's credit."""
    columns = [column for column in organizations.c if column.name.startswith("credit")]
    with database.read() as connection:
        row = connection.execute(sa.select(*columns)).one()
    return {name: value for name, value in row._mapping.items() if value}


def count_sent(result: RunResult) -> dict[str, int]:
    """Return the number of messages by campaign that credit didn't withhold."""
    return {
        report.campaign.name: report.recorded
        - report.count_messages(Status.NOT_SENT, Reason.OUT_OF_CREDIT)
        for report in result.reports
    }


def run_campaigns(database: Database, folder: Path, credit: object, **sms: Any) -> RunResult:
    """Run an email and an SMS campaign to 40 customers each, and check the run."""
    scenario = build_scenario(
        build_campaign("mail", audience=40),
        build_campaign("text", channel="sms", audience=40, **sms),
        organization={"credit": credit},
    )
    result = run_scenario(database, scenario, folder)
    assert_passed(result)
    return result


@pytest.mark.parametrize(
    ("credit", "sent", "columns"),
    [
        pytest.param(100, (40, 40), {"credit": 20, "credit_used": 80}, id="shared"),
        pytest.param(50, (40, 10), {"credit_used": 50}, id="shared and scarce"),
        pytest.param(
            {"email": 7, "sms": 30},
            (7, 30),
            {"credit_used_email": 7, "credit_used_sms": 30},
            id="both scarce",
        ),
        pytest.param(
            {"email": 50, "sms": 0},
            (40, 0),
            {"credit_email": 10, "credit_used_email": 40},
            id="no sms",
        ),
        pytest.param({"sms": 3}, (40, 3), {"credit_used_sms": 3}, id="email is unlimited"),
    ],
)
def test_credit_is_shared_or_by_channel(
    database: Database,
    tmp_path: Path,
    credit: object,
    sent: tuple[int, int],
    columns: dict[str, int],
) -> None:
    result = run_campaigns(database, tmp_path, credit)
    assert count_sent(result) == dict(zip(("mail", "text"), sent, strict=True))
    assert read_credit(database) == columns
    [withheld] = result.withheld.values()
    assert (withheld.predicted, withheld.actual) == (80 - sum(sent), 80 - sum(sent))


@pytest.mark.parametrize(
    ("credit", "message", "sent", "predicted", "used"),
    [
        pytest.param(100, TWO_SEGMENTS, 40, 0, 80, id="enough"),
        pytest.param(31, TWO_SEGMENTS, 15, 25, 30, id="scarce"),
        pytest.param(71, BY_STORE, 40, 0, 71, id="just enough for messages of two lengths"),
        pytest.param(60, BY_STORE, None, None, 59, id="scarce for messages of two lengths"),
        pytest.param(39, VARYING, 39, 1, 39, id="one segment each"),
        pytest.param(39, {"text": "x"}, 39, 1, 39, id="a short text"),
    ],
)
def test_an_sms_costs_as_much_credit_as_it_has_segments(
    database: Database,
    tmp_path: Path,
    credit: int,
    message: dict[str, str],
    sent: int | None,
    predicted: int | None,
    used: int,
) -> None:
    result = run_campaigns(database, tmp_path, {"sms": credit}, message=message)
    [withheld] = result.withheld.values()
    assert withheld.predicted == predicted
    assert sent is None or count_sent(result)["text"] == sent
    assert read_credit(database).get("credit_used_sms") == used


def test_without_a_text_an_sms_costs_the_segments_of_the_title(
    database: Database, tmp_path: Path
) -> None:
    run_campaigns(database, tmp_path, {"sms": 100}, title=71 * "न")
    assert read_credit(database) == {"credit_sms": 20, "credit_used_sms": 80}


def test_unlimited_credit_counts_no_segments(database: Database, tmp_path: Path) -> None:
    run_campaigns(database, tmp_path, {"email": 40}, message=TWO_SEGMENTS)
    with database.read() as connection:
        assert connection.execute(sa.select(message_costs)).all() == []


def test_the_segments_of_imported_customers_are_predicted(
    database: Database, tmp_path: Path
) -> None:
    names = ["Ana", "दिल्ली", "x" * 160, "", "€" * 80, "y" * 161]
    rows = [f"c{n},+44770090000{n},{name}\n" for n, name in enumerate(names)]
    (tmp_path / "people.csv").write_text("customer_id,mobile,field:name\n" + "".join(rows))
    scenario = build_scenario(
        build_campaign(
            "text", channel="sms", audience="people.csv", message={"text": "{{ field.name }}"}
        ),
        organization={"credit": {"sms": 6}},
        path=tmp_path / "test.toml",
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    [report] = result.reports
    assert report.count_messages(Status.NOT_SENT, Reason.DATA_MISSING) == 1
    assert read_credit(database) == {"credit_used_sms": 6}
    [withheld] = result.withheld.values()
    assert (withheld.predicted, withheld.actual) == (0, 0)


@pytest.mark.parametrize("defect", [NO_DEFECT, Reason.DATA_MISSING, Reason.COUPON_ID_MISSING])
def test_the_oracle_knows_the_generated_customers(
    database: Database, tmp_path: Path, defect: int
) -> None:
    requires = ("coupon", "field:first name", "tag:vip")
    defects = {} if defect == NO_DEFECT else {Reason(defect).slug: 1.0}
    scenario = build_scenario(build_campaign(audience=1_050, requires=requires, defects=defects))
    record_run(database, scenario, tmp_path, lambda _: None)
    expected = [make_generated_record(number, defect, requires) for number in range(1_050)]
    columns = [customers.c[name] for name in expected[0]]
    with database.read() as connection:
        rows = connection.execute(sa.select(*columns).order_by(customers.c.number)).all()
    assert [dict(row._mapping) for row in rows] == expected


def test_a_refund_is_what_was_charged(database: Database, tmp_path: Path) -> None:
    result = run_campaigns(database, tmp_path, {"sms": 100}, message=BY_STORE)
    [_, report] = result.reports
    assert report.campaign.channel is Channel.SMS
    before = read_credit(database)
    with database.write() as connection:
        allowance.refund_credit(database, connection, report.campaign, [0, 9, 39])
    after = read_credit(database)
    assert after["credit_used_sms"] == before["credit_used_sms"] - 5
    assert after["credit_sms"] == before["credit_sms"] + 5


def test_a_message_that_may_fail_at_a_real_gateway_is_predicted_as_such(
    database: Database, tmp_path: Path
) -> None:
    rows = [f"c{n},c{n}@shop.internal,{value}\n" for n, value in enumerate(("2", "0", "x", "5"))]
    (tmp_path / "people.csv").write_text("customer_id,email,field:parts\n" + "".join(rows))
    scenario = build_scenario(
        build_campaign(
            audience="people.csv", message={"subject": "{{ 10 / (field.parts | int) }}"}
        ),
        gateways={"email": {"kind": "smtp"}},
        organization={"credit": {"email": 100}},
        path=tmp_path / "test.toml",
    )
    run = record_run(database, scenario, tmp_path, lambda _: None)
    [oracle] = build_oracles(run.campaigns)
    [(_, outcomes)] = oracle.predict()
    may_fail = (outcomes.possible_reasons >> Reason.STEP_FAILED) & 1 == 1
    assert may_fail.tolist() == [False, True, True, False]
    assert outcomes.sent.all()
    assert oracle.sum_costs() == MessageCosts(1, 1, 4)


def test_a_service_that_stays_unavailable_makes_each_message_one_segment(
    database: Database, tmp_path: Path
) -> None:
    scenario = build_scenario(
        build_campaign(
            channel="sms", message={"text": 200 * "x" + "{{ referral | default('none') }}"}
        ),
        organization={"credit": 9},
        services={"referral": {"outage": {"from": "0s", "to": "1h"}}},
    )
    [campaign] = record_run(database, scenario, tmp_path, lambda _: None).campaigns
    [batch] = enqueue_campaign(database, campaign)
    context = step_context(database, batch)
    with pytest.raises(ServiceUnavailable):
        find_costs(context, [0, 1])
    assert find_costs(replace(context, is_last_try=True), [0, 1]) == {}
