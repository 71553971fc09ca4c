"""Load candidates: the messages to judge, with everything that checks may read."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from tracker.clock import Instant
from tracker.record import allowance
from tracker.record.catalog import Campaign, Organization
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.services.base import (
    Coupon,
    ServiceAnswers,
    ServiceName,
    Services,
    Subscription,
    call_service,
)


class Customer(NamedTuple):
    """A customer's record, with the values that apply to the campaign's channel.

    Attributes:
        number: the customer's number in the audience, and the number of the message.
        mobile_e164: `mobile` in E.164, or None if it is missing or not a possible number.
        hard_bounces: hard bounces of earlier messages on the campaign's channel.
        soft_bounces: earlier messages on the channel whose last attempt bounced softly.
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


SUBSCRIBED = Subscription()


class Candidate(NamedTuple):
    """A message that may be sent, with everything that checks may read.

    Attributes:
        subscription: the customer's opt-outs; None outside the step `suppress`.
        coupon: the customer's coupon, in the step `validate`; None unless the campaign requires it.
        referral: the referral code, in the step `validate`; None unless the campaign requires it.
        recent: messages to the customer in the organization's message limit period.
        failed: the services that gave no answer for the customer; their values are None.
    """

    customer: Customer
    campaign: Campaign
    subscription: Subscription | None = None
    coupon: Coupon | None = None
    referral: str | None = None
    recent: int = 0
    failed: frozenset[ServiceName] = frozenset()

    @property
    def number(self) -> int:
        """The number of the message, which is the customer's number in the audience."""
        return self.customer.number

    @property
    def organization(self) -> Organization:
        """The organization that sends the campaign."""
        return self.campaign.organization


def load_candidates(
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    step: Step,
    services: Services,
    now: Instant,
    *,
    is_last_try: bool = False,
    until: Instant | None = None,
) -> list[Candidate]:
    """Return candidates with everything that the checks of a step read, in order of their numbers.

    The message limit period ends `now`; messages dispatched after `until` don't count as recent. On
    the last try of a step an unavailable service counts as failed; else `ServiceUnavailable` is
    raised.
    """
    loaded_customers = load_customers(database, campaign, numbers)
    answers = {
        name: call_service(services, name, campaign, numbers, is_last_try=is_last_try)
        for name in _required_services(step, campaign)
    }
    recent: Mapping[int, int] = {}
    if step is Step.SUPPRESS and campaign.organization.message_limit is not None:
        with database.read() as connection:
            recent = allowance.count_recent_messages(
                connection, database, campaign, numbers, now, until=until
            )
    subscription = SUBSCRIBED if step is Step.SUPPRESS else None
    # Most customers have only default values; one lookup decides that.
    exceptional = {*recent}
    for answer in answers.values():
        exceptional.update(answer.by_number, answer.failed)
    return [
        _make_candidate(Candidate(customer, campaign, subscription), answers, recent)
        if customer.number in exceptional
        else Candidate(customer, campaign, subscription)
        for customer in loaded_customers
    ]


def _make_candidate(
    default: Candidate, answers: Mapping[ServiceName, ServiceAnswers], recent: Mapping[int, int]
) -> Candidate:
    """Return a candidate with the services' answers instead of the default values."""
    number = default.number
    failed = frozenset(name for name, answer in answers.items() if number in answer.failed)
    by_service = {name: answer.by_number.get(number) for name, answer in answers.items()}
    subscription = by_service.get(ServiceName.SUBSCRIPTION)
    if subscription is None and ServiceName.SUBSCRIPTION not in failed:
        subscription = default.subscription
    return Candidate(
        default.customer,
        default.campaign,
        subscription=subscription,
        coupon=by_service.get(ServiceName.COUPON),
        referral=by_service.get(ServiceName.REFERRAL),
        recent=recent.get(number, 0),
        failed=failed,
    )


def _required_services(step: Step, campaign: Campaign) -> list[ServiceName]:
    """Return the services whose answers the checks of a step read."""
    if step is Step.SUPPRESS:
        return [ServiceName.SUBSCRIPTION]
    return [
        name for name in (ServiceName.COUPON, ServiceName.REFERRAL) if name in campaign.requires
    ]


def load_customers(
    database: Database, campaign: Campaign, numbers: Sequence[int]
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
    with database.read() as connection:
        return [*map(Customer._make, connection.execute(query).all())]


_REQUIREMENT = re.compile(r"coupon|referral|last_store|profile|membership|(tag|field):\S.*")


def validate_requirements(requires: Iterable[str]) -> tuple[str, ...]:
    """Return a campaign's requirements; raise `ValueError` that names the first unknown one."""
    requirements = tuple(requires)
    for requirement in requirements:
        if _REQUIREMENT.fullmatch(requirement) is None:
            raise ValueError(
                f"unknown requirement {requirement!r}; expected coupon, referral, last_store,"
                " profile, membership, tag:NAME or field:NAME"
            )
    return requirements
