"""The recorded verdicts of a run are those that its rules give again, as of then."""

from pathlib import Path

import pytest

from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tracker.status import Reason
from tracker.store.database import Database
from workers.checks.base import all_checks
from workers.rules.as_of import PASSES, Rules, Verdict
from workers.rules.changes import apply_rule_changes
from workers.rules.rejudge import VerdictDiff, compare_rules

pytestmark = pytest.mark.usefixtures("no_retry_delay")

DEFECTS = {"unsubscribed": 0.1, "email_missing": 0.1, "subscription_service": 0.1}


def test_unchanged_rules_change_no_verdict_of_a_run(database: Database, tmp_path: Path) -> None:
    scenario = build_scenario(
        build_campaign("one", audience=200, defects=DEFECTS),
        build_campaign("two", audience={"same_as": "one"}, after="one"),
        build_campaign("three", audience={"same_as": "one"}, after="two"),
        organization={"hard_bounce_limit": 1, "message_limit": {"count": 2, "days": 1}},
        gateways={"email": {"hard_bounce": 0.2, "soft_bounce": 0.2, "attempts": 1}},
        engagement={"email": {"open": 1.0, "click": 0.5, "spam": 0.2, "unsubscribe": 0.2}},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)

    def compare(campaign: int, *settings: str) -> VerdictDiff:
        installed = Rules(campaign=result.reports[campaign].campaign, checks=all_checks())
        changed = apply_rule_changes(installed, settings=settings, without=[], extra=[])
        return compare_rules(database, installed, changed)

    for campaign, report in enumerate(result.reports):
        diff = compare(campaign)
        assert (diff.changes, diff.compared_count, diff.not_compared) == ({}, 200, {})
        if campaign:
            assert report.count_by_reason(Reason.BOUNCED_REPEATEDLY.category)
    limited = Verdict(Reason.MESSAGE_LIMIT)
    tightened = compare(1, "message_limit.count=1").changes
    assert tightened[PASSES, limited] == result.reports[1].sent, "all had one message before"
    loosened = compare(2, "message_limit.count=3").changes
    assert loosened[limited, PASSES] > 0
