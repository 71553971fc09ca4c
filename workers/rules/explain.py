"""Explain one message: the verdict of every check, and the values that each check read."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.errors import NotFound
from tracker.monitoring import CheckVerdict
from tracker.queries.campaign_state import Origin, read_origins
from tracker.queries.next_step import CHECK_STEPS
from tracker.queries.timeline import read_timeline
from tracker.record.catalog import Campaign
from tracker.settings import to_local_time
from tracker.status import Reason
from tracker.store.database import Database
from workers.candidates import Candidate
from workers.checks.base import Check
from workers.checks.judging import AnnounceCheck, RuleTimeout, run_checks
from workers.rules.as_of import Rules, load_candidates_as_of
from workers.rules.rejudge import find_customer_id
from workers.rules.running_rule import announce_rule


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The verdicts of all checks on one message.

    Attributes:
        origin: the campaign, its state and the time at which the record was read.
        at: the instant as of which the checks judge.
        reason: the reason that the message would get then; None if no check blocks it.
        blocking_check: the name of the check that gives this reason.
        detail: what this check says of the message.
        deferring: the verdict that makes the message wait the longest; None if it is blocked, or
            if no check defers it.
        recorded_outcome: the recorded status, with its reason and its details; None before the
            message is queued.
    """

    origin: Origin
    number: int
    customer_id: str
    at: Instant
    verdicts: Sequence[CheckVerdict]
    reason: Reason | None
    blocking_check: str | None
    detail: str | None
    deferring: CheckVerdict | None
    recorded_outcome: str | None


def build_explanation(
    database: Database,
    rules: Rules,
    number: int,
    at: Instant,
    announce: AnnounceCheck = announce_rule,
) -> Explanation:
    """Return the verdicts of all checks on a message as of an instant.

    `announce` receives the name of the check that runs, and None after it.

    Raises:
        NotFound: there is no such message.
    """
    campaign = rules.campaign
    with database.read() as connection:
        customer_id = find_customer_id(connection, campaign, number)
        [origin] = read_origins(connection, [campaign])
        recorded_outcome = _load_recorded_outcome(connection, campaign, number)
    verdicts: list[CheckVerdict] = []
    for step in CHECK_STEPS:
        [candidate] = load_candidates_as_of(database, campaign, step, {number: at})
        for check in rules.checks:
            if check.step is step:
                announce(check.name)
                verdicts.append(_judge_with_check(check, candidate, at))
                announce(None)
    blocking = next((verdict for verdict in verdicts if verdict.is_blocking), None)
    deferring = [verdict for verdict in verdicts if verdict.deferred_until and not blocking]
    return Explanation(
        origin=origin,
        number=number,
        customer_id=customer_id,
        at=at,
        verdicts=verdicts,
        reason=None if blocking is None else blocking.reason,
        blocking_check=None if blocking is None else blocking.check,
        detail=None if blocking is None else blocking.error or blocking.detail,
        deferring=max(deferring, key=attrgetter("deferred_until"), default=None),
        recorded_outcome=recorded_outcome,
    )


def _judge_with_check(check: Check, candidate: Candidate, now: Instant) -> CheckVerdict:
    at = to_local_time(now)
    bound = check.bind([candidate], is_last_try=True)
    verdicts = run_checks([candidate], [bound], at)
    # The verdict is that of the real candidate. A second call records the values that are read.
    values_read: dict[str, object] = {}
    deferral = verdicts.deferrals.get(candidate.number)
    proxy: Any = _RecordingProxy(candidate, "", values_read)
    if not isinstance(verdicts.errors.get(check.name), RuleTimeout):
        with suppress(Exception, SystemExit):
            if bound.data is not None:
                values_read["data"] = bound.data.get(candidate.number)
            check.rule(proxy, at, *values_read.values())
    return CheckVerdict(
        step=check.step,
        order=check.order,
        check=check.name,
        reason=next(iter(verdicts.blocked), None),
        looked_at=values_read,
        detail=verdicts.details.get(candidate.number),
        error=next((failure.error for failure in verdicts.failures.values()), None),
        deferred_until=None if deferral is None else deferral.until,
    )


class _RecordingProxy:
    """A stand-in for a candidate or a part of it, which records the values that a rule reads."""

    def __init__(self, target: object, path: str, values_read: dict[str, object]) -> None:
        self._target, self._path, self._values_read = target, path, values_read

    def __getattr__(self, name: str) -> object:
        value = getattr(self._target, name)
        path = f"{self._path}{name}"
        if callable(value):
            return partial(self._record_call, value, path)
        if is_dataclass(value) or (isinstance(value, tuple) and hasattr(value, "_fields")):
            return _RecordingProxy(value, f"{path}.", self._values_read)
        self._values_read[path] = value
        return value

    def _record_call(self, method: Any, path: str, *args: object, **kwargs: object) -> object:
        value: object = method(*args, **kwargs)
        arguments = [*map(repr, args), *(f"{name}={arg!r}" for name, arg in kwargs.items())]
        self._values_read[f"{path}({', '.join(arguments)})"] = value
        return value


def _load_recorded_outcome(connection: Connection, campaign: Campaign, number: int) -> str | None:
    """Return the status of a message, with its reason and note; None before it is queued."""
    try:
        last = read_timeline(connection, campaign, number).events[-1]
    except (NotFound, IndexError):
        return None
    reason = None if last.reason is None else last.reason.slug
    return ": ".join(text for text in (last.status.slug, reason, last.note) if text)
