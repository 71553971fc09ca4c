"""What follows from a forced outcome: engagement, and a gateway that breaks."""

import os
import signal
import time
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulator.forced import ForcedOutcome
from tracker.status import IMPLIED_ENGAGEMENTS, Engagement, Reason

MEMORY_CHUNK_BYTES = 64 << 20
"""Bytes that the poison of an address takes at a time."""

_ENGAGEMENT_BY_OUTCOME = MappingProxyType(
    {
        ForcedOutcome.OPEN: Engagement.OPENED,
        ForcedOutcome.CLICK: Engagement.CLICKED,
        ForcedOutcome.SPAM: Engagement.SPAM,
        ForcedOutcome.UNSUBSCRIBE: Engagement.UNSUBSCRIBED,
    }
)

REASON_BY_POISON = MappingProxyType(
    {
        ForcedOutcome.POISON_RAISE: Reason.STEP_FAILED,
        ForcedOutcome.POISON_HANG: Reason.TIMEOUT,
        ForcedOutcome.POISON_KILL: Reason.STEP_FAILED,
        ForcedOutcome.POISON_MEMORY: Reason.STEP_FAILED,
    }
)
"""Outcomes that break the gateway before it accepts anything, with the reason for Not Sent."""


def derive_forced_engagement(forced: NDArray[np.int8]) -> dict[Engagement, NDArray[np.bool_]]:
    """Return which recipients engage how because their address forces it.

    Args:
        forced: codes of `ForcedOutcome`, one for each recipient; 0 for none.

    Returns:
        Arrays of the same length. Who clicks has opened, and who unsubscribes has clicked.
    """
    engagement = {kind: np.zeros(len(forced), np.bool_) for kind in Engagement}
    for outcome, kind in _ENGAGEMENT_BY_OUTCOME.items():
        for implied in {kind, *IMPLIED_ENGAGEMENTS.get(kind, ())}:
            engagement[implied] |= forced == outcome
    return engagement


def trigger_poison(poison: ForcedOutcome) -> None:
    """Break this process as a poison does: raise, hang, kill it, or exhaust the memory."""
    match poison:
        case ForcedOutcome.POISON_HANG:
            while True:
                time.sleep(1)
        case ForcedOutcome.POISON_KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case ForcedOutcome.POISON_MEMORY:
            chunks = []
            while True:
                chunks.append(bytearray(MEMORY_CHUNK_BYTES))
    raise RuntimeError("the recipient's address forces the gateway to fail")
