"""A recorded campaign judged again under changed rules."""

from collections import Counter

import pytest

from tests.support.rules import THIS_MODULE
from tracker.record.allowance import MAX_MESSAGE_LIMIT_DAYS
from tracker.status import Reason
from tracker.store.database import Database
from workers.rules import rejudge
from workers.rules.changes import apply_rule_changes
from workers.rules.rejudge import Rules, compare_rules


def test_changed_rules_change_verdicts(database: Database, rules: Rules) -> None:
    after = apply_rule_changes(
        rules,
        settings=["hard_bounce_limit=2"],
        without=["unsubscribed"],
        extra=[f"{THIS_MODULE}:block_number_3"],
    )
    diff = compare_rules(database, rules, after)
    assert diff.judged_count == 10
    assert diff.changes == Counter(
        {
            (Reason.UNSUBSCRIBED, None): 1,
            (Reason.BOUNCED_REPEATEDLY, None): 1,
            (None, Reason.CONFIGURATION): 1,
        }
    )
    assert diff.samples[None, Reason.CONFIGURATION] == ["c3"]
    assert diff.record_mismatches == 1, "number 4 is recorded as queued and would now be blocked"


def test_unchanged_rules_change_no_verdict(database: Database, rules: Rules) -> None:
    assert not compare_rules(database, rules, rules).changes


def test_chunks_do_not_change_the_result(
    database: Database, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = apply_rule_changes(rules, settings=["enabled=false"], without=[], extra=[])
    in_one_chunk = compare_rules(database, rules, after)
    monkeypatch.setattr(rejudge, "MESSAGES_PER_CHUNK", 3)
    assert compare_rules(database, rules, after) == in_one_chunk
    assert in_one_chunk.changes[None, Reason.ORGANIZATION_DISABLED] == 7


def test_the_longest_message_limit_period_is_supported(database: Database, rules: Rules) -> None:
    settings = ["message_limit.count=1", f"message_limit.days={MAX_MESSAGE_LIMIT_DAYS}"]
    after = apply_rule_changes(rules, settings=settings, without=[], extra=[])
    assert not compare_rules(database, rules, after).changes


def test_a_check_that_raises_is_named(database: Database, rules: Rules) -> None:
    after = apply_rule_changes(rules, settings=[], without=[], extra=[f"{THIS_MODULE}:fragile"])
    diff = compare_rules(database, rules, after)
    assert diff.changes[None, Reason.RULE_FAILED] == 7
    [line] = diff.check_errors.format_lines()
    assert line.startswith("check fragile failed on 10 messages, first with LookupError('c0')")
