"""A recorded campaign, and the rules that judge it."""

import pytest

from tests.support.factory import Plan, make_batch, move, not_sent_for
from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from tracker.store.database import Database
from workers.checks.base import all_checks
from workers.rules.rejudge import Rules


@pytest.fixture
def campaign(database: Database) -> Campaign:
    """Record ten messages.

    Number 1 has no address and number 2 has unsubscribed; both are recorded as Not Sent. Number 4
    is recorded as queued, and has bounced since.
    """
    people: dict[int, dict[str, object]] = {
        1: {"email": None},
        2: {"unsubscribed_email": True},
        4: {"hard_bounces_email": 1},
    }
    batch = make_batch(database, Plan(size=10), people)
    move(database, batch, [2], not_sent_for(Reason.UNSUBSCRIBED), step=Step.SUPPRESS)
    move(database, batch, [1], not_sent_for(Reason.EMAIL_MISSING), step=Step.VALIDATE)
    return batch.campaign


@pytest.fixture
def rules(campaign: Campaign) -> Rules:
    return Rules(campaign=campaign, checks=all_checks())
