"""Find the suspects of checks: the customers whom their rules may block."""

import logging
from collections.abc import Iterable
from reprlib import repr as shorten

import sqlalchemy as sa

from tracker.output.logs import LogFields
from tracker.record.catalog import Campaign
from workers.candidates import SuspectCondition
from workers.checks.base import Check

logger = logging.getLogger(__name__)


def find_suspects(checks: Iterable[Check], campaign: Campaign) -> SuspectCondition:
    """Return the condition for customers whom at least one of some checks may block."""
    conditions: list[sa.ColumnElement[bool]] = []
    for check in checks:
        condition = _call_suspects(check, campaign)
        if condition is True:
            return True
        if condition is not False:
            conditions.append(condition)
    return sa.or_(*conditions) if conditions else False


def _call_suspects(check: Check, campaign: Campaign) -> SuspectCondition:
    """Return the suspects of a check: everybody if it names none, or if naming them fails."""
    if check.suspects is None:
        return True
    try:
        return _validate_condition(check.suspects(campaign))
    except (Exception, SystemExit) as error:  # another package may raise anything
        fields = LogFields(check=check.name, campaign=campaign.id, error=error)
        logger.exception("check failed: %s", fields)
        return True


def _validate_condition(condition: object) -> SuspectCondition:
    if isinstance(condition, bool):
        return condition
    if isinstance(condition, sa.ColumnElement) and isinstance(condition.type, sa.Boolean):
        return condition
    raise TypeError(
        f"suspects returned {shorten(condition)}; expected a condition on the table customers,"
        " True or False"
    )


def nobody(campaign: Campaign) -> bool:
    """Return False: the rule blocks no customer because of the customer's record alone."""
    return False
