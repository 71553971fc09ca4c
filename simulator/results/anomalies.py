"""Anomalies at the gateway of a campaign: expected and observed."""

from dataclasses import asdict, dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.oracle.outcomes import PredictedOutcomes
from simulator.world import ledger
from tracker.queries.acceptances import count_refused_receipts
from tracker.status import SENT_STATUSES, ReceiptVerdict, Status
from tracker.store.schema.messages import transitions


@dataclass(frozen=True, kw_only=True)
class GatewayAnomalies:
    """Counts of the deviations of gateway and receipts from the normal course of a campaign.

    Attributes:
        duplicate: receipts that were counted before.
        stale: receipts of an earlier attempt.
        unknown: receipts of messages that were not submitted.
        lost: messages whose receipt never came.
        late_bounce: messages that bounced after delivery.
        refused: temporary rejections of a message.
    """

    duplicate: int = 0
    stale: int = 0
    unknown: int = 0
    lost: int = 0
    late_bounce: int = 0
    refused: int = 0

    def __add__(self, other: "GatewayAnomalies") -> "GatewayAnomalies":
        added = other.as_json()
        counts = {name: count + added[name] for name, count in self.as_json().items()}
        return GatewayAnomalies(**counts)

    def __bool__(self) -> bool:
        return any(self.as_json().values())

    def as_json(self) -> dict[str, int]:
        """Return the counts by their names."""
        return asdict(self)

    def is_between(self, least: "GatewayAnomalies", most: "GatewayAnomalies") -> bool:
        """Return whether each count is within the range of two others."""
        low, high = least.as_json(), most.as_json()
        return all(low[name] <= count <= high[name] for name, count in self.as_json().items())


NO_ANOMALIES = GatewayAnomalies()


def count_expected_anomalies(
    predicted: PredictedOutcomes, statuses: NDArray[np.int8]
) -> GatewayAnomalies:
    """Count the anomalies that messages with these statuses must have had."""
    sent = np.isin(statuses, list(SENT_STATUSES))
    return GatewayAnomalies(
        duplicate=int(predicted.duplicates[sent].sum()),
        stale=int(predicted.stale[sent].sum()),
        lost=int(np.count_nonzero(predicted.lost & sent)),
        late_bounce=int(np.count_nonzero(predicted.late_bounce & sent)),
        refused=int(predicted.rejections[sent].sum()),
    )


def count_observed_anomalies(
    connection: Connection, campaign_id: int, lost: int
) -> GatewayAnomalies:
    """Count the anomalies that the record and the gateway's ledger have of a campaign."""
    refused = count_refused_receipts(connection, [campaign_id])[campaign_id]
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
