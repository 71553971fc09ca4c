"""Judge recorded campaigns again, with the code of the workers, without sending or writing."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_datetime
from tracker.errors import NotFound
from tracker.queries.next_step import CHECK_STEPS
from tracker.queries.timeline import MAX_NUMBER
from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import NO_REASON, messages
from tracker.store.schema.work import steps
from tracker.text import pluralize
from workers.candidates import load_candidates
from workers.checks.base import FAILED_CHECK_REASON, Check, Verdicts, judge_candidates
from workers.services.base import load_services

MESSAGES_PER_CHUNK = 10_000
"""Messages that are judged at a time; limits the memory."""

SAMPLES_PER_CHANGE = 3
"""Customers that are named as examples of each change of verdicts."""

VerdictChange = tuple[Reason | None, Reason | None]
"""The reasons of a message before and after a change of rules; None if it passes."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Checks in their order, and a campaign with its organization's settings."""

    campaign: Campaign
    checks: Sequence[Check]


@dataclass
class CheckErrors:
    """The checks that failed: by name, the number of messages, and the first error."""

    failure_counts: Counter[str] = field(default_factory=Counter)
    errors: dict[str, BaseException] = field(default_factory=dict)

    def add(self, verdicts: Verdicts) -> None:
        """Add the failures of one step."""
        self.failure_counts += verdicts.failure_counts
        self.errors = verdicts.errors | self.errors

    def format_lines(self) -> list[str]:
        """Return a line for each check, the one with the most failures first."""
        return [
            f"check {name} failed on {pluralize(count, 'message')}, first with"
            f" {self.errors[name]!r}; workers block them with reason {FAILED_CHECK_REASON.slug}"
            for name, count in self.failure_counts.most_common()
        ]


def judge_messages(
    database: Database,
    rules: Rules,
    numbers: Sequence[int],
    now: Instant,
    check_errors: CheckErrors,
) -> dict[int, Reason]:
    """Judge messages as the workers do, step by step, and return the reasons of the blocked ones.

    Failures of checks are added to `check_errors`.
    """
    reasons: dict[int, Reason] = {}
    for step in CHECK_STEPS:
        remaining = [number for number in numbers if number not in reasons]
        verdicts = _judge_step(database, rules, step, remaining, now)
        check_errors.add(verdicts)
        for reason, blocked in verdicts.blocked.items():
            reasons.update(dict.fromkeys(blocked, reason))
    return reasons


def _judge_step(
    database: Database, rules: Rules, step: Step, numbers: Sequence[int], now: Instant
) -> Verdicts:
    services = load_services(rules.campaign, database)
    candidates = load_candidates(
        database, rules.campaign, numbers, step, services, now, is_last_try=True, until=now
    )
    checks = [check for check in rules.checks if check.step is step]
    return judge_candidates(candidates, checks, to_datetime(now))


@dataclass
class VerdictDiff:
    """The differences between the verdicts of two sets of rules on a campaign.

    Attributes:
        changes: the number of messages by change of verdict.
        samples: ids of some customers by change of verdict.
        record_mismatches: messages whose recorded reason differs from the verdict of the unchanged
            rules, because customers or installed checks have changed since.
    """

    judged_count: int = 0
    changes: Counter[VerdictChange] = field(default_factory=Counter)
    samples: defaultdict[VerdictChange, list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    record_mismatches: int = 0
    check_errors: CheckErrors = field(default_factory=CheckErrors)


def compare_rules(database: Database, before: Rules, after: Rules) -> VerdictDiff:
    """Judge a recorded campaign by two sets of rules, as of the time of its first step.

    Both sets judge the customers as they are recorded now.
    """
    campaign = before.campaign
    diff, errors_before, errors_after = VerdictDiff(), CheckErrors(), CheckErrors()
    possible_reasons = {check.reason for check in before.checks} | {None}
    for numbers, recorded, judged_at in _read_recorded_chunks(database, campaign):
        reasons_before = judge_messages(database, before, numbers, judged_at, errors_before)
        reasons_after = judge_messages(database, after, numbers, judged_at, errors_after)
        diff.judged_count += len(numbers)
        changed: dict[int, VerdictChange] = {}
        for number in numbers:
            change = (reasons_before.get(number), reasons_after.get(number))
            if change[0] is not change[1]:
                changed[number] = change
            recorded_reason = recorded.get(number)
            if recorded_reason in possible_reasons:
                diff.record_mismatches += change[0] is not recorded_reason
        diff.changes.update(changed.values())
        _add_samples(database, campaign, diff, changed)
    # Most failures are those of a check that is in both sets, so they aren't added up.
    diff.check_errors = CheckErrors(
        errors_before.failure_counts | errors_after.failure_counts,
        errors_before.errors | errors_after.errors,
    )
    return diff


def _read_recorded_chunks(
    database: Database, campaign: Campaign
) -> Iterator[tuple[Sequence[int], Mapping[int, Reason], Instant]]:
    """Yield message numbers, their recorded reasons, and the time of the campaign's first step."""
    in_campaign = messages.c.campaign_id == campaign.id
    with database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(messages.c.number)).where(in_campaign))
        judged_at = connection.scalar(
            sa.select(sa.func.min(steps.c.started_at)).where(
                steps.c.campaign_id == campaign.id, steps.c.step == Step.SUPPRESS
            )
        )
    for first in range(0, -1 if last is None else last + 1, MESSAGES_PER_CHUNK):
        query = sa.select(messages.c.number, messages.c.reason).where(
            in_campaign, messages.c.number.between(first, first + MESSAGES_PER_CHUNK - 1)
        )
        with database.read() as connection:
            rows = connection.execute(query.order_by(messages.c.number)).all()
        recorded = {number: Reason(code) for number, code in rows if code != NO_REASON}
        yield [row.number for row in rows], recorded, judged_at or campaign.clock.now()


def _add_samples(
    database: Database,
    campaign: Campaign,
    diff: VerdictDiff,
    changed: Mapping[int, VerdictChange],
) -> None:
    with database.read() as connection:
        for number, change in changed.items():
            if len(diff.samples[change]) < SAMPLES_PER_CHANGE:
                diff.samples[change].append(find_customer_id(connection, campaign, number))


def find_customer_id(connection: Connection, campaign: Campaign, number: int) -> str:
    """Return the id of a message's customer; raise `NotFound` if there is no such message."""
    customer_id: str | None = None
    if 0 <= number <= MAX_NUMBER:
        customer_id = connection.scalar(
            sa.select(customers.c.customer_id).where(
                customers.c.audience_id == campaign.audience_id, customers.c.number == number
            )
        )
    if customer_id is None:
        raise NotFound(f"campaign {campaign.name} has no message {number}")
    return customer_id
