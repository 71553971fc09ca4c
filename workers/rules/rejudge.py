"""Recorded campaigns judged again, for those who write rules: by the workers' own code, with
nothing sent and nothing written.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_datetime
from tracker.errors import NotFound
from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import NO_REASON, messages
from tracker.store.schema.work import steps
from tracker.text import pluralize
from workers.candidates import load_candidates
from workers.checks.base import CHECK_STEPS, FAILED_CHECK_REASON, Check, Verdicts, judge_candidates
from workers.services.base import Services, load_services_factory

MESSAGES_PER_CHUNK = 10_000
"""Messages that are judged at a time: what bounds the memory."""

MAX_MESSAGE_NUMBER = 2**31 - 1
"""The highest number that the database can hold of a message."""

SAMPLES_PER_CHANGE = 3
"""Customers that are named for a change of verdicts."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What judges: checks in their order, and a campaign with its organization's settings."""

    campaign: Campaign
    checks: Sequence[Check]


@dataclass
class CheckErrors:
    """Checks that gave no verdict: on how many messages, and the first error of each."""

    failure_counts: Counter[str] = field(default_factory=Counter)
    errors: dict[str, BaseException] = field(default_factory=dict)

    def add(self, verdicts: Verdicts) -> None:
        self.failure_counts += verdicts.failure_counts
        self.errors = verdicts.errors | self.errors

    def format_lines(self) -> list[str]:
        return [
            f"the check {name} failed on {pluralize(count, 'message')}, first with"
            f" {self.errors[name]!r}; workers stop those for {FAILED_CHECK_REASON.slug}"
            for name, count in self.failure_counts.most_common()
        ]


def verdicts(
    database: Database,
    rules: Rules,
    services: Services,
    numbers: Sequence[int],
    now: Instant,
    check_errors: CheckErrors,
) -> dict[int, Reason]:
    """The reasons of those whom the checks stop, step by step, as the workers go. Checks that give
    no verdict are noted among the ``check_errors``."""
    blocked: dict[int, Reason] = {}
    for step in CHECK_STEPS:
        left = [number for number in numbers if number not in blocked]
        judged = _judge_step(database, rules, services, step, left, now)
        check_errors.add(judged)
        for reason, those in judged.blocked.items():
            blocked.update(dict.fromkeys(those, reason))
    return blocked


def _judge_step(
    database: Database,
    rules: Rules,
    services: Services,
    step: Step,
    numbers: Sequence[int],
    now: Instant,
) -> Verdicts:
    candidates = load_candidates(
        database, rules.campaign, numbers, step, services, now, is_last_try=True, until=now
    )
    checks = [check for check in rules.checks if check.step is step]
    return judge_candidates(candidates, checks, to_datetime(now))


@dataclass
class VerdictDiff:
    """How verdicts on a campaign's messages change: (from, to) with counts and some customers."""

    judged: int = 0
    changes: Counter[tuple[Reason | None, Reason | None]] = field(default_factory=Counter)
    samples: defaultdict[tuple[Reason | None, Reason | None], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    record_mismatches: int = 0
    """Messages that today's customers and installed checks, with nothing changed, would give
    another verdict than is on record."""
    check_errors: CheckErrors = field(default_factory=CheckErrors)


def compare_rules(database: Database, before: Rules, after: Rules) -> VerdictDiff:
    """Judge a recorded campaign again, by two sets of rules, as of when it was judged.

    The customers are as they are now: what has happened to them since counts for both.
    """
    campaign = before.campaign
    services = load_services_factory(campaign.services_kind)(campaign.services_settings, database)
    found, troubles_before, troubles_after = VerdictDiff(), CheckErrors(), CheckErrors()
    for numbers, recorded, judged_at in _read_recorded_chunks(database, campaign):
        old = verdicts(database, before, services, numbers, judged_at, troubles_before)
        new = verdicts(database, after, services, numbers, judged_at, troubles_after)
        found.judged += len(numbers)
        changed: dict[int, tuple[Reason | None, Reason | None]] = {}
        for number in numbers:
            change = (old.get(number), new.get(number))
            if change[0] is not change[1]:
                changed[number] = change
            on_record = recorded.get(number)
            if on_record in {check.reason for check in before.checks} | {None}:
                found.record_mismatches += change[0] is not on_record
        found.changes.update(changed.values())
        _add_samples(database, campaign, found, changed)
    found.check_errors = CheckErrors(
        troubles_before.failure_counts
        | troubles_after.failure_counts,  # most of them are the same check's
        troubles_before.errors | troubles_after.errors,
    )
    return found


def _read_recorded_chunks(
    database: Database, campaign: Campaign
) -> Iterator[tuple[Sequence[int], Mapping[int, Reason], Instant]]:
    """Message numbers, the reasons on record, and when the campaign was judged, chunk by chunk."""
    of_it = messages.c.campaign_id == campaign.id
    with database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(messages.c.number)).where(of_it))
        judged_at = connection.scalar(
            sa.select(sa.func.min(steps.c.started_at)).where(
                steps.c.campaign_id == campaign.id, steps.c.step == Step.SUPPRESS
            )
        )
    for first in range(0, -1 if last is None else last + 1, MESSAGES_PER_CHUNK):
        query = sa.select(messages.c.number, messages.c.reason).where(
            of_it, messages.c.number.between(first, first + MESSAGES_PER_CHUNK - 1)
        )
        with database.read() as connection:
            rows = connection.execute(query.order_by(messages.c.number)).all()
        recorded = {number: Reason(code) for number, code in rows if code != NO_REASON}
        yield [row.number for row in rows], recorded, judged_at or campaign.clock.now()


def _add_samples(
    database: Database,
    campaign: Campaign,
    found: VerdictDiff,
    changed: Mapping[int, tuple[Reason | None, Reason | None]],
) -> None:
    wanted = {
        number: change
        for number, change in changed.items()
        if len(found.samples[change]) < SAMPLES_PER_CHANGE
    }
    with database.read() as connection:
        for number, change in wanted.items():
            if len(found.samples[change]) < SAMPLES_PER_CHANGE:
                found.samples[change].append(find_customer_id(connection, campaign, number))


def find_customer_id(connection: Connection, campaign: Campaign, number: int) -> str:
    """Who a message is for; :exc:`NotFound` if there is no such message."""
    found: str | None = None
    if 0 <= number <= MAX_MESSAGE_NUMBER:  # somebody may type anything
        found = connection.scalar(
            sa.select(customers.c.customer_id).where(
                customers.c.audience_id == campaign.audience_id, customers.c.number == number
            )
        )
    if found is None:
        raise NotFound(f"campaign {campaign.name} has no message {number}")
    return found
