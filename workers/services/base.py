"""What the workers ask of other systems: subscriptions, coupons, referrals, and the preparation of
messages. Which implementation a campaign uses is an entry of the group ``sendtrace.services``.

A service answers for many customers at once. Where it has no answer for some of them, they are
asked for again after a pause, and given up in the end; the others are not kept waiting. Where it
can't be reached at all it raises :exc:`ServiceUnavailable`, and the whole step is repeated later.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from tracker.clock import Instant
from tracker.errors import SendtraceError
from tracker.record.catalog import Campaign
from tracker.store.database import Database
from tracker.store.schema import customers
from workers.plugins import PluginGroup, load_plugin
from workers.services.handlers import find_handler

RETRY_DELAYS_SECONDS = (0.05, 0.2)
"""Seconds before a service is asked again for those it had no answer for. Real time."""

MAX_SERVICE_CALLS = len(RETRY_DELAYS_SECONDS) + 1
"""How often a step asks a service for a customer before it gives up."""


class ServiceUnavailable(SendtraceError):
    """A service can't be reached for now; the step that needs it is tried again."""


class ServiceName(StrEnum):
    """The services there are."""

    SUBSCRIPTION = "subscription"
    COUPON = "coupon"
    REFERRAL = "referral"
    HANDLER = "handler"


class Subscription(NamedTuple):
    """What a customer allows on the campaign's channel."""

    unsubscribed: bool = False
    ndnc: bool = False


class Coupon(NamedTuple):
    """A customer's coupon of the campaign's series. ``expires`` is a text, as it was recorded."""

    coupon_id: str | None = None
    expires: str | None = None
    redeemed: bool = False


@dataclass(frozen=True)
class ServiceAnswers:
    """What a service says: by customer, where it has something to say; and whom it failed for."""

    found: Mapping[int, object]
    failed: Collection[int] = ()


Service = Callable[[Campaign, Sequence[int], int, Instant], ServiceAnswers]
"""Answers for the customers of these numbers of a campaign's audience. The third argument counts,
from 0, how often a step has asked; the fourth is the time. Raises :exc:`ServiceUnavailable`."""


class Services(Protocol):
    """Finds the service of a name."""

    def find(self, name: ServiceName) -> Service: ...


ServicesFactory = Callable[[str, Database], Services]
"""Makes services from their settings, as they are recorded, and the database."""


@cache
def load_services_factory(kind: str) -> ServicesFactory:
    """Return the installed services called `kind`; raise `UsageError` if there are none."""
    factory: ServicesFactory = load_plugin(
        PluginGroup.SERVICES, kind, parameters=("settings", "database")
    )
    return factory


def call_service(
    services: Services,
    name: ServiceName,
    campaign: Campaign,
    numbers: Sequence[int],
    *,
    is_last_try: bool,
) -> ServiceAnswers:
    """Ask a service with patience; ``failed`` are those for whom it had no answer to the end.

    Raises :exc:`ServiceUnavailable`, but on the ``is_last_try`` of a step: then it failed for all, and
    nobody waits between the questions any more.
    """
    service, found, left = services.find(name), dict[int, object](), numbers
    for attempt, pause in enumerate((*RETRY_DELAYS_SECONDS, 0)):
        try:
            answers = service(campaign, left, attempt, campaign.clock.now())
        except ServiceUnavailable:
            if not is_last_try:
                raise
            break
        found.update(answers.found)
        left = list(answers.failed)
        if not left:
            break
        if not is_last_try:
            time.sleep(pause)
    return ServiceAnswers(found, frozenset(left))


class SqlServices:
    """The services as the organization's own records answer for them."""

    def __init__(self, _settings: str, database: Database) -> None:
        self._database = database

    def find(self, name: ServiceName) -> Service:
        return {
            ServiceName.SUBSCRIPTION: self._load_subscriptions,
            ServiceName.COUPON: self._load_coupons,
            ServiceName.REFERRAL: self._load_referrals,
            ServiceName.HANDLER: _prepare_messages,
        }[name]

    def _load_subscriptions(
        self, campaign: Campaign, numbers: Sequence[int], _attempt: int, _now: Instant
    ) -> ServiceAnswers:
        """A :class:`Subscription` for those who do not allow everything."""
        unsubscribed = customers.c[f"unsubscribed_{campaign.channel}"]
        query = sa.select(customers.c.number, unsubscribed, customers.c.ndnc).where(
            *self._customer_conditions(campaign, numbers), sa.or_(unsubscribed, customers.c.ndnc)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return ServiceAnswers({number: Subscription(*said) for number, *said in rows})

    def _load_coupons(
        self, campaign: Campaign, numbers: Sequence[int], _attempt: int, _now: Instant
    ) -> ServiceAnswers:
        """A :class:`Coupon` for everybody."""
        query = sa.select(
            customers.c.number,
            customers.c.coupon_id,
            customers.c.coupon_expires,
            customers.c.coupon_redeemed,
        ).where(*self._customer_conditions(campaign, numbers))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return ServiceAnswers({number: Coupon(*said) for number, *said in rows})

    def _load_referrals(
        self, campaign: Campaign, numbers: Sequence[int], _attempt: int, _now: Instant
    ) -> ServiceAnswers:
        """A referral code, which is a text, for everybody."""
        query = sa.select(customers.c.number, customers.c.customer_id)
        with self._database.read() as connection:
            rows = connection.execute(
                query.where(*self._customer_conditions(campaign, numbers))
            ).all()
        return ServiceAnswers({number: f"R-{customer_id}" for number, customer_id in rows})

    def _customer_conditions(
        self, campaign: Campaign, numbers: Sequence[int]
    ) -> Sequence[sa.ColumnElement[bool]]:
        return (
            customers.c.audience_id == campaign.audience_id,
            self._database.in_list(customers.c.number, numbers),
        )


def _prepare_messages(
    campaign: Campaign, numbers: Sequence[int], _attempt: int, _now: Instant
) -> ServiceAnswers:
    """Have the campaign's messages prepared; failed are those that were not ready in time."""
    handler = find_handler(campaign.kind)
    return ServiceAnswers({}, () if handler is None else handler(campaign, numbers))
