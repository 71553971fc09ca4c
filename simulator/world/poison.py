"""Poison: addresses that break the gateway."""

import os
import signal
import time
from types import MappingProxyType

from simulator.forced import ForcedOutcome
from tracker.status import Reason

MEMORY_CHUNK_BYTES = 64 << 20
"""Bytes that the poison of an address takes at a time."""

REASON_BY_POISON = MappingProxyType(
    {
        ForcedOutcome.POISON_RAISE: Reason.STEP_FAILED,
        ForcedOutcome.POISON_HANG: Reason.TIMEOUT,
        ForcedOutcome.POISON_KILL: Reason.STEP_FAILED,
        ForcedOutcome.POISON_MEMORY: Reason.STEP_FAILED,
    }
)
"""Outcomes that break the gateway before it accepts anything, with the reason for Not Sent."""


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
