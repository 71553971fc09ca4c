"""Predicted outcomes of messages, as arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracker.status import Status


@dataclass(frozen=True)
class PredictedOutcomes:
    """The predicted ends of consecutive messages, as arrays of one length.

    Attributes:
        statuses: codes of `Status`.
        reasons: codes of `Reason`; 0 without a reason.
        attempts: attempt of the last submission; 0 without a submission.
        possible_reasons: bits (1 << reason) of reasons that may block the message instead,
            depending on which concurrent campaign comes first.
        uncertain: whether nothing is known of the message.
        by_rule: whether a rule of another package blocked the message, or a person cancelled it,
            according to the record; its end isn't predicted.
        duplicates: receipts that arrive twice, if the message is sent.
        stale: receipts of an earlier attempt that arrive again, if the message is sent.
        lost: whether the message stays in the gateway without a receipt, if it is sent.
        late_bounce: whether the message bounces after delivery, if it is sent.
        unpredictable: whether only the gateway decides the outcome of the message.
        rejections: times that the gateway rejects the message temporarily, if it is sent.
    """

    statuses: NDArray[np.int8]
    reasons: NDArray[np.int8]
    attempts: NDArray[np.int8]
    possible_reasons: NDArray[np.int32]
    uncertain: NDArray[np.bool_]
    by_rule: NDArray[np.bool_]
    duplicates: NDArray[np.int16]
    stale: NDArray[np.int16]
    lost: NDArray[np.bool_]
    late_bounce: NDArray[np.bool_]
    unpredictable: NDArray[np.bool_]
    rejections: NDArray[np.int64]

    @classmethod
    def not_sent(cls, reasons: NDArray[np.int8]) -> "PredictedOutcomes":
        """Return the outcomes of messages that are Not Sent for these reasons."""
        count = len(reasons)
        return cls(
            statuses=np.full(count, Status.NOT_SENT, np.int8),
            reasons=reasons,
            attempts=np.zeros(count, np.int8),
            possible_reasons=np.zeros(count, np.int32),
            uncertain=np.zeros(count, np.bool_),
            by_rule=np.zeros(count, np.bool_),
            duplicates=np.zeros(count, np.int16),
            stale=np.zeros(count, np.int16),
            lost=np.zeros(count, np.bool_),
            late_bounce=np.zeros(count, np.bool_),
            unpredictable=np.zeros(count, np.bool_),
            rejections=np.zeros(count, np.int64),
        )

    @classmethod
    def unknown(cls, count: int) -> "PredictedOutcomes":
        """Return the outcomes of messages of which nothing is known."""
        outcomes = cls.not_sent(np.zeros(count, np.int8))
        outcomes.uncertain[:] = True
        return outcomes

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def sent(self) -> NDArray[np.bool_]:
        """True for each message that is sent."""
        return np.asarray(self.statuses != Status.NOT_SENT)
