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

from tracker.status import IMPLIES, Channel, Engagement, Status

DOMAIN = "simulator.example"

_ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


class Magic(IntEnum):
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
    def outcome(self) -> Status:
        """What becomes of each attempt; the receipt of a lost one does not come."""
        return _OUTCOMES.get(self, Status.DELIVERED)


_OUTCOMES = MappingProxyType(
    {
        Magic.BOUNCE: Status.HARD_BOUNCED,
        Magic.SOFTBOUNCE: Status.SOFT_BOUNCED,
        Magic.NOTDELIVERED: Status.NOT_DELIVERED,
    }
)

_ENGAGEMENTS = MappingProxyType(
    {
        Magic.OPEN: Engagement.OPENED,
        Magic.CLICK: Engagement.CLICKED,
        Magic.SPAM: Engagement.SPAM,
        Magic.UNSUBSCRIBE: Engagement.UNSUBSCRIBED,
    }
)

MOBILES = MappingProxyType(
    {
        "+61491570156": Magic.BOUNCE,
        "+61491570157": Magic.SOFTBOUNCE,
        "+61491570158": Magic.NOTDELIVERED,
        "+61491570159": Magic.LOST,
        "+61491570110": Magic.DELIVERED,
    }
)
"""By E.164 number. SMS has no engagement."""

_LOCAL_PARTS = {each.local_part: each for each in Magic}

POISONS = frozenset({Magic.POISON_RAISE, Magic.POISON_HANG, Magic.POISON_KILL, Magic.POISON_MEMORY})
"""What breaks the gateway before it accepts anything: it ends as Not Sent, and nobody else does."""


def break_down(poison: Magic) -> None:
    """Do to this process what a poison does."""
    match poison:
        case Magic.POISON_HANG:
            while True:
                time.sleep(1)
        case Magic.POISON_KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Magic.POISON_MEMORY:
            hoard = []
            while True:
                hoard.append(bytearray(HELPING))
    raise RuntimeError("the gateway breaks, as the address asks for")


HELPING = 64 << 20
"""Bytes that are eaten at once."""


def forced_engagement(forced: NDArray[np.int8]) -> dict[Engagement, NDArray[np.bool_]]:
    """Who does what because the address forces it; ``forced`` are codes of :class:`Magic` or 0.

    Arrays of one length. Who clicks has opened, and who unsubscribes has clicked.
    """
    does = {kind: np.zeros(len(forced), np.bool_) for kind in Engagement}
    for magic, kind in _ENGAGEMENTS.items():
        for done in {kind, *IMPLIES.get(kind, ())}:
            does[done] |= forced == magic
    return does


def forced_by(channel: Channel, recipient: str) -> Magic | None:
    """What a recipient forces: ``bounce@simulator.example``, or ``bounce+7@…`` to have many.

    With an address that is none a gateway can do nothing: it bounces for good.
    """
    if channel is Channel.SMS:
        return MOBILES.get(recipient)
    if _ADDRESS.fullmatch(recipient) is None:
        return Magic.BOUNCE
    local, _, domain = recipient.rpartition("@")
    if domain.lower() != DOMAIN:
        return None
    return _LOCAL_PARTS.get(local.partition("+")[0].lower())
