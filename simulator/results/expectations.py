"""Compare a run with the expectations of its scenario."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from simulator.results.judgement import ConditionResult
from simulator.results.prediction_check import PredictionCheck, format_outcome, read_outcomes
from simulator.scenario.expected_file import SENT_KEYWORD
from simulator.setup.expected_outcomes import ExpectedOutcomes
from simulator.setup.run import Run, RunCampaign
from tracker.queries.message_lookup import find_customers_by_number
from tracker.status import SENT_STATUSES, Status
from tracker.store.schema.messages import NO_REASON

MAX_EXAMPLES = 5
"""Messages that an expectation names; all are counted."""

CHUNK_MESSAGES = 50_000
"""Messages that are read at a time; limits the memory."""

PARTIAL_CAUSE = "the run is partial"


@dataclass(frozen=True)
class UnexpectedOutcome:
    """A message that did not end as expected."""

    customer: str
    number: int
    expected: str
    actual: str


@dataclass(frozen=True, kw_only=True)
class ExpectationResult(ConditionResult):
    """An expectation and its result.

    Attributes:
        name: its key, or the campaign and the file.
        expected: the condition, or the number of customers in the file.
        actual: messages that the rule blocked, or messages that ended as the file says.
        differences: the first messages that did not end as the file says.
    """

    name: str
    expected: str
    actual: int
    differences: tuple[UnexpectedOutcome, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the result as `summary.json` has it."""
        return {
            "expectation": self.name,
            "expected": self.expected,
            "actual": self.actual,
            **super().as_json(),
            "differences": [asdict(difference) for difference in self.differences],
        }


def judge_expectations(
    connection: Connection,
    run: Run,
    checks: Sequence[PredictionCheck],
    *,
    unjudged_reason: str | None,
) -> tuple[ExpectationResult, ...]:
    """Compare a run with the expectations of its scenario.

    Args:
        unjudged_reason: why they can't be judged; None if they can.
    """
    blocked = {
        run_campaign.plan.name: check.not_predicted
        for run_campaign, check in zip(run.campaigns, checks, strict=True)
    }
    results = [
        *_judge_rules(run, blocked, unjudged_reason),
        *_judge_files(connection, run, unjudged_reason),
    ]
    return tuple(results)


def _judge_rules(
    run: Run, blocked: Mapping[str, Mapping[str, int]], unjudged_reason: str | None
) -> Iterator[ExpectationResult]:
    for expectation in run.scenario.expectations:
        actual = sum(
            counts.get(expectation.rule, 0)
            for campaign, counts in blocked.items()
            if expectation.campaign in (None, campaign)
        )
        yield ExpectationResult(
            name=expectation.key,
            expected=expectation.expression,
            actual=actual,
            holds=expectation.is_met_by(actual),
            unjudged_reason=unjudged_reason,
        )


def _judge_files(
    connection: Connection, run: Run, unjudged_reason: str | None
) -> Iterator[ExpectationResult]:
    for run_campaign in run.campaigns:
        expected, file = run_campaign.expected_outcomes, run_campaign.plan.expected_file
        if expected is None or file is None:
            continue
        count = len(expected.numbers)
        met, differences = _compare(connection, run_campaign, expected)
        yield ExpectationResult(
            name=f"{run_campaign.plan.name}: {file.name}",
            expected=f"{count:,} as in the file",
            actual=met,
            holds=met == count,
            unjudged_reason=unjudged_reason,
            differences=() if unjudged_reason else differences,
        )


def _compare(
    connection: Connection, run_campaign: RunCampaign, expected: ExpectedOutcomes
) -> tuple[int, tuple[UnexpectedOutcome, ...]]:
    """Return how many messages ended as expected, and the first that did not."""
    met = 0
    examples: list[tuple[int, int, str]] = []
    for begin in range(0, int(expected.numbers[-1]) + 1, CHUNK_MESSAGES):
        low, high = np.searchsorted(expected.numbers, [begin, begin + CHUNK_MESSAGES])
        if low == high:
            continue
        numbers, wanted = expected.numbers[low:high], expected.reasons[low:high]
        outcomes = read_outcomes(connection, run_campaign.campaign.id, begin, CHUNK_MESSAGES)
        statuses, reasons, attempts = outcomes[:, numbers - begin]
        is_met = np.where(
            wanted == NO_REASON,
            np.isin(statuses, list(SENT_STATUSES)),
            (statuses == Status.NOT_SENT) & (reasons == wanted),
        )
        met += int(np.count_nonzero(is_met))
        for index in np.flatnonzero(~is_met)[: MAX_EXAMPLES - len(examples)]:
            actual = format_outcome(statuses[index], reasons[index], attempts[index])
            examples.append((int(numbers[index]), int(wanted[index]), actual))
    customers = find_customers_by_number(
        connection, run_campaign.campaign.audience_id, [number for number, _, _ in examples]
    )
    return met, tuple(
        UnexpectedOutcome(customers[number], number, _format_expected(reason), actual)
        for number, reason, actual in examples
    )


def _format_expected(reason: int) -> str:
    return SENT_KEYWORD if reason == NO_REASON else format_outcome(Status.NOT_SENT, reason, 0)
