"""Addresses and mobile numbers that force an outcome, for demos and tests.

The domain is reserved (RFC 2606). The Australian regulator reserves the mobile numbers for
fiction (ACMA, "Phone numbers for use in TV shows, films and creative works").
"""

import os
import re
import signal
import time
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tracker.status import IMPLIED_ENGAGEMENTS, Channel, Engagement, Reason, Status

FORCED_OUTCOME_DOMAIN = "simulator.example"

MEMORY_CHUNK_BYTES = 64 << 20
"""Bytes that the poison of an address takes at a time."""

_EMAIL_PATTERN = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


class ForcedOutcome(IntEnum):
    """An outcome that a recipient's address forces. The ledger stores the codes."""

    BOUNCE = 1
    SOFTBOUNCE = 2
    NOTDELIVERED = 3
    LOST = 4
    DELIVERED = 5
    OPEN = 6
    CLICK = 7
    SPAM = 8
    UNSUBSCRIBE = 9
    POISON_RAISE = 10
    POISON_HANG = 11
    POISON_KILL = 12
    POISON_MEMORY = 13

    @property
    def local_part(self) -> str:
        """The part of an email address before the @, without a tag."""
        return self.name.lower().replace("_", "-")

    @property
    def status(self) -> Status:
        """The status that each attempt leads to. LOST is delivered, but no receipt says so."""
        match self:
            case ForcedOutcome.BOUNCE:
                return Status.HARD_BOUNCED
            case ForcedOutcome.SOFTBOUNCE:
                return Status.SOFT_BOUNCED
            case ForcedOutcome.NOTDELIVERED:
                return Status.NOT_DELIVERED
            case _:
                return Status.DELIVERED


_ENGAGEMENT_BY_OUTCOME = MappingProxyType(
    {
        ForcedOutcome.OPEN: Engagement.OPENED,
        ForcedOutcome.CLICK: Engagement.CLICKED,
        ForcedOutcome.SPAM: Engagement.SPAM,
        ForcedOutcome.UNSUBSCRIBE: Engagement.UNSUBSCRIBED,
    }
)

OUTCOME_BY_MOBILE = MappingProxyType(
    {
        "+61491570156": ForcedOutcome.BOUNCE,
        "+61491570157": ForcedOutcome.SOFTBOUNCE,
        "+61491570158": ForcedOutcome.NOTDELIVERED,
        "+61491570159": ForcedOutcome.LOST,
        "+61491570110": ForcedOutcome.DELIVERED,
    }
)
"""Outcomes by E.164 number. SMS has no engagement."""

_OUTCOME_BY_LOCAL_PART = {outcome.local_part: outcome for outcome in ForcedOutcome}

REASON_BY_POISON = MappingProxyType(
    {
        ForcedOutcome.POISON_RAISE: Reason.STEP_FAILED,
        ForcedOutcome.POISON_HANG: Reason.TIMEOUT,
        ForcedOutcome.POISON_KILL: Reason.STEP_FAILED,
        ForcedOutcome.POISON_MEMORY: Reason.STEP_FAILED,
    }
)
"""Outcomes that break the gateway before it accepts anything, with the reason for Not Sent."""


def find_forced_outcome(channel: Channel, recipient: str) -> ForcedOutcome | None:
    """Return the outcome that a recipient forces, or None.

    A tag keeps addresses apart: `bounce+7@simulator.example`. A malformed email address bounces
    hard, because a gateway can do nothing else with it.
    """
    if channel is Channel.SMS:
        return OUTCOME_BY_MOBILE.get(recipient)
    if _EMAIL_PATTERN.fullmatch(recipient) is None:
        return ForcedOutcome.BOUNCE
    local_part, _, domain = recipient.rpartition("@")
    if domain.lower() != FORCED_OUTCOME_DOMAIN:
        return None
    return _OUTCOME_BY_LOCAL_PART.get(local_part.partition("+")[0].lower())


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
