"""Find the suspects of checks: the customers whom their rules may block."""

from collections.abc import Iterable
from reprlib import repr as shorten

import sqlalchemy as sa

from tracker.errors import UsageError
from tracker.record.catalog import Campaign
from workers.candidates import SuspectCondition
from workers.checks.base import Check


def find_suspects(checks: Iterable[Check], campaign: Campaign) -> SuspectCondition:
    """Return the condition for customers whom at least one of some checks may block.

    Raises:
        UsageError: a check's `suspects` returned something other than a condition.
    """
    conditions: list[sa.ColumnElement[bool]] = []
    for check in checks:
        condition: object = True if check.suspects is None else check.suspects(campaign)
        if condition is True:
            return True
        if isinstance(condition, sa.ColumnElement):
            conditions.append(condition)
        elif condition is not False:
            raise UsageError(
                f"check {check.name}: suspects returned {shorten(condition)}; expected a condition"
                " on the table customers, True or False"
            )
    return sa.or_(*conditions) if conditions else False


def nobody(campaign: Campaign) -> bool:
    """Return False: the rule blocks no customer because of the customer's record alone."""
    return False
