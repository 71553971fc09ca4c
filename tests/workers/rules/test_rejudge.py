"""Recorded campaigns judged again, as of the steps that judged them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    in_gateway,
    judge,
    make_batch,
    make_campaign,
    make_sibling,
    move,
    not_sent_for,
)
from tests.support.plugins import plugin_installer
from tests.support.rules import THIS_MODULE, block_number_3
from tracker.clock import to_datetime
from tracker.record.allowance import MAX_MESSAGE_LIMIT_DAYS
from tracker.record.catalog import Batch, Campaign
from tracker.record.details import TransitionDetail
from tracker.record.engagement import EngagementEvent, record_engagement
from tracker.record.journal import QUEUED_STATE, Move, enqueue_batch, open_entry
from tracker.record.receipts import Receipt, apply_receipts
from tracker.status import Engagement, Reason, Status, Step
from tracker.store.database import Database
from workers.candidates import Candidate, Customer
from workers.checks.base import Check, Defer, all_checks, check
from workers.plugins import PluginGroup
from workers.rules import rejudge
from workers.rules.as_of import PASSES, Rules, Verdict
from workers.rules.changes import apply_rule_changes
from workers.rules.rejudge import VerdictDiff, compare_rules


def compare(database: Database, campaign: Campaign, *settings: str) -> VerdictDiff:
    rules = Rules(campaign=campaign, checks=all_checks())
    changed = apply_rule_changes(rules, settings=settings, without=[], extra=[])
    return compare_rules(database, rules, changed)


def run_check_steps(database: Database, batch: Batch) -> None:
    for step in (Step.SUPPRESS, Step.VALIDATE):
        judge(database, batch, step)


def dispatch(
    database: Database, batch: Batch, numbers: Sequence[int], blocked: Sequence[int] = ()
) -> None:
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=now) as written:
        limited = not_sent_for(Reason.MESSAGE_LIMIT)
        written.move(Move(numbers=blocked, source=QUEUED_STATE, target=limited, at=now))
        written.move(Move(numbers=numbers, source=QUEUED_STATE, target=READY, at=now))


def add_batch(database: Database, campaign: Campaign, size: int = 10) -> Batch:
    return enqueue_batch(database, campaign, batch=0, first=0, size=size, author=AUTHOR)


def receive(database: Database, batch: Batch, status: Status, numbers: Sequence[int]) -> None:
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as written:
        apply_receipts(written, [Receipt(number, 1, status, now) for number in numbers])


def test_other_rules_change_recorded_verdicts(database: Database, rules: Rules) -> None:
    after = apply_rule_changes(
        rules, settings=[], without=["unsubscribed"], extra=[f"{THIS_MODULE}:block_number_3"]
    )
    diff = compare_rules(database, rules, after)
    assert diff.compared_count == 10
    blocked = Verdict(Reason.CONFIGURATION, "block_number_3")
    assert diff.changes == Counter(
        {
            (Verdict(Reason.UNSUBSCRIBED), PASSES): 1,
            (PASSES, Verdict(Reason.BOUNCED_REPEATEDLY)): 1,
            (PASSES, blocked): 1,
        }
    ), "number 4 passed on record, although its address had bounced"
    assert diff.samples[PASSES, blocked] == ["c3"]
    assert str(blocked) == "configuration (block_number_3)"


def test_chunks_do_not_change_the_result(
    database: Database, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = apply_rule_changes(rules, settings=["enabled=false"], without=[], extra=[])
    in_one_chunk = compare_rules(database, rules, after)
    monkeypatch.setattr(rejudge, "MESSAGES_PER_CHUNK", 3)
    assert compare_rules(database, rules, after) == in_one_chunk
    assert in_one_chunk.changes[PASSES, Verdict(Reason.ORGANIZATION_DISABLED)] == 8


def test_the_longest_message_limit_period_is_supported(database: Database, rules: Rules) -> None:
    settings = ["message_limit.count=1", f"message_limit.days={MAX_MESSAGE_LIMIT_DAYS}"]
    after = apply_rule_changes(rules, settings=settings, without=["bounced_repeatedly"], extra=[])
    assert not compare_rules(database, rules, after).changes


def test_a_check_that_raises_is_named(database: Database, rules: Rules) -> None:
    after = apply_rule_changes(rules, settings=[], without=[], extra=[f"{THIS_MODULE}:fragile"])
    diff = compare_rules(database, rules, after)
    assert diff.changes[PASSES, Verdict(Reason.RULE_FAILED, "fragile")] == 8
    [line] = diff.check_errors.format_lines()
    assert line.startswith("check fragile failed on 10 messages, first with LookupError('c0')")


def test_what_happened_after_a_message_was_judged_does_not_change_its_verdict(
    database: Database,
) -> None:
    batch = make_batch(database, Plan(size=10, tracks_engagement=True, attempts=1))
    run_check_steps(database, batch)
    move(database, batch, range(8), READY, in_gateway())
    receive(database, batch, Status.HARD_BOUNCED, [0])
    receive(database, batch, Status.SOFT_BOUNCED, [1])
    receive(database, batch, Status.DELIVERED, [2, 3, 4])
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=now) as written:
        kinds = (Engagement.UNSUBSCRIBED, Engagement.SPAM)
        events = [EngagementEvent(2 + index, kind, now) for index, kind in enumerate(kinds)]
        record_engagement(written, events)
    assert not compare(database, batch.campaign).changes
    assert not compare(database, batch.campaign, "soft_bounce_limit=1").changes
    follow_up = add_batch(database, make_sibling(database, batch.campaign, "follow-up"))
    run_check_steps(database, follow_up)
    assert compare(database, follow_up.campaign, "soft_bounce_limit=1").changes == {
        (PASSES, Verdict(Reason.BOUNCED_REPEATEDLY)): 2,
        (PASSES, Verdict(Reason.UNSUBSCRIBED)): 2,
    }, "the next campaign was judged after all that"


def test_a_delivery_resets_the_soft_bounces_of_then(database: Database) -> None:
    first = make_batch(database, Plan(size=4, attempts=1))
    move(database, first, [0, 1], READY, in_gateway())
    receive(database, first, Status.SOFT_BOUNCED, [0, 1])
    middle = add_batch(database, make_sibling(database, first.campaign, "middle"), 4)
    run_check_steps(database, middle)
    move(database, middle, [0], READY, in_gateway())
    receive(database, middle, Status.DELIVERED, [0])
    last = add_batch(database, make_sibling(database, first.campaign, "last"), 4)
    run_check_steps(database, last)
    change = (PASSES, Verdict(Reason.BOUNCED_REPEATEDLY))
    limit = "soft_bounce_limit=1"
    assert compare(database, middle.campaign, limit).changes == {change: 2}
    assert compare(database, last.campaign, limit).changes == {change: 1}


def test_the_message_limit_counts_the_messages_that_were_dispatched_by_then(
    database: Database,
) -> None:
    one = make_batch(database, Plan(size=10))
    two = add_batch(database, make_sibling(database, one.campaign, "two"))
    three = add_batch(database, make_sibling(database, one.campaign, "three"))
    for batch in (one, two, three):
        run_check_steps(database, batch)
    dispatch(database, one, range(6))
    dispatch(database, two, range(10))
    dispatch(database, three, range(10))

    def count_limited(batch: Batch, limit: int) -> int:
        diff = compare(database, batch.campaign, f"message_limit.count={limit}")
        assert set(diff.changes) <= {(PASSES, Verdict(Reason.MESSAGE_LIMIT))}
        return diff.changes.total()

    assert [count_limited(batch, 1) for batch in (one, two, three)] == [0, 6, 10]
    assert [count_limited(batch, 2) for batch in (one, two, three)] == [0, 0, 6]


def test_a_message_limit_of_dispatch_may_no_longer_block(database: Database) -> None:
    one = make_batch(database, Plan(size=10, message_limit=1))
    two = add_batch(database, make_sibling(database, one.campaign, "two"))
    for batch in (one, two):
        run_check_steps(database, batch)
    dispatch(database, one, range(10))
    dispatch(database, two, [], blocked=range(10))
    assert not compare(database, two.campaign).changes
    loosened = compare(database, two.campaign, "message_limit.count=2")
    assert loosened.changes == {(Verdict(Reason.MESSAGE_LIMIT), PASSES): 10}


def test_the_check_on_record_is_compared_too(database: Database) -> None:
    batch = make_batch(database, Plan(size=10))
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.SUPPRESS, AUTHOR, started_at=now) as written:
        target = not_sent_for(Reason.CONFIGURATION)
        details = {number: TransitionDetail("block_number_3") for number in (3, 5)}
        written.move(
            Move(numbers=[3, 5], source=QUEUED_STATE, target=target, at=now, details=details)
        )
    judge(database, batch, Step.VALIDATE)
    rules = Rules(campaign=batch.campaign, checks=[block_number_3])
    recorded = Verdict(Reason.CONFIGURATION, "block_number_3")
    assert compare_rules(database, rules, rules).changes == {(recorded, PASSES): 1}
    silent = Rules(
        campaign=replace(batch.campaign, sender=""), checks=all_checks()
    )  # the shipped check gives the same reason
    assert compare_rules(database, rules, silent).changes == {
        (recorded, Verdict(Reason.CONFIGURATION)): 2,
        (PASSES, Verdict(Reason.CONFIGURATION)): 8,
    }


def test_a_reason_of_a_later_step_stays_unless_a_check_blocks(database: Database) -> None:
    batch = make_batch(database, Plan(size=4), {1: {"email": None}})
    run_check_steps(database, batch)
    move(database, batch, [0, 1], not_sent_for(Reason.OUT_OF_CREDIT), step=Step.DISPATCH)
    assert compare(database, batch.campaign).changes == {
        (Verdict(Reason.OUT_OF_CREDIT), Verdict(Reason.EMAIL_MISSING)): 1
    }


def test_messages_whose_verdict_cannot_be_rebuilt_are_not_compared(database: Database) -> None:
    batch = make_batch(database, Plan(size=6))
    later = make_sibling(database, batch.campaign, "later")
    judge(database, batch, Step.SUPPRESS, {0: Reason.SUBSCRIPTION_SERVICE, 1: Reason.STEP_FAILED})
    judge(database, batch, Step.VALIDATE)
    diff = compare(database, batch.campaign)
    assert (diff.compared_count, diff.changes) == (4, {})
    assert diff.not_compared == {
        "the subscription service gave no answer then, and its answer can't be rebuilt": 1,
        "the step suppress failed, so no check judged them": 1,
    }
    add_batch(database, later, 6)
    assert compare(database, later).not_compared == {"not judged yet": 6}


def test_a_message_that_was_judged_twice_counts_as_of_its_last_judgement(
    database: Database,
) -> None:
    batch = make_batch(database, Plan(size=3))
    run_check_steps(database, batch)
    first = add_batch(database, make_sibling(database, batch.campaign, "other"), 3)
    move(database, first, [0], READY)
    judge(database, batch, Step.SUPPRESS)
    dispatch(database, batch, range(3))
    limited = compare(database, batch.campaign, "message_limit.count=1")
    assert limited.changes == {(PASSES, Verdict(Reason.MESSAGE_LIMIT)): 1}


SERVICES = """
from workers.services.base import SqlServices

class Services(SqlServices):
    "Services of another package."
"""


def test_what_services_of_other_packages_answered_is_taken_from_the_record(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(database, Plan(size=6), {number: {"email": None} for number in (4, 5)})
    judge(database, batch, Step.SUPPRESS, {0: Reason.UNSUBSCRIBED, 1: Reason.SUBSCRIPTION_SERVICE})
    judge(database, batch, Step.VALIDATE, {4: Reason.EMAIL_MISSING, 5: Reason.EMAIL_MISSING})
    with plugin_installer(tmp_path, monkeypatch) as install:
        install(SERVICES, PluginGroup.SERVICES, theirs="extra:Services")
        campaign = replace(batch.campaign, services_kind="theirs")
        rules = Rules(campaign=campaign, checks=all_checks())
        same = compare_rules(database, rules, rules)
        assert (same.compared_count, same.changes) == (6, {}), "the record has all answers"

        def compare_without(*names: str) -> VerdictDiff:
            changed = apply_rule_changes(rules, settings=[], without=names, extra=[])
            return compare_rules(database, rules, changed)

        answer = "what the subscription service answered then can't be rebuilt"
        reachable = compare_without("unsubscribed")
        assert (reachable.changes, reachable.not_compared) == ({}, {answer: 1})
        assert not reachable.check_errors.errors
        assert compare_without("email_missing").changes == {
            (Verdict(Reason.EMAIL_MISSING), PASSES): 2
        }


def test_deferred_messages_are_judged_as_of_their_dispatch(database: Database) -> None:
    batch = make_batch(database, Plan(size=4))
    run_check_steps(database, batch)
    dispatched_from = batch.campaign.clock.now()
    dispatch(database, batch, [0, 1])
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=now) as written:
        details = {2: TransitionDetail("waits")}
        target = not_sent_for(Reason.CUSTOM_RULE)
        written.move(Move(numbers=[2], source=QUEUED_STATE, target=target, at=now, details=details))

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)
    def waits(candidate: Candidate, now: datetime) -> bool | Defer:
        """Defer messages until dispatch; then block number 2."""
        if now < to_datetime(dispatched_from):
            return Defer(to_datetime(dispatched_from))
        return candidate.number == 2

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)
    def waits_longer(candidate: Candidate, now: datetime) -> bool | Defer:
        """Defer messages."""
        return Defer(now + timedelta(hours=1))

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, again_at_dispatch=True)
    def strict(candidate: Candidate, now: datetime) -> bool:
        """Block number 1 at dispatch."""
        return candidate.number == 1 and now >= to_datetime(dispatched_from)

    def compare_checks(*checks: Check) -> VerdictDiff:
        rules = Rules(campaign=batch.campaign, checks=checks)
        return compare_rules(database, rules, rules)

    blocked = Verdict(Reason.CUSTOM_RULE, "waits")
    assert compare_checks(waits).changes == {}
    assert compare_checks().changes == {(blocked, PASSES): 1}
    assert compare_checks(strict).changes == {
        (blocked, PASSES): 1,
        (PASSES, Verdict(Reason.CUSTOM_RULE, "strict")): 1,
    }
    assert compare_checks(waits_longer).not_compared == {
        "check waits_longer would defer them, so their outcome is unknown": 4
    }


@pytest.mark.parametrize("longer", [Step.SUPPRESS, Step.VALIDATE])
def test_the_check_that_defers_for_the_longest_time_is_named(
    database: Database, longer: Step
) -> None:
    batch = make_batch(database, Plan(size=4))
    run_check_steps(database, batch)

    def make_check(step: Step) -> Check:
        def waits(candidate: Candidate, now: datetime) -> bool | Defer:
            """Defer messages."""
            return Defer(now + timedelta(hours=2 if step is longer else 1))

        waits.__name__ = f"waits_in_{step}"
        return check(Reason.CUSTOM_RULE, step=step, order=1)(waits)

    checks = [make_check(Step.SUPPRESS), make_check(Step.VALIDATE)]
    rules = Rules(campaign=batch.campaign, checks=checks)
    assert compare_rules(database, rules, rules).not_compared == {
        f"check waits_in_{longer} would defer them, so their outcome is unknown": 4
    }


@pytest.fixture
def two_batches(database: Database) -> Campaign:
    """Return a campaign of two batches, which the check steps judged one after the other."""
    campaign = make_campaign(database, Plan(size=6))
    for number in (0, 1):
        key = {"batch": number, "first": 3 * number, "size": 3}
        run_check_steps(database, enqueue_batch(database, campaign, **key, author=AUTHOR))
    return campaign


def test_a_source_is_called_once_for_messages_that_were_judged_at_different_times(
    database: Database, two_batches: Campaign
) -> None:
    calls: list[int] = []
    times: set[datetime] = set()

    def load(campaign: Campaign, customers: Sequence[Customer]) -> dict[int, bool]:
        calls.append(len(customers))
        return {4: True}

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, source=load)
    def listed(candidate: Candidate, now: datetime, data: bool | None) -> bool:
        """Block listed customers."""
        times.add(now)
        return data is True

    rules = Rules(campaign=two_batches, checks=[listed])
    diff = compare_rules(database, rules, rules)
    assert diff.changes == {(PASSES, Verdict(Reason.CUSTOM_RULE, "listed")): 1}
    assert (calls, len(times)) == ([6], 2)


def test_messages_whose_source_fails_now_are_not_compared(
    database: Database, two_batches: Campaign
) -> None:
    def load(campaign: Campaign, customers: Sequence[Customer]) -> dict[int, bool]:
        raise OSError("not on this machine")

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, source=load)
    def listed(candidate: Candidate, now: datetime, data: bool | None) -> bool:
        """Block listed customers."""
        return data is True

    rules = Rules(campaign=two_batches, checks=[listed])
    diff = compare_rules(database, rules, rules)
    assert (diff.compared_count, diff.changes) == (0, {})
    assert diff.not_compared == {"the source of check listed failed": 6}
    [line] = diff.check_errors.format_lines()
    assert "SourceFailed('OSError: not on this machine')" in line


@pytest.mark.parametrize("failing", [0, 3])
def test_a_rule_s_own_error_is_compared_although_its_source_fails_for_other_messages(
    database: Database, two_batches: Campaign, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    def load(campaign: Campaign, customers: Sequence[Customer]) -> dict[int, bool]:
        if customers[0].number == failing:
            raise OSError("not on this machine")
        return {}

    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, source=load)
    def listed(candidate: Candidate, now: datetime, data: bool | None) -> bool:
        """Fail on the second message of each chunk."""
        if candidate.number % 3 == 1:
            raise LookupError
        return False

    monkeypatch.setattr(rejudge, "MESSAGES_PER_CHUNK", 3)
    rules = Rules(campaign=two_batches, checks=[listed])
    diff = compare_rules(database, rules, rules)
    assert diff.not_compared == {"the source of check listed failed": 3}
    assert (diff.compared_count, diff.changes) == (
        3,
        {(PASSES, Verdict(Reason.RULE_FAILED, "listed")): 1},
    )
