"""The Message-ID of an email that sendtrace sends, by which a later bounce is recognized.

It is the same on every attempt, so that duplicates can be recognized. It differs by database, even
if the clocks of two runs start at the same instant.
"""

import hashlib
import re
from typing import NamedTuple, Self

_MESSAGE_ID = re.compile(r"<(\d{1,10})\.(\d{1,10})\.([0-9a-f]{12})@[^<>\s]{1,255}>", re.ASCII)


class MessageId(NamedTuple):
    """The parts of a Message-ID.

    Attributes:
        digest: the result of `compute_digest` for the campaign.
    """

    number: int
    campaign_id: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the first of our Message-IDs in a text, None without one."""
        match = _MESSAGE_ID.search(text)
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]), match[3])

    @property
    def local_part(self) -> str:
        """The part before the domain, which is unique without it."""
        return f"{self.number}.{self.campaign_id}.{self.digest}"

    def format(self, domain: str) -> str:
        """Return the value of the header."""
        return f"<{self.local_part}@{domain}>"


def compute_digest(run_id: int, really_started_at: int | None, campaign: str) -> str:
    """Return the part of a Message-ID that differs between campaigns and between databases."""
    source = f"{run_id} {really_started_at} {campaign}"
    return hashlib.blake2b(source.encode(), digest_size=6).hexdigest()
