"""One message explained: the verdict of every check, and the values that it read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tests.support.factory import AUTHOR, READY, Plan, in_gateway, make_batch, move
from tests.support.rules import fragile
from tracker.clock import from_datetime
from tracker.errors import NotFound
from tracker.record.catalog import Campaign
from tracker.record.journal import open_entry
from tracker.record.receipts import Receipt, apply_receipts
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.candidates import Candidate, Customer
from workers.checks.base import all_checks, check
from workers.rules.as_of import Rules
from workers.rules.explain import build_explanation


def test_every_check_gives_a_verdict_with_the_values_that_it_read(
    database: Database, rules: Rules
) -> None:
    explanation = build_explanation(database, rules, 2, rules.campaign.clock.now())
    verdicts = {verdict.check: verdict for verdict in explanation.verdicts}
    assert list(verdicts) == [check.name for check in all_checks()]
    blocking = [name for name, verdict in verdicts.items() if verdict.is_blocking]
    assert blocking == ["unsubscribed"]
    assert (explanation.reason, explanation.blocking_check) == (Reason.UNSUBSCRIBED, "unsubscribed")
    assert explanation.recorded_outcome == "not_sent: unsubscribed"
    assert verdicts["unsubscribed"].looked_at == {"subscription.unsubscribed": True}
    assert verdicts["bounced_repeatedly"].looked_at == {
        "customer.hard_bounces": 0,
        "campaign.organization.hard_bounce_limit": 1,
        "customer.soft_bounces": 0,
        "campaign.organization.soft_bounce_limit": 3,
    }


def test_a_spam_mark_is_distinguished_from_an_unsubscribe(database: Database, rules: Rules) -> None:
    spammed = sa.update(customers).where(customers.c.number == 2).values(marked_spam_email=True)
    with database.write() as connection:
        connection.execute(spammed)
    explanation = build_explanation(database, rules, 2, rules.campaign.clock.now())
    assert explanation.reason is Reason.UNSUBSCRIBED
    assert explanation.detail == "the customer marked a message as spam"


def test_a_message_is_explained_as_of_an_earlier_time(database: Database) -> None:
    batch = make_batch(database, Plan(size=3, attempts=1))
    clock = batch.campaign.clock
    before = clock.now()
    move(database, batch, [1], READY, in_gateway())
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=clock.now()) as written:
        apply_receipts(written, [Receipt(1, 1, Status.HARD_BOUNCED, clock.now())])
    rules = Rules(campaign=batch.campaign, checks=all_checks())
    assert build_explanation(database, rules, 1, before).reason is None
    later = build_explanation(database, rules, 1, clock.now())
    assert later.reason is Reason.BOUNCED_REPEATEDLY


def test_a_rule_sees_the_time_that_is_asked_about(database: Database, rules: Rules) -> None:
    @check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
    def quiet_hours(candidate: Candidate, now: datetime) -> bool:
        """Block messages before six in the morning."""
        return now.hour < 6

    changed = replace(rules, checks=[quiet_hours])
    for hour, reason in ((5, Reason.CONFIGURATION), (6, None)):
        at = from_datetime(datetime(2026, 11, 30, hour, tzinfo=UTC))
        assert build_explanation(database, changed, 0, at).reason is reason


def test_a_message_that_passes_is_explained(database: Database, rules: Rules) -> None:
    explanation = build_explanation(database, rules, 0, rules.campaign.clock.now())
    assert (explanation.reason, explanation.blocking_check) == (None, None)
    assert explanation.recorded_outcome == "queued"


def test_method_calls_of_a_rule_are_recorded(database: Database, rules: Rules) -> None:
    @check(Reason.DATA_MISSING, step=Step.VALIDATE, order=1)
    def lives_in_ulm(candidate: Candidate, now: datetime) -> bool:
        """Block customers in Ulm."""
        return candidate.customer.value(name="tag:city") == "Ulm"

    changed = replace(rules, checks=[lives_in_ulm])
    explanation = build_explanation(database, changed, 0, rules.campaign.clock.now())
    assert explanation.verdicts[0].looked_at == {"customer.value(name='tag:city')": None}


def test_the_data_of_a_source_is_shown_among_the_values(database: Database, rules: Rules) -> None:
    calls: list[int] = []

    def load(campaign: Campaign, customers: Sequence[Customer]) -> dict[int, str]:
        calls.append(len(customers))
        return {0: "asked"}

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, source=load)
    def asked_not_to(candidate: Candidate, now: datetime, data: str | None) -> bool:
        """Block customers with an address who asked for it."""
        return candidate.customer.email is not None and data == "asked"

    changed = replace(rules, checks=[asked_not_to])
    explanation = build_explanation(database, changed, 0, rules.campaign.clock.now())
    assert explanation.blocking_check == "asked_not_to"
    [verdict] = explanation.verdicts
    assert verdict.looked_at == {"data": "asked", "customer.email": "customer0@example.com"}
    assert calls == [1], "the source is called once"


def test_a_check_that_raises_is_explained(database: Database, rules: Rules) -> None:
    changed = replace(rules, checks=[fragile, *rules.checks])
    explanation = build_explanation(database, changed, 5, rules.campaign.clock.now())
    assert explanation.verdicts[0].error == "LookupError: c5"
    assert (explanation.reason, explanation.blocking_check) == (Reason.RULE_FAILED, "fragile")


def test_a_check_that_ends_the_process_is_explained(database: Database, rules: Rules) -> None:
    @check(Reason.NDNC, step=Step.SUPPRESS, order=1)
    def final(candidate: Candidate, now: datetime) -> bool:
        """End the process."""
        raise SystemExit(3)

    changed = replace(rules, checks=[final])
    explanation = build_explanation(database, changed, 5, rules.campaign.clock.now())
    assert explanation.verdicts[0].error == "SystemExit: 3"


@pytest.mark.parametrize("number", [10, -1, 2**70 - 1])
def test_an_unknown_message_is_an_error(database: Database, rules: Rules, number: int) -> None:
    with pytest.raises(NotFound, match=f"has no message {number}"):
        build_explanation(database, rules, number, 0)
