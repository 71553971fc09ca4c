"""Call the services that the workers depend on: subscriptions, coupons, referrals, handlers.

A campaign names its implementation, which is an entry point of the group `sendtrace.services`.

A service answers for many customers in one call. It is called again, after a pause, for customers
without an answer; in the end they have failed. A service that can't be reached raises
`ServiceUnavailable`, and the worker repeats the whole step later.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from tracker.clock import Instant
from tracker.errors import SendtraceError
from tracker.record.catalog import Campaign
from tracker.settings import to_local_time
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.plugins import PluginGroup, load_plugin
from workers.services.handlers import find_handler

RETRY_DELAYS_SECONDS = (0.05, 0.2)
"""Real time between the calls of a service for customers without an answer, in order."""

MAX_SERVICE_CALLS = len(RETRY_DELAYS_SECONDS) + 1
"""Calls of a service for one customer in one step before the step gives up."""


class ServiceUnavailable(SendtraceError):
    """A service can't be reached for now; the worker repeats the step."""


class ServiceName(StrEnum):
    """A service that a step calls."""

    SUBSCRIPTION = "subscription"
    COUPON = "coupon"
    REFERRAL = "referral"
    HANDLER = "handler"


class Subscription(NamedTuple):
    """A customer's opt-outs on the campaign's channel.

    Attributes:
        unsubscribed: whether the customer gets no more marketing on the channel.
        ndnc: whether the customer is on the National Do Not Call list.
        marked_spam: whether the customer opted out by marking a message as spam.
    """

    unsubscribed: bool = False
    ndnc: bool = False
    marked_spam: bool = False


class Coupon(NamedTuple):
    """A customer's coupon of the campaign's series; `expires` is a date as text, not validated."""

    coupon_id: str | None = None
    expires: str | None = None
    redeemed: bool = False


def parse_last_day(expires: str | None) -> date | None:
    """Return the day on which a coupon expires, or None if its text isn't a date."""
    try:
        return date.fromisoformat(expires or "")
    except ValueError:
        return None


LoadAnswers = Callable[[Sequence[int]], Mapping[int, Any]]
"""A function that returns a service's answers for customers, by their numbers."""


@dataclass(frozen=True)
class ServiceAnswers:
    """The result of one call of a service.

    Attributes:
        by_number: the answers by customer number. A customer without an entry has the default.
        failed: the numbers of the customers without an answer.
        load_others: loads the answers for customers without an entry when they are needed. No
            shipped check blocks a message because of them. None if these customers have the
            default.
    """

    by_number: Mapping[int, Any]
    failed: Collection[int] = ()
    load_others: LoadAnswers | None = None

    def complete(self, numbers: Iterable[int], *, is_last_try: bool) -> "ServiceAnswers":
        """Return the answers with those of customers without an entry among some numbers.

        On the last try of a step they have failed if the service is unavailable.
        """
        settled = {*self.by_number, *self.failed}
        others = [number for number in numbers if number not in settled]
        if self.load_others is None or not others:
            return self
        try:
            loaded = self.load_others(others)
        except ServiceUnavailable:
            if not is_last_try:
                raise
            return replace(self, failed=frozenset(self.failed).union(others))
        return replace(self, by_number={**self.by_number, **loaded})


Service = Callable[[Campaign, Sequence[int], int, Instant], ServiceAnswers]
"""Answers for customers of a campaign's audience: (campaign, numbers, attempt, now).

`attempt` counts the calls of one step from 0. Raises `ServiceUnavailable`.
"""


class Services(Protocol):
    """An implementation of all services."""

    def find(self, name: ServiceName) -> Service:
        """Return the service of a name."""
        ...


ServicesFactory = Callable[[str, Database], Services]
"""Makes services from their recorded settings (JSON text) and the database."""


@cache
def load_services_factory(kind: str) -> ServicesFactory:
    """Return the factory of installed services; raise `UsageError` if it can't be loaded."""
    factory: ServicesFactory = load_plugin(
        PluginGroup.SERVICES, kind, parameters=("settings", "database")
    )
    return factory


def load_services(campaign: Campaign, database: Database) -> Services:
    """Return the services of a campaign, made from their recorded settings."""
    factory = load_services_factory(campaign.services_kind)
    return factory(campaign.services_settings, database)


def call_service(
    services: Services,
    name: ServiceName,
    campaign: Campaign,
    numbers: Sequence[int],
    *,
    is_last_try: bool,
) -> ServiceAnswers:
    """Call a service until it has answered for all customers, at most `MAX_SERVICE_CALLS` times.

    Returns the answers of all calls; customers without an answer after the last call have failed.
    On the last try of a step the calls follow each other at once, and an unavailable service counts
    as failed; else `ServiceUnavailable` is raised.
    """
    service = services.find(name)
    by_number: dict[int, Any] = {}
    unanswered = numbers
    load_others = None
    for attempt in count_calls(is_last_try=is_last_try):
        try:
            answers = service(campaign, unanswered, attempt, campaign.clock.now())
        except ServiceUnavailable:
            if not is_last_try:
                raise
            break
        by_number.update(answers.by_number)
        load_others = answers.load_others or load_others
        unanswered = list(answers.failed)
        if not unanswered:
            break
    return ServiceAnswers(by_number, frozenset(unanswered), load_others)


def complete_answers(
    answers: Mapping[ServiceName, ServiceAnswers], numbers: Sequence[int], *, is_last_try: bool
) -> dict[ServiceName, ServiceAnswers]:
    """Return the answers of several services with those of customers that they didn't name."""
    return {
        name: answer.complete(numbers, is_last_try=is_last_try) for name, answer in answers.items()
    }


def list_named(answers: Mapping[ServiceName, ServiceAnswers]) -> set[int]:
    """Return the numbers of the customers whom a service names, or for whom it failed."""
    return {number for answer in answers.values() for number in (*answer.by_number, *answer.failed)}


def count_calls(*, is_last_try: bool) -> Iterator[int]:
    """Yield the number of each call that a step may make, from 0, when it is time for that call.

    On the last try of a step, the calls follow each other without a delay.
    """
    yield 0
    for attempt, delay_seconds in enumerate(RETRY_DELAYS_SECONDS, start=1):
        if not is_last_try:
            time.sleep(delay_seconds)
        yield attempt


class SqlServices:
    """Services that read the organization's own records."""

    def __init__(self, _settings: str, database: Database) -> None:
        self._database = database

    def find(self, name: ServiceName) -> Service:
        """Return the service of a name."""
        return {
            ServiceName.SUBSCRIPTION: self._load_subscriptions,
            ServiceName.COUPON: self._find_coupons,
            ServiceName.REFERRAL: self._find_referrals,
            ServiceName.HANDLER: _prepare_messages,
        }[name]

    def _load_subscriptions(
        self, campaign: Campaign, numbers: Sequence[int], _attempt: int, _now: Instant
    ) -> ServiceAnswers:
        """Answer with a `Subscription` for each customer who has opted out of anything."""
        unsubscribed, ndnc = customers.c[f"unsubscribed_{campaign.channel}"], customers.c.ndnc
        marked_spam = customers.c[f"marked_spam_{campaign.channel}"]
        columns = (customers.c.number, unsubscribed, ndnc, marked_spam)
        query = sa.select(*columns).where(unsubscribed | ndnc)
        rows = self._read_rows(query, campaign, numbers)
        return ServiceAnswers({number: Subscription(*row) for number, *row in rows})

    def _find_coupons(
        self, campaign: Campaign, numbers: Sequence[int], _attempt: int, now: Instant
    ) -> ServiceAnswers:
        """Answer with a `Coupon` for each customer whose coupon can't be used today."""
        expires = customers.c.coupon_expires
        query = sa.select(expires).distinct().where(sa.func.coalesce(expires, "") != "")
        texts = [text for (text,) in self._read_rows(query, campaign, numbers)]
        today = to_local_time(now).date()
        # A service is called after the step began, perhaps on the next day.
        unusable = [text for text in texts if (parse_last_day(text) or today) <= today]
        is_unusable = sa.or_(
            sa.func.coalesce(customers.c.coupon_id, "") == "", customers.c.coupon_redeemed
        )
        if unusable:
            listed = self._database.table_from_columns(expires=unusable)
            is_unusable |= expires.in_(sa.select(listed.c.expires))
        coupons = self._load_coupons(campaign, numbers, is_unusable)
        return ServiceAnswers(coupons, load_others=partial(self._load_coupons, campaign))

    def _load_coupons(
        self, campaign: Campaign, numbers: Sequence[int], *conditions: sa.ColumnElement[bool]
    ) -> Mapping[int, Coupon]:
        columns = (customers.c.coupon_id, customers.c.coupon_expires, customers.c.coupon_redeemed)
        query = sa.select(customers.c.number, *columns).where(*conditions)
        rows = self._read_rows(query, campaign, numbers)
        return {number: Coupon(*row) for number, *row in rows}

    def _find_referrals(
        self, campaign: Campaign, _numbers: Sequence[int], _attempt: int, _now: Instant
    ) -> ServiceAnswers:
        """Answer for no customer: every one has a referral code."""
        return ServiceAnswers({}, load_others=partial(self._load_referrals, campaign))

    def _load_referrals(self, campaign: Campaign, numbers: Sequence[int]) -> Mapping[int, str]:
        query = sa.select(customers.c.number, customers.c.customer_id)
        rows = self._read_rows(query, campaign, numbers)
        return {number: f"R-{customer_id}" for number, customer_id in rows}

    def _read_rows(
        self, query: "sa.Select[Any]", campaign: Campaign, numbers: Sequence[int]
    ) -> Sequence[Any]:
        """Return the rows of a query for some customers of a campaign."""
        in_audience = customers.c.audience_id == campaign.audience_id
        is_wanted = self._database.in_list(customers.c.number, numbers)
        with self._database.read() as connection:
            return connection.execute(query.where(in_audience, is_wanted)).all()


def _prepare_messages(
    campaign: Campaign, numbers: Sequence[int], _attempt: int, _now: Instant
) -> ServiceAnswers:
    """Prepare messages with the campaign's handler; those not ready in time have failed."""
    handler = find_handler(campaign.kind)
    return ServiceAnswers({}, () if handler is None else handler(campaign, numbers))
