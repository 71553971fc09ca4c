"""Candidates: all that the checks may look at, gathered for many messages at once."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import sqlalchemy as sa

from tracker.clock import Instant
from tracker.record import allowance
from tracker.record.catalog import Campaign, Organization
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema import customers
from workers.services.base import Coupon, ServiceName, Services, Subscription, call_service


class Customer(NamedTuple):
    """A person as the record knows them, on the campaign's channel.

    ``mobile_e164`` is None where ``mobile`` is empty or not a possible number. The bounces are
    those of the campaign's channel. ``custom`` is the text of a JSON object; see :meth:`value`.
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
        """What the record says under ``tag:NAME`` or ``field:NAME``, if anything."""
        said: str | None = json.loads(self.custom).get(name)
        return said


SUBSCRIBED = Subscription()
NO_RECENT_MESSAGES: Mapping[int, int] = MappingProxyType({})


class Candidate(NamedTuple):
    """A message that may be sent: to whom, for which campaign, and what the services say.

    ``subscription`` is known in the step ``suppress``, ``coupon`` and ``referral`` in ``validate``
    and only if the campaign requires them; otherwise, and where the service has ``failed``, they
    are None. ``recent`` counts the messages that the customer had in the organization's period.
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
        """The message's number, which is the customer's in the audience."""
        return self.customer.number

    @property
    def organization(self) -> Organization:
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
    """The candidates ``numbers``, with what the checks of a step need to know of them at ``now``.

    What happened after ``until`` is left out, as far as the record can tell.

    Raises :exc:`workers.services.base.ServiceUnavailable`, but on the ``is_last_try``.
    """

    people = load_customers(database, campaign, numbers)
    answers = {
        name: call_service(services, name, campaign, numbers, is_last_try=is_last_try)
        for name in _required_services(step, campaign)
    }
    recent = NO_RECENT_MESSAGES
    if step is Step.SUPPRESS and campaign.organization.message_limit is not None:
        with database.read() as connection:
            recent = allowance.count_recent_messages(
                connection, database, campaign, numbers, now, until=until
            )
    usual = SUBSCRIBED if step is Step.SUPPRESS else None
    particular = {*recent}.union(*((*each.found, *each.failed) for each in answers.values()))

    def candidate(person: Customer) -> Candidate:
        number = person.number
        failed = frozenset(name for name, each in answers.items() if number in each.failed)
        said: dict[str, Any] = {name: each.found.get(number) for name, each in answers.items()}
        if ServiceName.SUBSCRIPTION not in failed and said.get("subscription") is None:
            said["subscription"] = usual
        return Candidate(person, campaign, **said, recent=recent.get(number, 0), failed=failed)

    return [
        candidate(person) if person.number in particular else Candidate(person, campaign, usual)
        for person in people
    ]


def _required_services(step: Step, campaign: Campaign) -> list[ServiceName]:
    """The services whose answers the checks of a step look at."""
    if step is Step.SUPPRESS:
        return [ServiceName.SUBSCRIPTION]
    return [
        name for name in (ServiceName.COUPON, ServiceName.REFERRAL) if name in campaign.requires
    ]


def load_customers(
    database: Database, campaign: Campaign, numbers: Sequence[int]
) -> list[Customer]:
    """The customers of these numbers, ascending."""
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
    """The requirements, if each is one; else :exc:`ValueError` that says what was expected."""
    told = tuple(requires)
    for each in told:
        if _REQUIREMENT.fullmatch(each) is None:
            raise ValueError(
                f"{each!r} is not known; expected coupon, referral, last_store, profile,"
                " membership, tag:NAME or field:NAME"
            )
    return told
