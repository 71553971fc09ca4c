"""Addresses and mobile numbers that force an outcome, for demos and tests.

The domain is reserved (RFC 2606). The Australian regulator reserves the mobile numbers for
fiction (ACMA, "Phone numbers for use in TV shows, films and creative works").
"""

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from types import MappingProxyType

from tracker.status import Channel, Status
from workers.addresses import is_well_formed, parse_address

FORCED_OUTCOME_DOMAIN = "simulator.example"


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
    MALFORMED = 14

    @property
    def local_part(self) -> str:
        """The part of an email address before the @, without a tag."""
        return self.name.lower().replace("_", "-")

    @property
    def status(self) -> Status:
        """The status that each attempt leads to. LOST is delivered, but no receipt says so."""
        match self:
            case ForcedOutcome.BOUNCE | ForcedOutcome.MALFORMED:
                return Status.HARD_BOUNCED
            case ForcedOutcome.SOFTBOUNCE:
                return Status.SOFT_BOUNCED
            case ForcedOutcome.NOTDELIVERED:
                return Status.NOT_DELIVERED
            case _:
                return Status.DELIVERED


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


def find_forced_outcome(channel: Channel, recipient: str) -> ForcedOutcome | None:
    """Return the outcome that a recipient forces, or None.

    A tag keeps addresses apart: `bounce+7@simulator.example`. A malformed email address bounces
    hard, because no mail server accepts it.
    """
    if channel is Channel.SMS:
        return OUTCOME_BY_MOBILE.get(recipient)
    if not is_well_formed(recipient):
        return ForcedOutcome.MALFORMED
    local_part, _, domain = recipient.rpartition("@")
    if domain.lower() != FORCED_OUTCOME_DOMAIN:
        return None
    return _OUTCOME_BY_LOCAL_PART.get(local_part.partition("+")[0].lower())


_FORCES_NOTHING = re.compile(
    r"^[A-Za-z0-9_+-]{1,20}(?:\.[A-Za-z0-9_+-]{1,20}){0,2}"
    rf"@(?!{re.escape(FORCED_OUTCOME_DOMAIN)}$)(?:[a-z0-9]{{1,40}}\.){{1,3}}[a-z]{{1,40}}$",
    re.MULTILINE,
)
"""Lines with common email addresses, which force nothing. Others may force nothing, too."""


def find_forced_outcomes(
    channel: Channel, recipients: Sequence[str]
) -> Iterator[tuple[int, ForcedOutcome]]:
    """Yield the position of each recipient who forces an outcome, and the outcome.

    Most email addresses are recognized together, which takes a fraction of the time.
    """
    lines = recipients
    if channel is Channel.EMAIL:
        lines = _FORCES_NOTHING.sub("", "\n".join(recipients)).split("\n")
        if len(lines) != len(recipients):
            lines = recipients  # an address contains a line break
    for position, recipient in enumerate(recipients):
        if lines[position] == recipient:
            outcome = find_forced_outcome(channel, recipient)
            if outcome is not None:
                yield position, outcome


def find_email_key(email: str | None) -> str | None:
    """Return the text by which an address is compared with others.

    None for a missing or malformed address, and for one that forces an outcome: it stands for many
    recipients.
    """
    address = None if email is None else parse_address(email)
    if address is None or find_forced_outcome(Channel.EMAIL, address.text) is not None:
        return None
    return address.key


def find_mobile_key(mobile_e164: str | None) -> str | None:
    """Return the text by which a mobile number is compared; None as for addresses."""
    return None if mobile_e164 in OUTCOME_BY_MOBILE else mobile_e164
