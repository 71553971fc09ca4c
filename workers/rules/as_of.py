"""Judge messages as of earlier instants: with their customers as the record had them then."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from tracker.clock import Instant, to_microseconds
from tracker.queries.history import (
    CustomerBounces,
    CustomerHistory,
    read_customer_history,
    read_dispatch_history,
)
from tracker.record.catalog import Campaign
from tracker.settings import to_local_time
from tracker.status import Reason, Step
from tracker.store.database import Database
from workers.candidates import Candidate, RecentMessages, load_candidates
from workers.checks.base import BoundCheck, Check, shipped_check_names
from workers.checks.judging import (
    FAILED_CHECK_REASON,
    Verdicts,
    announcing,
    merge_verdicts,
    run_checks,
)
from workers.rules.running_rule import announce_rule
from workers.services.base import load_services


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Checks in their order, and a campaign with its organization's settings."""

    campaign: Campaign
    checks: Sequence[Check]


class Verdict(NamedTuple):
    """The decision of checks on a message, with the check unless the reason says which one it was.

    A message that a check defers has the check only; a message that passes has neither.
    """

    reason: Reason | None = None
    check: str | None = None

    def __str__(self) -> str:
        """Return the slug of the reason, with the check if there is one."""
        if self.reason is None:
            return "passes" if self.check is None else f"deferred ({self.check})"
        return self.reason.slug if self.check is None else f"{self.reason.slug} ({self.check})"


PASSES = Verdict()


def load_candidates_as_of(
    database: Database, campaign: Campaign, step: Step, instants: Mapping[int, Instant]
) -> list[Candidate]:
    """Return candidates with everything that the checks of a step read, each as of an instant.

    Bounces, opt-outs and recent messages are those of then, by message number. Everything else is
    as recorded now, and services answer now.
    """
    numbers = sorted(instants)
    services = load_services(campaign, database)
    candidates = load_candidates(
        database,
        campaign,
        numbers,
        step,
        services,
        max(instants.values(), default=0),
        is_last_try=True,
    )
    with database.read() as connection:
        history = read_customer_history(connection, database, campaign, numbers)
    recent = RecentMessages(
        lambda: count_recent_messages_as_of(database, campaign, instants, instants)
    )
    return [
        _rebuild_candidate(candidate, history, instants[candidate.number], recent)
        for candidate in candidates
    ]


def count_recent_messages_as_of(
    database: Database,
    campaign: Campaign,
    instants: Mapping[int, Instant],
    known_at: Mapping[int, Instant],
) -> Mapping[int, int]:
    """Return the recent messages to customers at instants, as the record knew them at others."""
    period = timedelta(days=campaign.organization.message_limit_days)
    with database.read() as connection:
        history = read_dispatch_history(
            connection, database, campaign, sorted(instants), to_microseconds(period)
        )
    return {
        number: history.count_recent(number, instant, known_at[number])
        for number, instant in instants.items()
    }


def _rebuild_candidate(
    candidate: Candidate, history: CustomerHistory, instant: Instant, recent: RecentMessages
) -> Candidate:
    """Return a candidate with the values of an instant."""
    number, customer, subscription = candidate.number, candidate.customer, candidate.subscription
    if number in history.outcomes:
        bounces = history.bounces_at(
            number, CustomerBounces(customer.hard_bounces, customer.soft_bounces), instant
        )
        customer = customer._replace(hard_bounces=bounces.hard, soft_bounces=bounces.soft)
    if subscription is not None and number in history.opt_outs:
        subscription = subscription._replace(
            unsubscribed=subscription.unsubscribed and history.had_opted_out(number, instant),
            marked_spam=subscription.marked_spam and history.had_marked_spam(number, instant),
        )
    return candidate._replace(customer=customer, subscription=subscription, recent_messages=recent)


def judge_step_as_of(
    database: Database, rules: Rules, step: Step, instants: Mapping[int, Instant]
) -> Verdicts:
    """Judge messages with the checks of a step, each as of an instant, by message number.

    The source of a check is called once, with all of their customers.
    """
    candidates = load_candidates_as_of(database, rules.campaign, step, instants)
    bound_checks = _announce_foreign(
        check.bind(candidates, is_last_try=True) for check in rules.checks if check.step is step
    )
    by_instant: defaultdict[Instant, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_instant[instants[candidate.number]].append(candidate)
    return merge_verdicts(
        run_checks(judged, bound_checks, to_local_time(instant))
        for instant, judged in by_instant.items()
    )


def _announce_foreign(bound_checks: Iterable[BoundCheck]) -> list[BoundCheck]:
    """Return checks; those of other packages announce each call."""
    shipped = shipped_check_names()
    return [
        bound if bound.check.name in shipped else announcing(bound, announce_rule)
        for bound in bound_checks
    ]


def list_verdicts(verdicts: Verdicts) -> dict[int, Verdict]:
    """Return the verdicts on blocked and deferred messages, by their numbers."""
    by_number = {
        number: Verdict(None, deferral.check_name)
        for number, deferral in verdicts.deferrals.items()
    }
    for check, numbers in verdicts.by_check.items():
        name = None if check.is_evident else check.name
        by_number.update(dict.fromkeys(numbers, Verdict(check.reason, name)))
    for number, failure in verdicts.failures.items():
        by_number[number] = Verdict(FAILED_CHECK_REASON, failure.check_name)
    return by_number
