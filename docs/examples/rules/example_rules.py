"""Example rules: quiet hours, a hold-out group, and a blocklist."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zlib import crc32
from zoneinfo import ZoneInfo

from tracker.record.catalog import Campaign
from workers.candidates import Candidate, Customer
from workers.checks.base import Defer, check


@check("custom_rule", step="suppress", order=35)
def hold_out(candidate: Candidate, now: datetime) -> bool:
    """Block a control group: a share of the customers, the same ones in every campaign."""
    percent = candidate.campaign.rule_settings("hold_out").get("percent", 10)
    return bool(crc32(candidate.customer.customer_id.encode()) % 100 < percent)


@check("custom_rule", step="suppress", order=200, again_at_dispatch=True)
def quiet_hours(candidate: Candidate, now: datetime) -> bool | Defer:
    """Defer messages while it is night where the recipient may be."""
    settings = candidate.campaign.rule_settings("quiet_hours")
    if not settings:
        return False
    zones = candidate.customer.time_zones or (settings["time_zone"],)
    mornings = [
        find_morning(now.astimezone(ZoneInfo(zone)), settings["begin"], settings["end"])
        for zone in zones
    ]
    waits = [morning for morning in mornings if morning is not None]
    return Defer(max(waits)) if waits else False


def find_morning(local: datetime, begin: int, end: int) -> datetime | None:
    """Return when the night ends, or None by day. A night begins before midnight."""
    if end <= local.hour < begin:
        return None
    day = local + timedelta(days=local.hour >= begin)
    return day.replace(hour=end, minute=0, second=0, microsecond=0)


def load_blocklist(campaign: Campaign, customers: Sequence[Customer]) -> Mapping[int, bool]:
    """Return the customers whose ids the file has now, one id per line."""
    settings = campaign.rule_settings("blocklist")
    if not settings:
        return {}
    listed = set(Path(settings["file"]).read_text(encoding="utf-8").split())
    return {customer.number: True for customer in customers if customer.customer_id in listed}


@check("custom_rule", step="suppress", order=210, source=load_blocklist)
def blocklist(candidate: Candidate, now: datetime, data: bool | None) -> bool:
    """Block customers that a file lists."""
    return data is True
