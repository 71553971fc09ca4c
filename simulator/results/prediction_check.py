"""A campaign's messages, and what went wrong on their way, held against what was predicted."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.oracle.oracle import Oracle
from simulator.oracle.outcomes import PredictedOutcomes
from simulator.setup.record import RunCampaign
from simulator.world import ledger
from simulator.world.behaviour import SIMULATED_GATEWAY_KIND
from tracker.record import receipts
from tracker.status import FINAL_STATUSES, SENT_STATUSES, Engagement, Reason, ReceiptVerdict, Status
from tracker.store.schema.messages import NO_REASON, messages, transitions

MAX_EXAMPLES = 5
"""Messages that differ from their prediction and are named; all are counted."""


@dataclass(frozen=True, kw_only=True)
class GatewayAnomalies:
    """How often something went wrong between the gateway and the record of a campaign.

    ``duplicate``, ``stale`` and ``unknown`` receipts did not count. Those of ``lost`` messages
    never came, and ``late_bounce`` ones bounced after they were delivered. ``refused`` is how often
    the gateway refused a message for now.
    """

    duplicate: int = 0
    stale: int = 0
    unknown: int = 0
    lost: int = 0
    late_bounce: int = 0
    refused: int = 0

    def __add__(self, other: "GatewayAnomalies") -> "GatewayAnomalies":
        return GatewayAnomalies(
            **{name: count + getattr(other, name) for name, count in vars(self).items()}
        )

    def __bool__(self) -> bool:
        return any(vars(self).values())


@dataclass(frozen=True)
class MessageDifference:
    """A message that did not end as predicted."""

    number: int
    predicted: str
    actual: str


@dataclass(frozen=True, kw_only=True)
class PredictionCheck:
    """A campaign's messages held against their prediction.

    Of the ``unsettled`` ones nothing can be said yet, when a run was ended early.
    Of the ``uncertain`` ones nothing was known before, as it depended on who came first;
    ``withheld`` could have been sent but for credit and message limit. ``engagement`` counts who,
    of those who got theirs, must have done what with it. ``expected`` must have gone
    wrong with those that were sent, and ``observed`` did. ``outcome_digest`` is a digest.
    """

    messages: int
    matching: int
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
        return self.messages - self.matching - self.unsettled

    @property
    def is_as_predicted(self) -> bool:
        """Whether all that has an end has the predicted one, and as much went wrong on its way."""
        return not self.differing and self.observed_anomalies == self.expected_anomalies


def check_prediction(
    connection: Connection,
    loaded: RunCampaign,
    oracle: Oracle,
    *,
    credit_is_scarce: bool,
    is_unfinished: bool = False,
) -> PredictionCheck:
    """Hold every message of a campaign against its prediction.

    Of an ``is_unfinished`` run only those that are settled; what went wrong is then taken for
    predicted, as the rest of it may have yet to come.
    """
    agreeing, uncertain, withheld, lost, unsettled = 0, 0, 0, 0, 0
    engagement: Counter[Engagement] = Counter(dict.fromkeys(Engagement, 0))
    differences, digest = list[MessageDifference](), hashlib.blake2b(digest_size=16)
    expected = GatewayAnomalies()
    for first, predicted in oracle.predict(credit_is_scarce=credit_is_scarce):
        actual = _read_outcomes(connection, loaded.campaign.id, first, len(predicted))
        statuses, reasons, attempts = actual
        for array in actual:
            digest.update(array.tobytes())
        same = (
            (predicted.statuses == statuses)
            & (predicted.reasons == reasons)
            & (predicted.attempts == attempts)
        )
        stopped_instead = (predicted.possible_reasons >> np.maximum(reasons, 0)) & 1 == 1
        same |= (statuses == Status.NOT_SENT) & stopped_instead
        in_hands = predicted.sent & predicted.unpredictable
        same |= in_hands & np.isin(statuses, list(SENT_STATUSES))
        same |= predicted.uncertain & (statuses != MISSING_STATUS)
        if is_unfinished:
            waits = _find_unsettled(statuses, attempts, loaded.campaign.attempts)
            unsettled += int(np.count_nonzero(waits))
            # They are neither right nor wrong, and what is in the gateway is not lost.
            agreeing -= int(np.count_nonzero(waits))
            same |= waits
            statuses = np.where(waits, Status.QUEUED, statuses)
        agreeing += int(np.count_nonzero(same))
        uncertain += int(np.count_nonzero(predicted.uncertain))
        allowance = np.isin(reasons, (Reason.OUT_OF_CREDIT, Reason.MESSAGE_LIMIT))
        withheld += int(np.count_nonzero(predicted.sent & allowance))
        expected += _count_expected_anomalies(predicted, statuses)
        lost += int(np.count_nonzero(statuses == Status.IN_GATEWAY))
        does = oracle.predict_engagement(first, len(predicted))
        # Only of what was delivered and stayed so does anybody hear: the gateway's side of it is
        # in SimulatedGateway.engagement.
        reached = statuses == Status.DELIVERED
        for kind in Engagement:
            engagement[kind] += int(np.count_nonzero(does[kind] & reached))
        for place in np.flatnonzero(~same)[: MAX_EXAMPLES - len(differences)]:
            was = (predicted.statuses[place], predicted.reasons[place], predicted.attempts[place])
            differences.append(
                MessageDifference(
                    first + int(place), _format_outcome(*was), _format_outcome(*actual[:, place])
                )
            )
    observed = _count_observed_anomalies(connection, loaded.campaign.id, lost)
    foreseen = loaded.campaign.gateway_kind == SIMULATED_GATEWAY_KIND and not is_unfinished
    return PredictionCheck(
        messages=loaded.size,
        matching=agreeing,
        uncertain=uncertain,
        unsettled=unsettled,
        withheld=withheld,
        expected_engagement=engagement,
        expected_anomalies=expected if foreseen else observed,
        observed_anomalies=observed,
        differences=tuple(differences),
        outcome_digest=digest.hexdigest(),
    )


def _count_expected_anomalies(
    predicted: PredictedOutcomes, statuses: NDArray[np.int8]
) -> GatewayAnomalies:
    """What must have gone wrong with messages that have these statuses."""
    sent = np.isin(statuses, list(SENT_STATUSES))
    late = predicted.late_bounce & sent
    return GatewayAnomalies(
        duplicate=int(predicted.duplicates[sent].sum()),
        stale=int(predicted.stale[sent].sum()),
        lost=int(np.count_nonzero(predicted.lost & sent)),
        late_bounce=int(np.count_nonzero(late)),
        refused=int(predicted.rejections[sent].sum()),
    )


def _count_observed_anomalies(
    connection: Connection, campaign_id: int, lost: int
) -> GatewayAnomalies:
    """What is on record as gone wrong with a campaign."""
    refused = receipts.count_refused_receipts(connection, [campaign_id])[campaign_id]
    late = sa.select(sa.func.count()).where(
        transitions.c.campaign_id == campaign_id,
        transitions.c.status == Status.HARD_BOUNCED,
        transitions.c.previous == Status.DELIVERED,
    )
    return GatewayAnomalies(
        duplicate=refused[ReceiptVerdict.DUPLICATE],
        stale=refused[ReceiptVerdict.STALE],
        unknown=refused[ReceiptVerdict.UNKNOWN],
        lost=lost,
        late_bounce=connection.scalar(late) or 0,
        refused=ledger.count_rejections(connection, [campaign_id]),
    )


def _find_unsettled(
    statuses: NDArray[np.int8], attempts: NDArray[np.int8], most_attempts: int
) -> NDArray[np.bool_]:
    """Messages that are there, and have yet to come to their end."""
    settled = np.isin(statuses, list(FINAL_STATUSES))
    settled |= (statuses == Status.SOFT_BOUNCED) & (attempts >= most_attempts)
    return np.asarray(~settled & (statuses != MISSING_STATUS))


MISSING_STATUS = -1
"""Stands where a message should be and is none."""


def _read_outcomes(
    connection: Connection, campaign_id: int, first: int, count: int
) -> NDArray[np.int8]:
    """Status, reason and attempt of messages as they are on record; shape (3, count)."""
    rows = connection.execute(
        sa.select(
            messages.c.number, messages.c.status, messages.c.reason, messages.c.attempt
        ).where(
            messages.c.campaign_id == campaign_id,
            messages.c.number.between(first, first + count - 1),
        )
    ).all()
    states = np.full((3, count), MISSING_STATUS, np.int8)
    if rows:
        columns = np.array(rows, np.int64).T
        states[:, columns[0] - first] = columns[1:]
    return states


def _format_outcome(status: int, reason: int, attempt: int) -> str:
    if status == MISSING_STATUS:
        return "missing"
    named = Status(status).slug
    if reason != NO_REASON:
        return f"{named}: {Reason(reason).slug}"
    return f"{named} on attempt {attempt}" if attempt else named
