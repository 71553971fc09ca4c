"""Load candidates: the messages to judge, with everything that checks may read."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import sqlalchemy as sa

from tracker.clock import Instant
from tracker.organizations import Organization
from tracker.record import allowance
from tracker.record.catalog import Campaign
from tracker.record.customers.same_address import read_duplicates
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.gateways.base import load_gateway_kind
from workers.mobile import find_region, find_time_zones, find_time_zones_of_region
from workers.services.base import (
    Coupon,
    ServiceAnswers,
    ServiceName,
    Services,
    Subscription,
    call_service,
    complete_answers,
    list_named,
)


class Customer(NamedTuple):
    """A customer's record, with the values that apply to the campaign's channel.

    Attributes:
        number: the customer's number in the audience, and the number of the message.
        mobile_e164: `mobile` in E.164, or None if it is missing or can't receive SMS.
        hard_bounces: hard bounces of earlier messages on the campaign's channel.
        soft_bounces: earlier messages on the channel whose last attempt soft-bounced.
        custom: tags and fields, as the text of a JSON object; read them with `value`.
    """

    number: int
    customer_id: str
    email: str | None = None
    mobile: str | None = None
    mobile_e164: str | None = None
    loyalty_member: bool = False
    hard_bounces: int = 0
    soft_bounces: int = 0
    last_store: str | None = None
    profile: str | None = None
    custom: str = "{}"

    def value(self, name: str) -> str | None:
        """Return the value of a tag or field, named `tag:NAME` or `field:NAME`, or None."""
        value: str | None = json.loads(self.custom).get(name)
        return value

    @property
    def region(self) -> str | None:
        """The ISO 3166 code of the customer's country, or None if it isn't known.

        It is the value of `field:region`, else the country of the mobile number.
        """
        region = self.value("field:region")
        if region is None and self.mobile_e164 is not None:
            region = find_region(self.mobile_e164)
        return None if region is None else region.upper()

    @property
    def time_zones(self) -> tuple[str, ...]:
        """The names of the time zones in which the customer may be; empty if none is known.

        It is the value of `field:time_zone`, else all zones of the mobile number's area, else
        those of the region.
        """
        time_zone = self.value("field:time_zone")
        if time_zone is not None:
            return (time_zone,)
        zones = () if self.mobile_e164 is None else find_time_zones(self.mobile_e164)
        return zones or find_time_zones_of_region(self.region)


SUBSCRIBED = Subscription()

NO_COUPON = Coupon()


class DataUnavailable(BaseException):
    """Data that a rule reads couldn't be loaded; the error is the cause.

    Derives from BaseException so that it can't be taken for an error of the rule.
    """


class RecentMessages:
    """Recent messages by customer, counted for a whole batch when the first of them is read."""

    def __init__(self, load: Callable[[], Mapping[int, int]]) -> None:
        """Take a function that counts by customer number; customers without any may be left out."""
        self._load = load
        self._counts: Mapping[int, int] | None = None

    def load(self) -> Mapping[int, int]:
        """Return the numbers of recent messages by customer number."""
        if self._counts is None:
            self._counts = self._load()
        return self._counts

    def count(self, number: int) -> int:
        """Return the number of recent messages to a customer."""
        try:
            return self.load().get(number, 0)
        except Exception as error:
            raise DataUnavailable from error


NO_RECENT_MESSAGES = RecentMessages(dict)

SuspectCondition = sa.ColumnElement[bool] | bool
"""Condition for suspects, whom rules may block: on the table `customers`, True, or False."""


class Candidate(NamedTuple):
    """A message that may be sent, with everything that checks may read.

    Attributes:
        subscription: the customer's opt-outs; None outside the step `suppress`.
        coupon: the customer's coupon, in the step `validate`; None unless the campaign requires it.
        referral: the referral code, in the step `validate`; None unless the campaign requires it.
        recent_messages: the counts of which `recent` is one; all candidates of a batch share them.
        gateway_reaches_people: whether the campaign's gateway is enabled and sends to people
            outside.
        failed: the services that gave no answer for the customer; their values are None.
        is_duplicate: whether only an earlier customer of the audience, with the same address on
            the campaign's channel, may get the message; False outside the step `suppress`.
    """

    customer: Customer
    campaign: Campaign
    subscription: Subscription | None = None
    recent_messages: RecentMessages = NO_RECENT_MESSAGES
    gateway_reaches_people: bool = False
    coupon: Coupon | None = None
    referral: str | None = None
    failed: frozenset[ServiceName] = frozenset()
    is_duplicate: bool = False

    @property
    def number(self) -> int:
        """The number of the message, which is the customer's number in the audience."""
        return self.customer.number

    @property
    def organization(self) -> Organization:
        """The organization that sends the campaign."""
        return self.campaign.organization

    @property
    def recent(self) -> int:
        """Messages of other campaigns to the customer in the organization's message limit period.

        The period is a day where the organization has no message limit.
        """
        return self.recent_messages.count(self.customer.number)

    def narrowed(self, step: Step) -> "Candidate":
        """Return the candidate with what a step has, and without what only other steps have."""
        services = required_services(step, self.campaign)
        return self._replace(
            subscription=self.subscription if ServiceName.SUBSCRIPTION in services else None,
            coupon=self.coupon if ServiceName.COUPON in services else None,
            referral=self.referral if ServiceName.REFERRAL in services else None,
            failed=self.failed.intersection(services),
            is_duplicate=self.is_duplicate and step is Step.SUPPRESS,
        )


def load_candidates(
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    step: Step,
    services: Services,
    now: Instant,
    *,
    is_last_try: bool = False,
    suspects: SuspectCondition = True,
) -> list[Candidate]:
    """Return candidates with everything that the checks of a step read, in order of their numbers.

    The message limit period ends `now`. On the last try of a step an unavailable service counts as
    failed; else `ServiceUnavailable` is raised.

    With a condition only suspects become candidates: customers for whom it holds, customers whom a
    service names, duplicates, and, if the organization limits messages, customers with recent ones.

    Raises:
        UsageError: the campaign's gateway can't be loaded.
    """
    has_real_gateway = reaches_people(campaign)
    answers = {
        name: call_service(services, name, campaign, numbers, is_last_try=is_last_try)
        for name in required_services(step, campaign)
    }
    recent = RecentMessages(partial(_count_recent, database, campaign, numbers, now))
    subscription = SUBSCRIBED if step is Step.SUPPRESS else None
    coupon = NO_COUPON if ServiceName.COUPON in answers else None
    duplicates = _find_duplicates(database, campaign, numbers, step)
    if suspects is True or _may_lack_coupon(answers):
        loaded_customers = load_customers(database, campaign, numbers)
    else:
        in_any_case = list_named(answers).union(duplicates)
        if step is Step.SUPPRESS and campaign.organization.message_limit is not None:
            in_any_case.update(recent.load())
        loaded_customers = _load_suspects(database, campaign, numbers, suspects, in_any_case)
    loaded = [customer.number for customer in loaded_customers]
    answers = complete_answers(answers, loaded, is_last_try=is_last_try)
    exceptional = list_named(answers).union(duplicates)
    # Most customers have only default values; one lookup decides that.
    candidates = (
        Candidate(customer, campaign, subscription, recent, has_real_gateway, coupon)
        for customer in loaded_customers
    )
    return [
        _add_answers(made, answers, duplicates) if made.customer.number in exceptional else made
        for made in candidates
    ]


def _count_recent(
    database: Database, campaign: Campaign, numbers: Sequence[int], now: Instant
) -> Mapping[int, int]:
    with database.read() as connection:
        return allowance.count_recent_messages(connection, database, campaign, numbers, now)


def _find_duplicates(
    database: Database, campaign: Campaign, numbers: Sequence[int], step: Step
) -> Collection[int]:
    """Return the duplicates among customers, in the step that blocks them."""
    if step is not Step.SUPPRESS or not campaign.has_shared_addresses:
        return ()
    with database.read() as connection:
        return read_duplicates(connection, database, campaign, numbers)


def _may_lack_coupon(answers: Mapping[ServiceName, ServiceAnswers]) -> bool:
    """Return whether customers whom the coupon service doesn't name have no coupon."""
    return ServiceName.COUPON in answers and answers[ServiceName.COUPON].load_others is None


def _load_suspects(
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    suspects: SuspectCondition,
    in_any_case: Collection[int],
) -> list[Customer]:
    """Return customers for whom a condition holds, and some others by their numbers, ascending."""
    loaded: list[Customer] = []
    if not isinstance(suspects, bool):
        loaded = load_customers(database, campaign, numbers, suspects)
    missing = {*in_any_case}.difference(customer.number for customer in loaded)
    # A service may name customers that it wasn't asked about.
    missing.intersection_update(numbers)
    if missing:
        loaded += load_customers(database, campaign, sorted(missing))
        loaded.sort(key=attrgetter("number"))
    return loaded


def reaches_people(campaign: Campaign) -> bool:
    """Return whether a campaign's gateway is enabled and sends to people outside.

    Raises:
        UsageError: the gateway is enabled and can't be loaded.
    """
    return campaign.gateway_enabled and load_gateway_kind(campaign.gateway_kind).reaches_people


def _add_answers(
    default: Candidate,
    answers: Mapping[ServiceName, ServiceAnswers],
    duplicates: Collection[int],
) -> Candidate:
    """Return a candidate with the services' answers and its duplicate mark, instead of defaults."""
    number = default.number
    failed = frozenset(name for name, answer in answers.items() if number in answer.failed)
    by_service = {name: answer.by_number.get(number) for name, answer in answers.items()}
    subscription = by_service.get(ServiceName.SUBSCRIPTION)
    if subscription is None and ServiceName.SUBSCRIPTION not in failed:
        subscription = default.subscription
    coupon = by_service.get(ServiceName.COUPON)
    if coupon is None and ServiceName.COUPON not in failed:
        coupon = default.coupon
    return default._replace(
        subscription=subscription,
        coupon=coupon,
        referral=by_service.get(ServiceName.REFERRAL),
        failed=failed,
        is_duplicate=number in duplicates,
    )


def required_services(step: Step, campaign: Campaign) -> list[ServiceName]:
    """Return the services whose answers the checks of a step read."""
    if step is Step.SUPPRESS:
        return [ServiceName.SUBSCRIPTION]
    return [
        name for name in (ServiceName.COUPON, ServiceName.REFERRAL) if name in campaign.requires
    ]


def load_customers(
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    condition: sa.ColumnElement[bool] | None = None,
) -> list[Customer]:
    """Return customers of a campaign's audience in ascending order of their numbers."""
    channel = campaign.channel
    bounces = {kind: customers.c[f"{kind}_{channel}"] for kind in ("hard_bounces", "soft_bounces")}
    columns = [bounces[name] if name in bounces else customers.c[name] for name in Customer._fields]
    query = (
        sa.select(*columns)
        .where(
            customers.c.audience_id == campaign.audience_id,
            database.in_list(customers.c.number, numbers),
        )
        .order_by(customers.c.number)
    )
    if condition is not None:
        query = query.where(condition)
    with database.read() as connection:
        return [*map(Customer._make, connection.execute(query).all())]
