"""Whole scenarios through the real steps: each message ends as the oracle predicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from simulator.pages.result_text import format_result
from simulator.results.result import RunResult
from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tracker.status import Channel, Reason, Status
from tracker.store.database import Database

pytestmark = pytest.mark.usefixtures("no_retry_delay")


def count_blocked(result: RunResult, campaign: str) -> dict[Reason, int]:
    """Return the number of messages of a campaign that were blocked, by reason."""
    [report] = [report for report in result.reports if report.campaign.name == campaign]
    return {
        reason: report.count_messages(Status.NOT_SENT, reason)
        for reason in Reason
        if report.count_messages(Status.NOT_SENT, reason)
    }


ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
"""Marks tests of what the checks and the oracle read alike from any database."""

BOUNCING = {"hard_bounce": 0.2, "soft_bounce": 0.4, "not_delivered": 0.1, "attempts": 2}


@ON_SQLITE
@pytest.mark.parametrize(
    ("campaign", "world", "reason"),
    [
        pytest.param(
            {},
            {"organization": {"enabled": False, "credit": 0}},
            Reason.ORGANIZATION_DISABLED,
            id="organization disabled",
        ),
        pytest.param(
            {"channel": "sms"},
            {"organization": {"sms": {"enabled": False}}},
            Reason.CONFIGURATION,
            id="channel off",
        ),
        pytest.param({"sender": ""}, {}, Reason.CONFIGURATION, id="no sender"),
        pytest.param(
            {},
            {"organization": {"email": {"sender": ""}}},
            Reason.CONFIGURATION,
            id="organization has no sender",
        ),
        pytest.param(
            {"coupon_series": "old", "requires": ("coupon",)},
            {"coupon_series": {"old": {"active": False}}},
            Reason.COUPON_CONFIGURATION,
            id="series is over",
        ),
        pytest.param(
            {"gateway": "retired"},
            {"gateways": {"retired": {"enabled": False}}},
            Reason.GATEWAY_CONFIGURATION,
            id="gateway not in use",
        ),
        pytest.param({"kind": "fax"}, {}, Reason.HANDLER_NOT_FOUND, id="no handler"),
        pytest.param(
            {}, {"organization": {"credit": 0}}, Reason.OUT_OF_CREDIT, id="no credit at all"
        ),
    ],
)
def test_a_setting_blocks_a_whole_campaign(
    database: Database,
    tmp_path: Path,
    campaign: dict[str, Any],
    world: dict[str, Any],
    reason: Reason,
) -> None:
    result = run_scenario(database, build_scenario(build_campaign(**campaign), **world), tmp_path)
    assert_passed(result)
    assert count_blocked(result, "spring") == {reason: 5}


@ON_SQLITE
@pytest.mark.parametrize(
    ("campaign", "world"),
    [
        pytest.param(
            {"sender": "Acme"},
            {"organization": {"email": {"sender": ""}}},
            id="a sender of its own",
        ),
        pytest.param({}, {"organization": {"sms": {"enabled": False}}}, id="other channel off"),
        pytest.param(
            {"coupon_series": "old"},
            {"coupon_series": {"old": {"active": False}}},
            id="no coupon needed",
        ),
        pytest.param({}, {"gateways": {"sms": {"enabled": False}}}, id="other gateway not in use"),
        pytest.param({"audience": 5}, {"organization": {"credit": 5}}, id="just enough credit"),
        pytest.param(
            {}, {"organization": {"message_limit": {"count": 1, "days": 1}}}, id="first message"
        ),
    ],
)
def test_a_setting_blocks_no_message(
    database: Database, tmp_path: Path, campaign: dict[str, Any], world: dict[str, Any]
) -> None:
    result = run_scenario(database, build_scenario(build_campaign(**campaign), **world), tmp_path)
    assert_passed(result)
    assert count_blocked(result, "spring") == {}


@pytest.mark.parametrize(
    ("settings", "seed"), [("sqlite", 1), ("postgresql", 2)], indirect=["settings"]
)
def test_bounces_suppress_customers_in_later_campaigns(
    database: Database, tmp_path: Path, seed: int
) -> None:
    """An SMS campaign in between has its own bounces."""
    scenario = build_scenario(
        build_campaign("one", audience=120),
        build_campaign("aside", channel=Channel.SMS, audience={"same_as": "one"}, after="one"),
        build_campaign("two", audience={"same_as": "one"}, after="aside"),
        build_campaign("three", audience={"same_as": "two"}, after="two"),
        build_campaign("four", audience={"same_as": "two"}, after="three"),
        seed=seed,
        organization={"hard_bounce_limit": 2, "soft_bounce_limit": 2},
        gateways={"email": BOUNCING, "sms": BOUNCING},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    assert [check.uncertain for check in result.prediction_checks] == [0] * 5
    counts = [sum(count_blocked(result, name).values()) for name in ("one", "aside", "two")]
    assert counts == [0, 0, 0], "one bounce is below the limit"
    assert count_blocked(result, "three").keys() == count_blocked(result, "four").keys()
    assert set(count_blocked(result, "four")) == {Reason.BOUNCED_REPEATEDLY}
    assert sum(count_blocked(result, "three").values()) < sum(
        count_blocked(result, "four").values()
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_message_limit_blocks_later_campaigns(
    database: Database, tmp_path: Path, count: int
) -> None:
    names = ("one", "two", "three")
    scenario = build_scenario(
        build_campaign("one", audience=40, defects={"unsubscribed": 0.2}),
        build_campaign("two", channel="sms", audience={"same_as": "one"}, after="one"),
        build_campaign("three", audience={"same_as": "one"}, after="two"),
        organization={"message_limit": {"count": count, "days": 1}},
        gateways={"email": BOUNCING | {"soft_bounce": 0.0}},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    limited = [Reason.MESSAGE_LIMIT in count_blocked(result, name) for name in names]
    assert limited == [False, count < 2, count < 3]
    assert [check.uncertain for check in result.prediction_checks] == [0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "concurrent"),
    [
        pytest.param("sqlite", (), id="one after the other"),
        pytest.param("postgresql", ("one", "two", "three"), id="together"),
        pytest.param("sqlite", ("three", "two"), id="the last together and first"),
        pytest.param("postgresql", ("two",), id="the second first"),
    ],
    indirect=["settings"],
)
@pytest.mark.parametrize(("count", "credit"), [(1, None), (2, 25), (3, None)])
def test_concurrent_campaigns_share_limit_and_credit(
    database: Database,
    tmp_path: Path,
    concurrent: Sequence[str],
    count: int,
    credit: int | None,
) -> None:
    size = 30
    scenario = build_scenario(
        build_campaign(
            "one", audience=size, requires=("coupon",), defects={"coupon_redeemed": 0.3}
        ),
        build_campaign("two", audience={"same_as": "one"}),
        build_campaign("three", channel="sms", audience={"same_as": "one"}),
        organization={"message_limit": {"count": count, "days": 1}, "credit": credit},
        services={"handler": {"error_rate": 0.5}},
    )
    result = run_scenario(database, scenario, tmp_path, concurrent=concurrent)
    assert_passed(result)
    [withheld] = result.withheld.values()
    assert withheld.predicted is not None
    assert (withheld.actual > 0) is (count < 3)


@pytest.mark.parametrize(
    ("settings", "concurrent"),
    [("sqlite", ()), ("postgresql", ("one", "two")), ("sqlite", ("two",))],
    indirect=["settings"],
)
@pytest.mark.parametrize("limited", [False, True])
def test_a_campaign_after_concurrent_ones_is_predicted_where_possible(
    database: Database, tmp_path: Path, concurrent: Sequence[str], limited: bool
) -> None:
    limit = {"message_limit": {"count": 2, "days": 1}} if limited else {}
    scenario = build_scenario(
        build_campaign("one", audience=60, defects={"unsubscribed": 0.2}),
        build_campaign("two", audience={"same_as": "one"}),
        build_campaign("three", audience={"same_as": "one"}, after="two"),
        organization={"hard_bounce_limit": 1, **limit},
        gateways={"email": {"hard_bounce": 0.3}},
    )
    result = run_scenario(database, scenario, tmp_path, concurrent=concurrent)
    assert_passed(result)


@pytest.mark.parametrize("world", [{"message_limit": {"count": 2, "days": 1}}, {"credit": 50}])
def test_bounces_of_concurrent_campaigns_change_the_withheld_messages(
    database: Database, tmp_path: Path, world: dict[str, Any]
) -> None:
    scenario = build_scenario(
        build_campaign("one", audience=30),
        build_campaign("two", audience={"same_as": "one"}),
        build_campaign("three", audience={"same_as": "one"}),
        organization=world,
        gateways={"email": {"hard_bounce": 0.3}},
    )
    assert_passed(run_scenario(database, scenario, tmp_path))


@pytest.mark.parametrize("world", [{"hard_bounce_limit": 2}, {"soft_bounce_limit": 2}])
def test_bounces_of_concurrent_campaigns_add_up(
    database: Database, tmp_path: Path, world: dict[str, int]
) -> None:
    scenario = build_scenario(
        build_campaign("one", audience=60),
        build_campaign("two", audience={"same_as": "one"}),
        build_campaign("three", audience={"same_as": "one"}),
        organization={"hard_bounce_limit": 9, "soft_bounce_limit": 9} | world,
        gateways={"email": {"hard_bounce": 0.3, "soft_bounce": 0.4, "attempts": 1}},
    )
    assert_passed(run_scenario(database, scenario, tmp_path))


ALL_SERVICES = ("subscription", "coupon", "referral", "handler")


@pytest.mark.parametrize(
    ("settings", "failing"),
    [*(("sqlite", (name,)) for name in ALL_SERVICES), ("postgresql", ALL_SERVICES)],
    indirect=["settings"],
)
def test_services_fail_for_the_predicted_customers(
    database: Database, tmp_path: Path, failing: Sequence[str]
) -> None:
    scenario = build_scenario(
        build_campaign("one", audience=80, requires=("coupon", "referral")),
        build_campaign("two", audience={"same_as": "one"}, after="one"),
        services={name: {"error_rate": 0.6} for name in failing},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    reasons = {
        "subscription": Reason.SUBSCRIPTION_SERVICE,
        "coupon": Reason.COUPON_ISSUE,
        "referral": Reason.REFERRAL_SERVICE,
        "handler": Reason.TIMEOUT,
    }
    assert set(count_blocked(result, "one")) == {reasons[name] for name in failing}
    others = {"coupon", "referral"}
    assert set(count_blocked(result, "two")) == {reasons[name] for name in {*failing} - others}


@ON_SQLITE
@pytest.mark.parametrize(
    ("service", "defect", "seen", "instead"),
    [
        ("coupon", "coupon_id_missing", Reason.COUPON_ID_MISSING, Reason.COUPON_ISSUE),
        ("coupon", "coupon_date_format", Reason.COUPON_DATE_FORMAT, Reason.COUPON_ISSUE),
        ("coupon", "coupon_expired", Reason.COUPON_EXPIRED, Reason.COUPON_ISSUE),
        ("coupon", "coupon_redeemed", Reason.COUPON_REDEEMED, Reason.COUPON_ISSUE),
        ("subscription", "unsubscribed", Reason.UNSUBSCRIBED, Reason.SUBSCRIPTION_SERVICE),
        ("subscription", "ndnc", Reason.NDNC, Reason.SUBSCRIPTION_SERVICE),
        ("coupon", "email_missing", Reason.EMAIL_MISSING, None),
        ("subscription", "bounced_repeatedly", Reason.BOUNCED_REPEATEDLY, None),
    ],
)
def test_a_failing_service_hides_the_defects_that_it_reports(
    database: Database,
    tmp_path: Path,
    service: str,
    defect: str,
    seen: Reason,
    instead: Reason | None,
) -> None:
    campaign = build_campaign(
        channel="sms" if seen is Reason.NDNC else "email",
        audience=40,
        requires=("coupon",),
        defects={defect: 1.0},
    )
    scenario = build_scenario(campaign, services={service: {"error_rate": 0.7}})
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    assert set(count_blocked(result, "spring")) == {seen, instead} - {None}


CUSTOMERS = """\
customer_id,email,mobile,unsubscribed,ndnc,hard_bounces,soft_bounces,coupon_id,coupon_expires,loyalty_member
1,a1@example.com,+447700900001,,,0,0,C1,2099-01-01,yes
2,a2@example.com,+447700900002,both,,0,0,C2,2099-01-01,yes
3,a3@example.com,+447700900003,sms,,0,2,C3,2099-01-01,yes
4,a4@example.com,+447700900004,,yes,0,0,C4,,yes
5,,,,,0,0,C5,2099-01-01,yes
6,malformed,12,,,0,0,C6,2099-01-01,yes
7,a7@example.com,+447700900007,,,2,0,C7,2099-01-01,yes
8,a8@example.com,+447700900008,,,0,3,C8,2099-01-01,yes
9,a9@example.com,+447700900009,,,0,0,,2099-01-01,yes
10,a10@example.com,+447700900010,,,0,0,C10,soon,yes
11,a11@example.com,+447700900011,,,0,0,C11,2020-01-01,yes
12,a12@example.com,+447700900012,,,0,0,C12,2099-01-01,no
13,a13@example.com,,,,,,,,,one too many
"""


CUSTOMERS_WITH_POISON = """\
customer_id,email,mobile
0,anna@example.com,+447700900000
1,poison-raise@simulator.example,+447700900001
2,bert@example.com,+447700900002
"""


def test_refunded_credit_comes_too_late_for_the_same_batch(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").write_text(CUSTOMERS_WITH_POISON)
    scenario = build_scenario(
        build_campaign("one", audience="people.csv"),
        path=tmp_path / "test.toml",
        organization={"credit": 2},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    assert count_blocked(result, "one") == {Reason.STEP_FAILED: 1, Reason.OUT_OF_CREDIT: 1}


@pytest.mark.parametrize(
    "organization",
    [
        {"credit": 8},
        {"credit": 7},
        {"credit": 6},
        {"credit": 1},
        {"message_limit": {"count": 1, "days": 1}},
    ],
)
def test_a_message_that_breaks_the_gateway_ends_as_predicted(
    database: Database, tmp_path: Path, organization: dict[str, Any]
) -> None:
    """It uses credit, and the message limit, only until it has ended."""
    (tmp_path / "people.csv").write_text(CUSTOMERS_WITH_POISON)
    scenario = build_scenario(
        build_campaign("one", audience="people.csv"),
        build_campaign("two", audience={"same_as": "one"}, channel="sms", after="one"),
        build_campaign("three", audience="people.csv", channel="sms"),
        path=tmp_path / "test.toml",
        organization=organization,
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    if organization != {"credit": 1}:
        assert count_blocked(result, "one")[Reason.STEP_FAILED] == 1
        assert "1 message broke a step (step_failed), for example with RuntimeError: the recip" in (
            format_result(result)
        )
    if "message_limit" in organization:
        assert count_blocked(result, "two") == {Reason.MESSAGE_LIMIT: 2}


@pytest.mark.parametrize("error_rate", [0.0, 0.6])
def test_imported_customers_end_as_predicted(
    database: Database, tmp_path: Path, error_rate: float
) -> None:
    (tmp_path / "people.csv").write_text(CUSTOMERS)
    needs = ("coupon", "membership")
    scenario = build_scenario(
        build_campaign("one", audience="people.csv", requires=needs),
        build_campaign("two", audience="people.csv", after="one"),
        build_campaign("three", audience={"same_as": "two"}, channel="sms", after="two"),
        build_campaign("four", audience={"same_as": "one"}, after="one"),
        path=tmp_path / "test.toml",
        gateways={"email": {"soft_bounce": 0.5, "attempts": 1}},
        services={"coupon": {"error_rate": error_rate}, "subscription": {"error_rate": error_rate}},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    assert [report.audience for report in result.reports] == [12] * 4
    assert [audience.rejects for audience in result.run.imports] == [1]
    if not error_rate:
        assert count_blocked(result, "one") == {
            Reason.UNSUBSCRIBED: 1,
            Reason.BOUNCED_REPEATEDLY: 2,
            Reason.EMAIL_MISSING: 1,
            Reason.COUPON_ID_MISSING: 1,
            Reason.COUPON_DATE_FORMAT: 1,
            Reason.COUPON_EXPIRED: 1,
            Reason.NOT_IN_LOYALTY_PROGRAM: 1,
        }
        assert count_blocked(result, "three") == {
            Reason.UNSUBSCRIBED: 2,
            Reason.NDNC: 1,
            Reason.BOUNCED_REPEATEDLY: 2,
            Reason.MOBILE_MISSING_OR_INVALID: 2,
        }
