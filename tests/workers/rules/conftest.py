"""A recorded campaign, and the rules that judge it."""

import pytest

from tests.support.factory import Plan, judge, make_batch
from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from tracker.store.database import Database
from workers.checks.base import all_checks
from workers.rules.as_of import Rules


@pytest.fixture
def campaign(database: Database) -> Campaign:
    """Record ten messages that were judged.

    Number 1 has no address and number 2 has unsubscribed; both are recorded as Not Sent. Number 4
    is recorded as queued, although its address has bounced.
    """
    people: dict[int, dict[str, object]] = {
        1: {"email": None},
        2: {"unsubscribed_email": True},
        4: {"hard_bounces_email": 1},
    }
    batch = make_batch(database, Plan(size=10), people)
    judge(database, batch, Step.SUPPRESS, {2: Reason.UNSUBSCRIBED})
    judge(database, batch, Step.VALIDATE, {1: Reason.EMAIL_MISSING})
    return batch.campaign


@pytest.fixture
def rules(campaign: Campaign) -> Rules:
    return Rules(campaign=campaign, checks=all_checks())
