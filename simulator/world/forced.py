"""Addresses and numbers that force an outcome, for demos and tests.

The domain can belong to nobody (RFC 2606), and the mobile numbers are set aside for fiction by the
Australian regulator (ACMA, "Phone numbers for use in TV shows, films and creative works").
"""

import os
import re
import signal
import time
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tracker.status import IMPLIED_ENGAGEMENTS, Channel, Engagement, Status

FORCED_OUTCOME_DOMAIN = "simulator.example"

_EMAIL_PATTERN = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


class ForcedOutcome(IntEnum):
    """What an address forces. Codes are what the gateway writes down."""

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
        """What stands before the @ of an address, without a tag."""
        return self.name.lower().replace("_", "-")

    @property
    def status(self) -> Status:
        """What becomes of each attempt; the receipt of a lost one does not come."""
        return _STATUS_BY_OUTCOME.get(self, Status.DELIVERED)


_STATUS_BY_OUTCOME = MappingProxyType(
    {
        ForcedOutcome.BOUNCE: Status.HARD_BOUNCED,
        ForcedOutcome.SOFTBOUNCE: Status.SOFT_BOUNCED,
        ForcedOutcome.NOTDELIVERED: Status.NOT_DELIVERED,
    }
)

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
"""By E.164 number. SMS has no engagement."""

_OUTCOME_BY_LOCAL_PART = {each.local_part: each for each in ForcedOutcome}

POISON_OUTCOMES = frozenset(
    {
        ForcedOutcome.POISON_RAISE,
        ForcedOutcome.POISON_HANG,
        ForcedOutcome.POISON_KILL,
        ForcedOutcome.POISON_MEMORY,
    }
)
"""What breaks the gateway before it accepts anything: it ends as Not Sent, and nobody else does."""


def trigger_poison(poison: ForcedOutcome) -> None:
    """Do to this process what a poison does."""
    match poison:
        case ForcedOutcome.POISON_HANG:
            while True:
                time.sleep(1)
        case ForcedOutcome.POISON_KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case ForcedOutcome.POISON_MEMORY:
            hoard = []
            while True:
                hoard.append(bytearray(MEMORY_CHUNK_BYTES))
    raise RuntimeError("the gateway breaks, as the address asks for")


MEMORY_CHUNK_BYTES = 64 << 20
"""Bytes that are eaten at once."""


def derive_forced_engagement(forced: NDArray[np.int8]) -> dict[Engagement, NDArray[np.bool_]]:
    """Who does what because the address forces it; ``forced`` are codes of :class:`ForcedOutcome` or 0.

    Arrays of one length. Who clicks has opened, and who unsubscribes has clicked.
    """
    does = {kind: np.zeros(len(forced), np.bool_) for kind in Engagement}
    for magic, kind in _ENGAGEMENT_BY_OUTCOME.items():
        for done in {kind, *IMPLIED_ENGAGEMENTS.get(kind, ())}:
            does[done] |= forced == magic
    return does


def find_forced_outcome(channel: Channel, recipient: str) -> ForcedOutcome | None:
    """What a recipient forces: ``bounce@simulator.example``, or ``bounce+7@…`` to have many.

    With an address that is none a gateway can do nothing: it bounces for good.
    """
    if channel is Channel.SMS:
        return OUTCOME_BY_MOBILE.get(recipient)
    if _EMAIL_PATTERN.fullmatch(recipient) is None:
        return ForcedOutcome.BOUNCE
    local, _, domain = recipient.rpartition("@")
    if domain.lower() != FORCED_OUTCOME_DOMAIN:
        return None
    return _OUTCOME_BY_LOCAL_PART.get(local.partition("+")[0].lower())
