"""Compare a campaign's messages, and the anomalies at its gateway, with the prediction."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.oracle.oracle import Oracle
from simulator.oracle.outcomes import PredictedOutcomes
from simulator.results.anomalies import (
    NO_ANOMALIES,
    GatewayAnomalies,
    count_expected_anomalies,
    count_observed_anomalies,
)
from simulator.setup.run import RunCampaign
from simulator.world.behaviour import SIMULATED_GATEWAY_KIND
from tracker.status import (
    FINAL_STATUSES,
    OPT_OUTS,
    SENT_STATUSES,
    Channel,
    Engagement,
    Reason,
    Status,
)
from tracker.store.arrays import read_columns
from tracker.store.schema.messages import NO_REASON, messages

MAX_EXAMPLES = 5
"""Differing messages that are named; all are counted."""

MISSING_STATUS = -1
"""Stands for the status of a message that has no row."""


@dataclass(frozen=True)
class MessageDifference:
    """A message that did not end as predicted."""

    number: int
    predicted: str
    actual: str


@dataclass(frozen=True, kw_only=True)
class PredictionCheck:
    """A campaign compared with its prediction.

    Attributes:
        matching: messages that ended as predicted, uncertain ones included.
        not_predicted: messages that rules of other packages blocked, by the rule.
        cancelled: messages that were cancelled before the gateway had them.
        uncertain: messages whose end depended on the order of concurrent campaigns.
        unsettled: messages that had not settled when the run was aborted.
        withheld: messages that only credit or the message limit blocked.
        expected_engagement: recipients of delivered messages who engage, by kind.
        differences: the first MAX_EXAMPLES messages that differ.
        outcome_digest: digest of status, reason and attempt of every message.
    """

    messages: int
    matching: int
    not_predicted: Mapping[str, int]
    cancelled: int
    uncertain: int
    unsettled: int
    withheld: int
    expected_engagement: Counter[Engagement]
    expected_anomalies: GatewayAnomalies
    observed_anomalies: GatewayAnomalies
    differences: tuple[MessageDifference, ...]
    outcome_digest: str

    @property
    def differing(self) -> int:
        """Messages that did not end as predicted."""
        return self.compared - self.matching

    @property
    def compared(self) -> int:
        """Messages that have settled, and that no rule of another package or person stopped."""
        not_compared = self.unsettled + sum(self.not_predicted.values()) + self.cancelled
        return self.messages - not_compared

    @property
    def is_as_predicted(self) -> bool:
        """True if every compared message and the number of anomalies match the prediction."""
        return not self.differing and self.observed_anomalies == self.expected_anomalies

    def as_json(self, campaign: str) -> dict[str, Any]:
        """Return the comparison of a campaign for JSON, as in `summary.json`."""
        engagement = self.expected_engagement
        return {
            "campaign": campaign,
            "messages": self.messages,
            "as_predicted": self.matching,
            "not_predicted": dict(self.not_predicted),
            "cancelled": self.cancelled,
            "uncertain": self.uncertain,
            "unsettled": self.unsettled,
            "engagement": {kind.slug: count for kind, count in sorted(engagement.items())},
            "gateway": {
                "predicted": self.expected_anomalies.as_json(),
                "actual": self.observed_anomalies.as_json(),
            },
            "refusals": {kind.slug: engagement[kind] for kind in sorted(OPT_OUTS)},
            "differences": [asdict(difference) for difference in self.differences],
            "fates": self.outcome_digest,
        }


def check_prediction(
    connection: Connection,
    run_campaign: RunCampaign,
    oracle: Oracle,
    *,
    scarce_channels: Collection[Channel],
    is_unfinished: bool = False,
) -> PredictionCheck:
    """Compare every message of a campaign with its prediction.

    Args:
        scarce_channels: the channels on which credit blocks some messages.
        is_unfinished: whether the run ended before its messages had settled. Those that have not
            are left out, and the observed anomalies count as predicted, as more may come.
    """
    campaign = run_campaign.campaign
    comparison = _Comparison()
    for first, predicted in oracle.predict(scarce_channels=scarce_channels):
        actual = read_outcomes(connection, campaign.id, first, len(predicted))
        unsettled = np.zeros(len(predicted), np.bool_)
        if is_unfinished:
            unsettled = _find_unsettled(predicted, actual, campaign.attempts)
        cut_off = oracle.facts.find_cut_off(oracle.campaign.name, first, len(predicted))
        unsettled &= ~cut_off
        engagement = oracle.predict_engagement(first, len(predicted))
        comparison.add(first, predicted, actual, unsettled, engagement, cut_off)
    observed = count_observed_anomalies(connection, campaign.id, comparison.lost)
    is_predictable = campaign.gateway_kind == SIMULATED_GATEWAY_KIND and not is_unfinished
    return PredictionCheck(
        messages=run_campaign.size,
        matching=comparison.matching,
        not_predicted=oracle.facts.count_rule_blocks(campaign.name),
        cancelled=oracle.facts.count_cancelled(campaign.name),
        uncertain=comparison.uncertain,
        unsettled=comparison.unsettled,
        withheld=comparison.withheld,
        expected_engagement=comparison.engagement,
        expected_anomalies=comparison.expect_anomalies(observed) if is_predictable else observed,
        observed_anomalies=observed,
        differences=tuple(comparison.differences),
        outcome_digest=comparison.digest.hexdigest(),
    )


@dataclass(kw_only=True)
class _Comparison:
    """The counts of a comparison in progress."""

    matching: int = 0
    uncertain: int = 0
    unsettled: int = 0
    withheld: int = 0
    lost: int = 0
    anomalies: GatewayAnomalies = NO_ANOMALIES
    cancelled_anomalies: GatewayAnomalies = NO_ANOMALIES
    engagement: Counter[Engagement] = field(
        default_factory=lambda: Counter(dict.fromkeys(Engagement, 0))
    )
    differences: list[MessageDifference] = field(default_factory=list)
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(
        self,
        first: int,
        predicted: PredictedOutcomes,
        actual: NDArray[np.int8],
        unsettled: NDArray[np.bool_],
        engagement: Mapping[Engagement, NDArray[np.bool_]],
        cut_off: NDArray[np.bool_],
    ) -> None:
        """Add consecutive messages; `actual` has their statuses, reasons and attempts."""
        statuses, reasons, _ = actual
        for values in actual:
            self.digest.update(values.tobytes())
        is_compared = ~unsettled & ~predicted.by_rule
        is_match = _find_matches(predicted, actual) | _find_cut(predicted, actual, cut_off)
        is_match &= is_compared
        settled_statuses = np.where(unsettled, Status.QUEUED, statuses)
        is_allowance = np.isin(reasons, (Reason.OUT_OF_CREDIT, Reason.MESSAGE_LIMIT))
        # Events are recorded only for messages that stay delivered; SimulatedGateway does the same.
        is_delivered = settled_statuses == Status.DELIVERED
        self.matching += int(np.count_nonzero(is_match))
        self.uncertain += int(np.count_nonzero(predicted.uncertain))
        self.unsettled += int(np.count_nonzero(unsettled))
        self.withheld += int(np.count_nonzero(predicted.sent & is_allowance))
        self.lost += int(np.count_nonzero(settled_statuses == Status.IN_GATEWAY))
        self.anomalies += count_expected_anomalies(
            predicted, np.where(cut_off, Status.NOT_SENT, settled_statuses)
        )
        is_cancelled = cut_off | (reasons == Reason.CANCELLED)
        self.cancelled_anomalies += count_expected_anomalies(
            predicted, np.where(is_cancelled, Status.SOFT_BOUNCED, Status.NOT_SENT)
        )
        for kind in Engagement:
            self.engagement[kind] += int(np.count_nonzero(engagement[kind] & is_delivered))
        is_difference = ~is_match & is_compared
        for index in np.flatnonzero(is_difference)[: MAX_EXAMPLES - len(self.differences)]:
            self.differences.append(_describe_difference(first, int(index), predicted, actual))

    def expect_anomalies(self, observed: GatewayAnomalies) -> GatewayAnomalies:
        """Return the expected anomalies: those observed, where a cancellation leaves that open.

        Which anomalies of the messages that it ended had happened by then isn't on record.
        """
        is_possible = observed.is_between(self.anomalies, self.anomalies + self.cancelled_anomalies)
        return observed if is_possible else self.anomalies


def _find_cut(
    predicted: PredictedOutcomes, actual: NDArray[np.int8], cut_off: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which messages soft-bounced as predicted, before a cancellation ended them."""
    return np.asarray(cut_off & predicted.sent & (actual[2] < predicted.attempts))


def _find_matches(predicted: PredictedOutcomes, actual: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which messages ended as predicted, or in a way that the prediction leaves open."""
    statuses, reasons, attempts = actual
    is_same = (
        (predicted.statuses == statuses)
        & (predicted.reasons == reasons)
        & (predicted.attempts == attempts)
    )
    is_possible_reason = (predicted.possible_reasons >> np.maximum(reasons, 0)) & 1 == 1
    is_blocked_instead = (statuses == Status.NOT_SENT) & is_possible_reason
    is_up_to_gateway = predicted.sent & predicted.unpredictable
    is_open_end = is_up_to_gateway & np.isin(statuses, list(SENT_STATUSES))
    is_uncertain = predicted.uncertain & (statuses != MISSING_STATUS)
    return np.asarray(is_same | is_blocked_instead | is_open_end | is_uncertain)


def _describe_difference(
    first: int, index: int, predicted: PredictedOutcomes, actual: NDArray[np.int8]
) -> MessageDifference:
    status, reason, attempt = actual[:, index]
    return MessageDifference(
        number=first + index,
        predicted=format_outcome(
            predicted.statuses[index], predicted.reasons[index], predicted.attempts[index]
        ),
        actual=format_outcome(status, reason, attempt),
    )


def _find_unsettled(
    predicted: PredictedOutcomes, actual: NDArray[np.int8], most_attempts: int
) -> NDArray[np.bool_]:
    """Return which recorded messages have not reached their final status.

    A late bounce that is predicted may be yet to come.
    """
    statuses, _, attempts = actual
    settled = np.isin(statuses, list(FINAL_STATUSES))
    settled |= (statuses == Status.SOFT_BOUNCED) & (attempts >= most_attempts)
    settled &= ~(predicted.late_bounce & (statuses == Status.DELIVERED))
    return np.asarray(~settled & (statuses != MISSING_STATUS))


def read_outcomes(
    connection: Connection, campaign_id: int, first: int, count: int
) -> NDArray[np.int8]:
    """Return the recorded status, reason and attempt of messages; shape (3, count)."""
    numbers, *columns = read_columns(
        connection,
        sa.select(
            messages.c.number, messages.c.status, messages.c.reason, messages.c.attempt
        ).where(
            messages.c.campaign_id == campaign_id,
            messages.c.number.between(first, first + count - 1),
        ),
    )
    states = np.full((3, count), MISSING_STATUS, np.int8)
    states[:, numbers - first] = columns
    return states


def format_outcome(status: int, reason: int, attempt: int) -> str:
    """Return the end of a message in words; codes are those of the record."""
    if status == MISSING_STATUS:
        return "missing"
    name = Status(status).slug
    if reason != NO_REASON:
        return f"{name}: {Reason(reason).slug}"
    return f"{name} on attempt {attempt}" if attempt else name
