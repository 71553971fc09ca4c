"""Rules that load data of their own, and rules that defer messages."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tracker.errors import UsageError
from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from tracker.text import describe_error
from workers.candidates import Candidate, Customer
from workers.checks.base import Check, Defer, check
from workers.checks.judging import FAILED_CHECK_REASON, judge_candidates
from workers.checks.sources import SourceFailed
from workers.rules.pytest_plugin import Judge
from workers.rules.valid_candidate import make_valid_candidate
from workers.services.base import MAX_SERVICE_CALLS, ServiceUnavailable

pytestmark = pytest.mark.usefixtures("no_retry_delay")

NOW = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)


def make_candidates(count: int = 4) -> list[Candidate]:
    candidate = make_valid_candidate()
    return [
        candidate._replace(customer=candidate.customer._replace(number=number))
        for number in range(count)
    ]


class Source:
    """A source that raises some errors, and then lists the customers with even numbers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = [*errors]
        self.calls: list[list[int]] = []

    def __call__(self, campaign: Campaign, customers: Sequence[Customer]) -> Mapping[int, str]:
        assert campaign.name == "spring"
        self.calls.append([customer.number for customer in customers])
        if self.errors:
            raise self.errors.pop(0)
        return {customer.number: "even" for customer in customers if customer.number % 2 == 0}


def make_check(source: Source) -> Check:
    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, source=source)
    def listed(candidate: Candidate, now: datetime, data: str | None) -> bool:
        """Block the customers whom the source lists."""
        assert data in ("even", None)
        return data is not None

    return listed


def test_a_source_is_called_once_for_a_batch() -> None:
    source = Source()
    verdicts = judge_candidates(make_candidates(), [make_check(source)], NOW)
    assert verdicts.blocked == {Reason.CUSTOM_RULE: [0, 2]}
    assert source.calls == [[0, 1, 2, 3]]


@pytest.mark.parametrize("error", [None, LookupError(), SystemExit(0)])
def test_a_check_is_announced_only_while_its_source_or_its_rule_runs(
    error: BaseException | None,
) -> None:
    events: list[str | None] = []

    def load(campaign: Campaign, customers: Sequence[Customer]) -> Mapping[int, str]:
        events.append("source")
        return {}

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, source=load)
    def listed(candidate: Candidate, now: datetime, data: str | None) -> bool:
        """Block all messages."""
        events.append("rule")
        if error is not None:
            raise error
        return True

    judge_candidates(make_candidates(2), [listed], NOW, announce=events.append)
    assert events == ["listed", "source", "rule", None, "listed", "rule", None]


def test_a_source_that_nobody_needs_is_not_called() -> None:
    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=0)
    def everybody(candidate: Candidate, now: datetime) -> bool:
        """Block everybody."""
        return True

    source = Source()
    judge_candidates(make_candidates(), [everybody, make_check(source)], NOW)
    assert source.calls == []


def test_a_source_is_called_again_after_errors() -> None:
    source = Source(*[OSError("down")] * (MAX_SERVICE_CALLS - 1))
    verdicts = judge_candidates(make_candidates(), [make_check(source)], NOW)
    assert verdicts.blocked == {Reason.CUSTOM_RULE: [0, 2]}
    assert len(source.calls) == MAX_SERVICE_CALLS


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (OSError("down"), MAX_SERVICE_CALLS),
        (SystemExit("down"), MAX_SERVICE_CALLS),
        (ServiceUnavailable("down"), 1),
    ],
)
def test_a_rule_fails_if_its_source_keeps_failing(error: BaseException, calls: int) -> None:
    source = Source(*[error] * MAX_SERVICE_CALLS)
    verdicts = judge_candidates(make_candidates(), [make_check(source)], NOW)
    assert verdicts.blocked == {FAILED_CHECK_REASON: [0, 1, 2, 3]}
    assert len(source.calls) == calls, "not again for each message"
    failed = verdicts.errors["listed"]
    assert (type(failed), str(failed)) == (SourceFailed, describe_error(error))
    assert failed.__cause__ is error
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames].count("_call") == calls, "it doesn't grow by messages"
    assert frames[-1].name == "__call__", "it ends in the source"


def test_the_step_is_repeated_while_a_source_is_unavailable() -> None:
    source = Source(*[ServiceUnavailable("down")] * MAX_SERVICE_CALLS)
    with pytest.raises(ServiceUnavailable, match="down"):
        judge_candidates(make_candidates(), [make_check(source)], NOW, is_last_try=False)
    assert len(source.calls) == 1, "as of a service: the step is repeated, not the call"


def test_a_source_that_returns_no_mapping_fails_its_rule() -> None:
    calls: list[int] = []

    def forgets_to_return(campaign: Campaign, customers: Sequence[Customer]) -> Any:
        calls.append(len(customers))

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, source=forgets_to_return)
    def listed(candidate: Candidate, now: datetime, data: str | None) -> bool:
        """Block the customers whom the source lists."""
        return data is not None

    verdicts = judge_candidates(make_candidates(), [listed], NOW)
    assert verdicts.blocked == {FAILED_CHECK_REASON: [0, 1, 2, 3]}
    text = "source returned None; expected a mapping by customer number"
    assert verdicts.failures[3].error == f"SourceFailed: TypeError: {text}"
    assert len(calls) == MAX_SERVICE_CALLS, "not again for each message"


def test_the_fixture_and_a_call_use_the_source(judge: Judge) -> None:
    even, odd, *_ = make_candidates()
    listed = make_check(Source())
    assert judge(even, only=[listed]).check == "listed"
    assert not judge(odd, only=[listed])
    assert (listed(even, NOW), listed(odd, NOW)) == (True, False)


def test_a_rule_with_a_source_takes_its_data() -> None:
    def without_data(candidate: Candidate, now: datetime) -> bool:
        """Take no data."""
        return False

    def load_nothing() -> Mapping[int, Any]:
        return {}

    with pytest.raises(UsageError, match=r"expected \(candidate, now, data\)"):
        check("custom_rule", step="suppress", order=1, source=Source())(without_data)
    with pytest.raises(UsageError, match=r"expected \(campaign, customers\)"):
        check("custom_rule", step="suppress", order=1, source=load_nothing)(without_data)  # type: ignore[arg-type]


def make_deferring(verdict: Callable[[Candidate], Any], name: str = "later") -> Check:
    def rule(candidate: Candidate, now: datetime) -> Any:
        """Decide as the test says."""
        return verdict(candidate)

    rule.__name__ = name
    return check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)(rule)


def test_the_latest_time_counts_and_a_block_wins() -> None:
    soon, late = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    checks = [
        make_deferring(lambda candidate: Defer(late if candidate.number else soon), "first"),
        make_deferring(lambda candidate: candidate.number == 1, "second"),
        make_deferring(lambda candidate: Defer(soon) if candidate.number == 2 else False, "third"),
    ]
    verdicts = judge_candidates(make_candidates(3), checks, NOW)
    assert verdicts.blocked == {Reason.CUSTOM_RULE: [1]}
    assert verdicts.deferrals == {0: ("first", soon), 2: ("first", late)}


@pytest.mark.parametrize(
    "until",
    [
        NOW,
        NOW - timedelta(seconds=1),
        datetime(2030, 1, 1),
        NOW.astimezone(timezone(timedelta(hours=5))),
        "tomorrow",
        None,
    ],
    ids=["now", "past", "naive", "now elsewhere", "text", "none"],
)
def test_a_message_can_only_be_deferred_until_an_aware_time_to_come(until: Any) -> None:
    verdicts = judge_candidates(make_candidates(1), [make_deferring(lambda _: Defer(until))], NOW)
    assert verdicts.blocked == {FAILED_CHECK_REASON: [0]}
    assert "expected an aware time after 2026-11-24 23:59" in str(verdicts.errors["later"])


def test_the_fixture_says_until_when_a_candidate_is_deferred(judge: Judge) -> None:
    until = NOW + timedelta(hours=1)
    verdict = judge(make_valid_candidate(), only=[make_deferring(lambda _: Defer(until))], now=NOW)
    assert not verdict
    assert (verdict.until, verdict.deferred_by) == (until, "later")


@pytest.mark.parametrize(
    ("overrides", "region", "zones"),
    [
        ({"mobile": "+4915228817386"}, "DE", ("Europe/Berlin",)),
        ({"mobile": "+12125550100"}, "US", ("America/New_York",)),
        ({"mobile_e164": "+80012345678"}, None, ()),
        ({"mobile": None}, None, ()),
        (
            {"mobile": None, "custom": {"field:region": "de"}},
            "DE",
            ("Europe/Berlin", "Europe/Busingen"),
        ),
        (
            {"mobile_e164": "+80012345678", "custom": {"field:region": "IN"}},
            "IN",
            ("Asia/Kolkata",),
        ),
        ({"mobile": None, "custom": {"field:region": "Europe"}}, "EUROPE", ()),
        (
            {
                "mobile": "+4915228817386",
                "custom": {"field:region": "IN", "field:time_zone": "Asia/Kolkata"},
            },
            "IN",
            ("Asia/Kolkata",),
        ),
    ],
    ids=[
        "Germany",
        "New York",
        "freephone",
        "no number",
        "region",
        "freephone and region",
        "unknown region",
        "fields",
    ],
)
def test_region_and_time_zones(
    overrides: dict[str, Any], region: str | None, zones: tuple[str, ...]
) -> None:
    customer = make_valid_candidate(**overrides).customer
    assert (customer.region, customer.time_zones) == (region, zones)


def test_a_number_that_is_not_in_use_has_a_region() -> None:
    customer = make_valid_candidate(mobile="+447700900000").customer
    assert customer.region == "GB"
    assert "Europe/London" in customer.time_zones


def test_settings_of_rules() -> None:
    campaign = make_valid_candidate(rules={"quiet_hours": {"begin": 21}}).campaign
    assert campaign.rule_settings("quiet_hours") == {"begin": 21}
    assert campaign.rule_settings("hold_out") == {}
    dated = make_valid_candidate(rules={"hold_out": {"from": NOW}}).campaign
    assert dated.rule_settings("hold_out") == {"from": "2026-11-24T23:59:00+00:00"}
    with pytest.raises(TypeError, match="rules: got 'x'; expected a dictionary"):
        make_valid_candidate(rules="x")
