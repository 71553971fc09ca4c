"""Services of the shop: its coupons come from a file, everything else from the record."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from tracker.clock import Instant
from tracker.queries.message_lookup import find_customers_by_number
from tracker.record.catalog import Campaign
from tracker.store.database import Database
from workers.services.base import (
    Coupon,
    Service,
    ServiceAnswers,
    ServiceName,
    ServiceUnavailable,
    SqlServices,
)


class ShopServices:
    """The services of campaigns with `services = "shop"`."""

    def __init__(self, settings: str, database: Database) -> None:
        self._file = Path(os.environ.get("EXAMPLE_COUPONS", "coupons.json"))
        self._database = database
        self._record = SqlServices(settings, database)

    def find(self, name: ServiceName) -> Service:
        """Return the service of a name: coupon, subscription, referral or handler."""
        return self._find_coupons if name is ServiceName.COUPON else self._record.find(name)

    def _find_coupons(
        self, campaign: Campaign, numbers: Sequence[int], attempt: int, now: Instant
    ) -> ServiceAnswers:
        """Answer for customers, or raise `ServiceUnavailable`. Unknown customers have no coupon."""
        try:
            coupons = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ServiceUnavailable(f"{self._file}: {error}") from error
        with self._database.read() as connection:
            customer_ids = find_customers_by_number(connection, campaign.audience_id, numbers)
        return ServiceAnswers(
            {
                number: Coupon(**coupons[customer_id])
                for number, customer_id in customer_ids.items()
                if customer_id in coupons
            }
        )
