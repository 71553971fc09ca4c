"""Judge recorded campaigns again, with the code of the workers, without sending or writing.

Each message is judged as of the step that judged it, and compared with its recorded verdict.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.errors import NotFound
from tracker.queries.judgements import Judgement, read_judgements
from tracker.queries.message_lookup import find_customers_by_number
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from tracker.store.database import Database
from tracker.store.schema.integers import MAX_INTEGER
from tracker.store.schema.messages import messages
from tracker.text import pluralize
from workers.checks.base import checks_at_dispatch
from workers.checks.judging import FAILED_CHECK_REASON, Verdicts, merge_verdicts
from workers.rules.as_of import (
    PASSES,
    Rules,
    Verdict,
    count_recent_messages_as_of,
    judge_step_as_of,
    list_verdicts,
)
from workers.rules.unknown_answers import DoubtfulRules, are_answers_known
from workers.services.base import ServiceName

MESSAGES_PER_CHUNK = 10_000
"""Messages that are judged at a time; limits the memory."""

SAMPLES_PER_CHANGE = 3
"""Customers that are named as examples of each change of verdicts."""

VerdictChange = tuple[Verdict, Verdict]
"""The verdicts on a message: the recorded one, and the one under other rules."""

SERVICE_REASONS = {
    Reason.SUBSCRIPTION_SERVICE: ServiceName.SUBSCRIPTION,
    Reason.COUPON_ISSUE: ServiceName.COUPON,
    Reason.REFERRAL_SERVICE: ServiceName.REFERRAL,
}
"""Reasons that say that a service gave no answer, and the service."""

DISPATCH_REASONS = (
    Reason.OUT_OF_CREDIT,
    Reason.HANDLER_NOT_FOUND,
    Reason.TIMEOUT,
    Reason.STEP_FAILED,
)
"""Reasons of the step dispatch that don't depend on rules."""


@dataclass
class CheckErrors:
    """The checks that failed: by name, the number of messages, and the first error.

    Attributes:
        source_failures: the numbers of the messages on which a check failed with its source.
    """

    failure_counts: Counter[str] = field(default_factory=Counter)
    errors: dict[str, BaseException] = field(default_factory=dict)
    source_failures: set[int] = field(default_factory=set)

    def add(self, verdicts: Verdicts) -> None:
        """Add the failures of one step."""
        self.failure_counts += verdicts.failure_counts
        self.errors = verdicts.errors | self.errors
        self.source_failures.update(
            number for number, failure in verdicts.failures.items() if failure.is_of_source
        )

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
    instants: Mapping[Step, Mapping[int, Instant]],
    check_errors: CheckErrors,
) -> dict[int, Verdict]:
    """Judge messages as the workers do, step by step.

    Returns:
        The verdicts on messages that a check blocks, or else defers, by their numbers.

    Args:
        instants: for each check step, the instants as of which messages are judged, by number.
        check_errors: receives the failures of checks.
    """
    parts: list[Verdicts] = []
    blocked: set[int] = set()
    for step in CHECK_STEPS:
        remaining = {
            number: instant
            for number, instant in instants.get(step, {}).items()
            if number not in blocked
        }
        part = judge_step_as_of(database, rules, step, remaining)
        check_errors.add(part)
        parts.append(part)
        blocked.update(*part.blocked.values())
    return list_verdicts(merge_verdicts(parts))


def _judge_at_dispatch(
    database: Database,
    rules: Rules,
    judgements: Sequence[Judgement],
    verdicts: dict[int, Verdict],
    check_errors: CheckErrors,
) -> None:
    """Judge deferred messages again at dispatch, and others by checks with `again_at_dispatch`."""
    instants: dict[bool, dict[int, Instant]] = {True: {}, False: {}}
    for judgement in judgements:
        verdict = verdicts.get(judgement.number, PASSES)
        if verdict.reason is None and Step.DISPATCH in judgement.runs:
            at = judgement.runs[Step.DISPATCH].started_at
            instants[verdict is not PASSES][judgement.number] = at
    for number in instants[True]:
        del verdicts[number]
    for is_deferred, judged in instants.items():
        judging = replace(rules, checks=checks_at_dispatch(rules.checks, is_deferred=is_deferred))
        if judging.checks and judged:
            by_step = dict.fromkeys(CHECK_STEPS, judged)
            verdicts.update(judge_messages(database, judging, by_step, check_errors))


@dataclass
class VerdictDiff:
    """The differences between the recorded verdicts of a campaign and those of other rules.

    Attributes:
        compared_count: the number of messages that were compared.
        changes: the number of messages by change of verdict.
        samples: ids of some customers by change of verdict.
        not_compared: the number of messages whose verdict can't be rebuilt, by the cause.
    """

    compared_count: int = 0
    changes: Counter[VerdictChange] = field(default_factory=Counter)
    samples: defaultdict[VerdictChange, list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    not_compared: Counter[str] = field(default_factory=Counter)
    check_errors: CheckErrors = field(default_factory=CheckErrors)


def compare_rules(database: Database, installed: Rules, rules: Rules) -> VerdictDiff:
    """Judge a recorded campaign by other rules, and compare with the recorded verdicts.

    Each message is judged as of the steps that judged it. The message limit is evaluated again at
    dispatch. A verdict that dispatch gave for another reason stays unless a check blocks before.

    Args:
        installed: the installed rules, with the campaign as recorded.
        rules: the rules to judge by.
    """
    diff = VerdictDiff()
    for judgements in _read_chunks(database, rules.campaign):
        by_number = {judgement.number: judgement for judgement in judgements}
        doubtful = DoubtfulRules(rules, installed, by_number)
        is_known = are_answers_known(rules.campaign.services_kind)
        judging = rules if is_known else doubtful.make_rules()
        _compare_chunk(database, judging, judgements, diff, doubtful.doubts)
    return diff


def _compare_chunk(
    database: Database,
    rules: Rules,
    judgements: Sequence[Judgement],
    diff: VerdictDiff,
    doubts: Mapping[int, ServiceName],
) -> None:
    instants = {
        step: {
            judgement.number: judgement.runs[step].started_at
            for judgement in judgements
            if step in judgement.runs
        }
        for step in CHECK_STEPS
    }
    verdicts = judge_messages(database, rules, instants, diff.check_errors)
    _judge_at_dispatch(database, rules, judgements, verdicts, diff.check_errors)
    limited = _find_limited_messages(
        database, rules, [judged for judged in judgements if judged.number not in verdicts]
    )
    changed: dict[int, VerdictChange] = {}
    for judgement in judgements:
        verdict = verdicts.get(judgement.number)
        obstacle = _find_obstacle(judgement, verdict, doubts.get(judgement.number))
        if verdict is not None and judgement.number in diff.check_errors.source_failures:
            obstacle = f"the source of check {verdict.check} failed"
        if obstacle is not None:
            diff.not_compared[obstacle] += 1
            continue
        recorded = Verdict(judgement.reason, judgement.check_name)
        if verdict is None:
            verdict = _dispatch_verdict(judgement, recorded, limited)
        diff.compared_count += 1
        if verdict != recorded:
            changed[judgement.number] = (recorded, verdict)
    diff.changes.update(changed.values())
    _add_samples(database, rules.campaign, diff, changed)


def _find_obstacle(
    judgement: Judgement, verdict: Verdict | None, doubt: ServiceName | None
) -> str | None:
    """Return why a message can't be compared, or None.

    Args:
        verdict: the verdict that blocks or defers it now, if one does.
        doubt: the service whose answer is unknown and matters.
    """
    if doubt is not None:
        return f"what the {doubt} service answered then can't be rebuilt"
    is_unjudged = verdict is None and not judgement.runs.keys() >= set(CHECK_STEPS)
    if is_unjudged or Step.SUPPRESS not in judgement.runs:
        return "not judged yet"
    if verdict is not None and verdict.reason is None:
        return f"check {verdict.check} would defer them, so their outcome is unknown"
    reason = judgement.reason
    if reason is None or judgement.step not in CHECK_STEPS:
        return None
    if reason in (Reason.STEP_FAILED, Reason.TIMEOUT):
        return f"the step {judgement.step} failed, so no check judged them"
    service = SERVICE_REASONS.get(reason)
    if service is not None and (verdict is None or verdict.reason is not reason):
        return f"the {service} service gave no answer then, and its answer can't be rebuilt"
    return None


def _dispatch_verdict(
    judgement: Judgement, recorded: Verdict, limited: Mapping[int, bool]
) -> Verdict:
    """Return the verdict on a message that passes all checks: that of dispatch, or none."""
    if limited.get(judgement.number, False):
        return Verdict(Reason.MESSAGE_LIMIT)
    if judgement.step is Step.DISPATCH and recorded.reason not in DISPATCH_REASONS:
        return PASSES
    return PASSES if judgement.step in CHECK_STEPS else recorded


def _find_limited_messages(
    database: Database, rules: Rules, judgements: Sequence[Judgement]
) -> Mapping[int, bool]:
    """Return which messages the message limit blocks at dispatch."""
    limit = rules.campaign.organization.message_limit
    if limit is None:
        return {}
    runs = {judged.number: judged.runs.get(Step.DISPATCH) for judged in judgements}
    # Dispatches of an organization wait for each other, so their ends are in their order.
    counts = count_recent_messages_as_of(
        database,
        rules.campaign,
        {number: run.started_at for number, run in runs.items() if run is not None},
        {number: run.finished_at for number, run in runs.items() if run is not None},
    )
    return {number: count >= limit for number, count in counts.items()}


def _read_chunks(database: Database, campaign: Campaign) -> Iterator[list[Judgement]]:
    in_campaign = messages.c.campaign_id == campaign.id
    with database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(messages.c.number)).where(in_campaign))
    for first in range(0, -1 if last is None else last + 1, MESSAGES_PER_CHUNK):
        with database.read() as connection:
            yield read_judgements(connection, campaign, first, first + MESSAGES_PER_CHUNK - 1)


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
    numbers = [number] if 0 <= number <= MAX_INTEGER else []
    customer_ids = find_customers_by_number(connection, campaign.audience_id, numbers)
    if not customer_ids:
        raise NotFound(f"campaign {campaign.name} has no message {number}")
    return customer_ids[number]
