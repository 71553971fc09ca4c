"""What each message must end as, computed before the run and without the workers' code.

From the labels of its customers and from the draws, never by asking a check. Where an outcome
depends on who comes first (credit), the oracle predicts how many, not who.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from simulator.fates import is_malformed, outcomes
from simulator.labels import SOUND, planted
from simulator.scenario import Campaign, Scenario
from tracker.database import Database
from tracker.schema import NO_REASON, customers
from tracker.status import Channel, Reason, Status

CHUNK = 50_000
"""Messages that are predicted at a time: what bounds the memory."""

MALFORMED = -1
"""Stands for a customer whose address the gateway will refuse for good."""


@dataclass(frozen=True)
class Fates:
    """What messages end as: three arrays of one length, of codes of Status and Reason."""

    statuses: NDArray[np.int8]
    reasons: NDArray[np.int8]
    attempts: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.statuses)


def labels_of_records(
    database: Database, audience_id: int, scenario: Scenario, campaign: Campaign, today: date
) -> NDArray[np.int8]:
    """The labels of imported customers, one byte each, in the order of their numbers."""
    query = (
        sa.select(customers)
        .where(customers.c.audience_id == audience_id)
        .order_by(customers.c.number)
        .execution_options(yield_per=CHUNK)
    )
    with database.read() as connection:
        found = (_label(row, scenario, campaign, today) for row in connection.execute(query))
        return np.fromiter(found, np.int8)


def _label(row: Any, scenario: Scenario, campaign: Campaign, today: date) -> int:
    """What is wrong with a customer: the first that applies, in the order of the rule book."""
    by_email = campaign.channel is Channel.EMAIL
    organization, needs = scenario.organization, set(campaign.requires)
    if row.unsubscribed_email if by_email else row.unsubscribed_sms:
        return Reason.UNSUBSCRIBED
    if not by_email and row.ndnc:
        return Reason.NDNC
    if row.hard_bounces >= organization.hard_bounce_limit:
        return Reason.BOUNCED_REPEATEDLY
    if row.soft_bounces >= organization.soft_bounce_limit:
        return Reason.BOUNCED_REPEATEDLY
    if by_email and row.email is None:
        return Reason.EMAIL_MISSING
    if not by_email and row.mobile_e164 is None:
        return Reason.MOBILE_MISSING_OR_INVALID
    if "membership" in needs and not row.loyalty_member:
        return Reason.NOT_IN_LOYALTY_PROGRAM
    if "coupon" in needs:
        coupon = _coupon_label(row, today)
        if coupon != SOUND:
            return coupon
    custom = json.loads(row.custom)
    has = {
        "last_store": row.last_store is not None,
        "profile": row.profile is not None,
        **{key: bool(value) for key, value in custom.items()},
    }
    if any(not has.get(each, False) for each in needs - {"membership", "coupon"}):
        return Reason.DATA_MISSING
    if is_malformed(campaign.channel, row.email if by_email else row.mobile_e164):
        return MALFORMED
    return SOUND


def _coupon_label(row: Any, today: date) -> int:
    if row.coupon_id is None:
        return Reason.COUPON_ID_MISSING
    if row.coupon_expires is not None:
        try:
            expires = date.fromisoformat(row.coupon_expires)
        except ValueError:
            return Reason.COUPON_DATE_FORMAT
        if expires < today:
            return Reason.COUPON_EXPIRED
    return Reason.COUPON_REDEEMED if row.coupon_redeemed else SOUND


@dataclass(frozen=True)
class Oracle:
    """Predicts the messages of one campaign; ``labels`` are those of an imported audience."""

    scenario: Scenario
    campaign: Campaign
    size: int
    labels: NDArray[np.int8] | None = None

    def predict(self) -> Iterator[tuple[int, Fates]]:
        """The fates of all messages, chunk by chunk, each with the number of its first message."""
        for first in range(0, self.size, CHUNK):
            yield first, self._fates(first, min(CHUNK, self.size - first))

    def sendable(self) -> int:
        """How many messages nothing but a lack of credit can stop."""
        return sum(
            int(np.count_nonzero(fates.statuses != Status.NOT_SENT)) for _, fates in self.predict()
        )

    def _labels(self, first: int, count: int) -> NDArray[np.int8]:
        if not self.scenario.organization.enabled:
            return np.full(count, Reason.ORGANIZATION_DISABLED, np.int8)
        if self.labels is not None:
            return self.labels[first : first + count]
        return planted(self.scenario.seed, self.campaign.name, self.campaign.defects, first, count)

    def _fates(self, first: int, count: int) -> Fates:
        labels = self._labels(first, count)
        statuses = np.full(count, Status.NOT_SENT, np.int8)
        reasons = np.where(labels == MALFORMED, NO_REASON, labels).astype(np.int8)
        attempts = np.zeros(count, np.int8)
        malformed, waiting = labels == MALFORMED, labels == SOUND
        statuses[malformed], attempts[malformed] = Status.HARD_BOUNCED, 1
        gateway = self.scenario.gateway(self.campaign.channel)
        for attempt in range(1, gateway.attempts + 1):
            drawn, _ = outcomes(
                gateway.behaviour, self.scenario.seed, self.campaign.name, attempt, first, count
            )
            statuses[waiting], attempts[waiting] = drawn[waiting], attempt
            waiting &= drawn == Status.SOFT_BOUNCED
        return Fates(statuses, reasons, attempts)


def out_of_credit(scenario: Scenario, sendable: Sequence[int]) -> int:
    """How many messages of all campaigns together the organization has no credit for."""
    credit = scenario.organization.credit
    return 0 if credit is None else max(0, sum(sendable) - credit)
