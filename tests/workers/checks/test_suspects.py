"""Conditions of checks: whoever a rule blocks is among those whom its condition names."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.factory import (
    READY,
    Plan,
    ScriptedServices,
    make_batch,
    make_sibling,
    move,
    not_sent_for,
    read_states,
    step_context,
)
from tests.support.statements import executed
from tracker.clock import SystemClock
from tracker.errors import UsageError
from tracker.organizations import CouponSeries
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.catalog import Campaign
from tracker.record.journal import QUEUED_STATE
from tracker.settings import to_local_time
from tracker.status import Channel, Reason, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers, shared_addresses
from workers.candidates import (
    NO_RECENT_MESSAGES,
    SUBSCRIBED,
    Candidate,
    SuspectCondition,
    load_candidates,
    load_customers,
)
from workers.checks.base import Check, FindSuspects, check, checks_of
from workers.checks.judging import judge_candidates
from workers.checks.suspects import find_suspects
from workers.rules.valid_candidate import VALID_CAMPAIGN
from workers.services.base import ServiceName, SqlServices, Subscription
from workers.steps import before_gateway

NOW = SystemClock().now()
TODAY = to_local_time(NOW).date()

texts = st.sampled_from([None, "", "x"])
counts = st.integers(0, 4)
flags = st.booleans()
mostly = st.sampled_from([True, True, True, False])

records = st.fixed_dictionaries(
    {
        "email": st.sampled_from([None, "", "x", "anna@example.com", "anna@shop.internal"]),
        "mobile_e164": st.sampled_from([None, "", "+447700900000", "+49170123"]),
        "loyalty_member": mostly,
        "unsubscribed_email": flags,
        "unsubscribed_sms": flags,
        "ndnc": flags,
        "hard_bounces_email": counts,
        "soft_bounces_email": counts,
        "hard_bounces_sms": counts,
        "soft_bounces_sms": counts,
        "last_store": texts,
        "profile": texts,
        "coupon_id": st.sampled_from([None, "", "x", "x", "x"]),
        "coupon_expires": st.sampled_from(
            [None, "", "soon", "2020-01-31", "2099-12-31", "2099-02-30", "20991231"]
            + [(TODAY + timedelta(days=days)).isoformat() for days in (-1, 0, 1)]
        ),
        "coupon_redeemed": mostly.map(lambda usable: not usable),
        "custom": st.sampled_from(["{}", '{"tag:a":"x"}', '{"tag:a":""}', '{"field:a":"x"}']),
    }
)

requirements = st.lists(
    st.sampled_from(
        ["coupon", "referral", "membership", "last_store", "profile", "tag:a", "field:a"]
    ),
    unique=True,
    max_size=3,
).map(tuple)


@st.composite
def changed_campaigns(draw: st.DrawFn, recorded: Campaign) -> Campaign:
    """Return a recorded campaign with settings that decide what the checks block."""
    organization = replace(
        recorded.organization,
        enabled=draw(mostly),
        hard_bounce_limit=draw(st.integers(0, 4)),
        soft_bounce_limit=draw(st.integers(0, 4)),
        message_limit=draw(st.sampled_from([None, None, 0, 1, 2])),
    )
    return replace(
        recorded,
        organization=organization,
        channel=draw(st.sampled_from(Channel)),
        requires=tuple({*draw(requirements), *draw(st.sampled_from([(), ("coupon",)]))}),
        channel_enabled=draw(mostly),
        sender=draw(st.sampled_from(["Acme", "Acme", ""])),
        coupon_series=draw(
            st.sampled_from(
                [recorded.coupon_series, None, CouponSeries(name="last-year", active=False)]
            )
        ),
        gateway_enabled=draw(mostly),
        gateway_kind=draw(st.sampled_from(["simulated", "smtp"])),
    )


SIZE = 8


@pytest.fixture
def recorded(database: Database) -> Campaign:
    """Return a campaign to customers of whom 1 and 3 have had a message, and 2 is a duplicate."""
    first = make_batch(database, Plan(size=SIZE))
    move(database, first, [1, 3], READY)
    campaign = make_sibling(database, first.campaign, "second")
    with database.write() as connection:
        connection.execute(
            sa.insert(shared_addresses),
            [
                {
                    "audience_id": campaign.audience_id,
                    "channel": channel,
                    "number": number,
                    "organization_id": campaign.organization.id,
                    "address": 1,
                    "is_duplicate": number == 2,
                }
                for channel in Channel
                for number in (0, 2)
            ],
        )
    return replace(campaign, has_shared_addresses=True)


def replace_records(database: Database, campaign: Campaign, rows: Sequence[dict[str, Any]]) -> None:
    """Replace what the database has of a campaign's customers."""
    key = {"audience_id": campaign.audience_id, "customer_id": sa.bindparam("customer_id")}
    with database.write() as connection:
        connection.execute(sa.delete(customers))
        connection.execute(
            sa.insert(customers).values(key),
            [
                {"number": number, "customer_id": f"c{number}", **row}
                for number, row in enumerate(rows)
            ],
        )


def without_known_facts(candidate: Candidate) -> Candidate:
    """Return a candidate of whom only the campaign and the customer's record say anything."""
    return candidate._replace(
        subscription=SUBSCRIBED,
        coupon=None,
        failed=frozenset(),
        is_duplicate=False,
        recent_messages=NO_RECENT_MESSAGES,
    )


@pytest.mark.parametrize("step", CHECK_STEPS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whoever_a_check_blocks_is_a_suspect(
    database: Database, recorded: Campaign, step: Step, data: st.DataObject
) -> None:
    """The rows are in the database, so the conditions meet its NULLs and empty strings."""
    campaign = data.draw(changed_campaigns(recorded))
    replace_records(database, campaign, data.draw(st.lists(records, min_size=SIZE, max_size=SIZE)))
    load = partial(load_candidates, database, campaign, range(SIZE), step)
    checks, services, now = checks_of(step), SqlServices("", database), to_local_time(NOW)
    everybody = load(services, NOW)
    in_any_case = {candidate.number for candidate in load(services, NOW, suspects=False)}
    for judging in checks:
        condition = find_suspects([judging], campaign)
        held = customers_of(database, campaign, condition)
        for candidate in map(without_known_facts, everybody):
            assert not judging.rule(candidate, now) or candidate.number in held, judging.name
        for candidate in everybody:
            is_suspect = candidate.number in held or candidate.number in in_any_case
            assert not judging.rule(candidate, now) or is_suspect, judging.name
    suspects = load(services, NOW, suspects=find_suspects(checks, campaign))
    judged = judge_candidates(suspects, checks, now)
    expected = judge_candidates(everybody, checks, now)
    assert (judged.by_check, judged.details) == (expected.by_check, expected.details)


def customers_of(
    database: Database, campaign: Campaign, condition: SuspectCondition
) -> Collection[int]:
    """Return the numbers of the customers for whom a condition holds."""
    if isinstance(condition, bool):
        return range(SIZE) if condition else ()
    loaded = load_customers(database, campaign, range(SIZE), condition)
    return {customer.number for customer in loaded}


@pytest.mark.parametrize("requires", [(), ("last_store", "coupon", "referral")])
def test_no_customer_of_a_flawless_batch_is_loaded(
    database: Database, requires: Sequence[str]
) -> None:
    people: dict[int, dict[str, object]] = {
        number: {"last_store": "1", "coupon_id": "C", "coupon_expires": "2099-12-31"}
        for number in range(4)
    }
    batch = make_batch(database, Plan(size=4, requires=requires), people)
    for step in CHECK_STEPS:
        campaign, services = batch.campaign, SqlServices("", database)
        suspects = find_suspects(checks_of(step), campaign)
        with executed(database) as statements:
            assert not load_candidates(
                database, campaign, range(4), step, services, NOW, suspects=suspects
            )
        others = 2 if requires and step is Step.VALIDATE else 0
        selects = [text for text, _ in statements if text.startswith("SELECT")]
        assert len(selects) == (2 if step is Step.SUPPRESS else 1 + others)


def make_check(suspects: FindSuspects | None) -> Check:
    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, suspects=suspects)
    def strict(candidate: Candidate, now: datetime) -> bool:
        """Block everybody whom it judges."""
        return True

    return strict


@pytest.mark.parametrize(
    ("suspects", "blocked"),
    [
        (None, {0, 1, 2, 3}),
        (lambda _: True, {0, 1, 2, 3}),
        (lambda _: False, {1}),
        (lambda _: customers.c.email == "x", {1, 2}),
        (lambda _: customers.c.email != "x", {0, 1}),
    ],
)
def test_a_check_judges_its_suspects_and_whom_a_service_names(
    database: Database, suspects: FindSuspects | None, blocked: set[int]
) -> None:
    """Customer 3 has no email, so no condition on it holds; 7 is in no batch."""
    people: dict[int, dict[str, object]] = {2: {"email": "x"}, 3: {"email": None}}
    batch = make_batch(database, Plan(size=4), people)
    named = {1: Subscription(ndnc=True), 7: Subscription(ndnc=True)}
    services = ScriptedServices({}, {ServiceName.SUBSCRIPTION: named})
    context = step_context(database, batch)
    before_gateway.judge_batch(context, Step.SUPPRESS, [make_check(suspects)], services)
    assert read_states(database, batch) == {
        number: not_sent_for(Reason.CUSTOM_RULE) if number in blocked else QUEUED_STATE
        for number in range(4)
    }


def test_a_check_without_a_condition_is_evaluated_for_everybody() -> None:
    narrow, wide = make_check(lambda _: False), make_check(None)
    campaign = VALID_CAMPAIGN
    assert find_suspects([narrow, wide], campaign) is True
    assert find_suspects([narrow, narrow], campaign) is False


@pytest.mark.parametrize(
    ("suspects", "error"),
    [
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda _: sys.exit(3), "SystemExit: 3"),
        (lambda _: None, "TypeError: suspects returned None; expected a condition"),
        (lambda _: customers.c.email, "TypeError: suspects returned Column("),
    ],
)
def test_everybody_is_judged_if_suspects_fails(
    database: Database, caplog: pytest.LogCaptureFixture, suspects: FindSuspects, error: str
) -> None:
    batch = make_batch(database, Plan(size=2))
    checks = [make_check(lambda _: False), make_check(suspects)]
    context, services = step_context(database, batch), SqlServices("", database)
    before_gateway.judge_batch(context, Step.SUPPRESS, checks, services)
    blocked = not_sent_for(Reason.CUSTOM_RULE)
    assert read_states(database, batch) == {0: blocked, 1: blocked}
    [message] = caplog.messages
    assert message.startswith(f'check failed: check=strict campaign=1 error="{error}')


def test_suspects_that_are_no_function_are_an_error() -> None:
    unusable: Any = 7
    with pytest.raises(UsageError, match="check strict: got int; expected a function of"):
        make_check(unusable)
