"""Example rules: a hold-out group."""

from datetime import datetime
from zlib import crc32

from workers.candidates import Candidate
from workers.checks.base import check

HOLD_OUT_PERCENT = 10


@check("custom_rule", step="suppress", order=35)
def hold_out(candidate: Candidate, now: datetime) -> bool:
    """Block a tenth of the customers, the same ones in every campaign, to compare with."""
    return crc32(candidate.customer.customer_id.encode()) % 100 < HOLD_OUT_PERCENT
