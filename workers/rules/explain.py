"""One message explained: what every check says of it, and the values that each looked at."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_datetime
from tracker.errors import NotFound
from tracker.monitoring import CheckVerdict
from tracker.record.catalog import Campaign
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import NO_REASON, messages
from tracker.text import join_with_or
from workers.candidates import Candidate, load_candidates
from workers.checks.base import CHECK_STEPS, Check, judge_candidates
from workers.rules.rejudge import MESSAGES_PER_CHUNK, Rules, find_customer_id
from workers.services.base import load_services_factory


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What all checks say of a message. ``reason`` is the outcome, and ``blocking_check`` whose word it is.

    ``recorded_outcome`` is what the record says became of it, None where there is no message yet.
    """

    campaign: Campaign
    number: int
    customer_id: str
    verdicts: Sequence[CheckVerdict]
    reason: Reason | None
    blocking_check: str | None
    recorded_outcome: str | None


def explain(database: Database, rules: Rules, number: int, now: Instant) -> Explanation:
    """What every check says of a message, not only the first that speaks."""
    campaign = rules.campaign
    services = load_services_factory(campaign.services_kind)(campaign.services_settings, database)
    with database.read() as connection:
        customer_id = find_customer_id(connection, campaign, number)
        recorded_outcome = _load_recorded_outcome(connection, campaign, number)
    verdicts: list[CheckVerdict] = []
    for step in CHECK_STEPS:
        [candidate] = load_candidates(
            database, campaign, [number], step, services, now, is_last_try=True, until=now
        )
        checks = (check for check in rules.checks if check.step is step)
        verdicts += (_judge_with_check(check, candidate, now) for check in checks)
    blocking = next((each for each in verdicts if each.is_blocking), None)
    return Explanation(
        campaign=campaign,
        number=number,
        customer_id=customer_id,
        verdicts=verdicts,
        reason=None if blocking is None else blocking.reason,
        blocking_check=None if blocking is None else blocking.check,
        recorded_outcome=recorded_outcome,
    )


def _judge_with_check(check: Check, candidate: Candidate, now: Instant) -> CheckVerdict:
    result = judge_candidates([candidate], [check], to_datetime(now))
    error = next((repr(each) for each in result.errors.values()), None)
    looked_at: dict[str, object] = {}
    watched: Any = _RecordingProxy(candidate, "", looked_at)
    with suppress(Exception):  # the verdict is known; this is for the values alone
        check.rule(watched, to_datetime(now))
    reason = next(iter(result.blocked), None)
    return CheckVerdict(
        step=check.step,
        order=check.order,
        check=check.name,
        reason=reason,
        looked_at=looked_at,
        error=error,
    )


class _RecordingProxy:
    """Stands for a candidate, or a part of one, and notes which values are read."""

    def __init__(self, real: object, path: str, seen: dict[str, object]) -> None:
        self._target, self._path, self._values_read = real, path, seen

    def __getattr__(self, name: str) -> object:
        value = getattr(self._target, name)
        path = f"{self._path}{name}"
        if callable(value):
            return partial(self._record_call, value, path)
        if is_dataclass(value) or (isinstance(value, tuple) and hasattr(value, "_fields")):
            return _RecordingProxy(value, f"{path}.", self._values_read)
        self._values_read[path] = value
        return value

    def _record_call(self, method: Any, path: str, *arguments: object, **named: object) -> object:
        value: object = method(*arguments, **named)
        told = [*map(repr, arguments), *(f"{name}={each!r}" for name, each in named.items())]
        self._values_read[f"{path}({', '.join(told)})"] = value
        return value


def find_message_number(connection: Connection, campaign: Campaign, customer_id: str) -> int:
    """The number of a customer; :exc:`NotFound`, with the nearest ids, if there is none."""
    in_audience = customers.c.audience_id == campaign.audience_id
    number: int | None = connection.scalar(
        sa.select(customers.c.number).where(in_audience, customers.c.customer_id == customer_id)
    )
    if number is not None:
        return number
    some = connection.scalars(
        sa.select(customers.c.customer_id)
        .where(in_audience, customers.c.customer_id.startswith(customer_id[:2], autoescape=True))
        .limit(MESSAGES_PER_CHUNK)
    ).all()
    near = get_close_matches(customer_id, some, n=3)
    hint = f"; did you mean {join_with_or(near)}?" if near else ""
    raise NotFound(f"campaign {campaign.name} has no customer {customer_id!r}{hint}")


def _load_recorded_outcome(connection: Connection, campaign: Campaign, number: int) -> str | None:
    row = connection.execute(
        sa.select(messages.c.status, messages.c.reason, messages.c.attempt).where(
            messages.c.campaign_id == campaign.id, messages.c.number == number
        )
    ).one_or_none()
    if row is None:
        return None
    status = Status(row.status).slug
    return status if row.reason == NO_REASON else f"{status}: {Reason(row.reason).slug}"
