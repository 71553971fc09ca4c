"""Render the messages of a campaign for its customers.

A gateway that sends the text of messages makes a `MessageRenderer` for the messages of a call. A
simulated gateway sends none, so nothing is rendered for it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tracker.errors import SendtraceError
from tracker.record.catalog import Campaign
from tracker.status import Channel
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.text import describe_error, to_one_line
from workers.message.environment import render_template
from workers.message.source import MessageSource
from workers.message.variables import NAMESPACES, UNSUBSCRIBE_URL, compile_template, list_variables
from workers.services.base import (
    ServiceName,
    Services,
    ServiceUnavailable,
    call_service,
    load_services,
)

CHUNK_MESSAGES = 200
"""Messages whose customers are loaded together."""

_COLUMNS = ("customer_id", "email", "mobile_e164", "last_store", "profile", "custom")


class MessageFailed(SendtraceError):
    """A message can't be made, because a template raises an error for the customer's data.

    Attributes:
        template: the part of the message that the template makes, or `json` of a gateway.
        cause: the type and the message of the error.
    """

    def __init__(self, template: str, error: Exception) -> None:
        """Take the template and its error."""
        self.template = template
        self.cause = describe_error(error)
        super().__init__(f"template {template}: {self.cause}")


class RenderedMessage(NamedTuple):
    """The content of a message.

    Attributes:
        subject: one line; empty for an SMS.
        text: the plain text.
        html: the HTML of an email, if it has any.
        unsubscribe_url: where the customer can unsubscribe, if the organization has such a page.
    """

    subject: str
    text: str
    html: str | None = None
    unsubscribe_url: str | None = None


class CustomerValues:
    """Values of a customer by name, such as fields. A template finds nothing else in it."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name]


class MessageTemplates:
    """The templates of a campaign's message, ready to be rendered for any customer."""

    def __init__(
        self, source: MessageSource, channel: Channel, unsubscribe_url: str | None
    ) -> None:
        self._parts = source.templates(channel)
        if unsubscribe_url is not None:
            self._parts[UNSUBSCRIBE_URL] = unsubscribe_url

    @property
    def parts(self) -> Mapping[str, str]:
        """The templates by the part of the message; the address to unsubscribe is one of them."""
        return self._parts

    def render(self, values: Mapping[str, object]) -> RenderedMessage:
        """Return the message for some values of the variables.

        Raises:
            MessageFailed: a template raises an error.
        """
        url = None
        if UNSUBSCRIBE_URL in self._parts:
            url = self._render_part(UNSUBSCRIBE_URL, values)
            values = {**values, UNSUBSCRIBE_URL: url}
        return RenderedMessage(
            subject=to_one_line(self._render_part("subject", values)),
            text=self._render_part("text", values),
            html=self._render_part("html", values) if "html" in self._parts else None,
            unsubscribe_url=url,
        )

    def _render_part(self, part: str, values: Mapping[str, object]) -> str:
        if part not in self._parts:
            return ""
        try:
            return render_template(compile_template(self._parts[part], part), values)
        except Exception as error:  # a template may raise anything
            raise MessageFailed(part, error) from error


def make_campaign_values(
    *, campaign: str, title: str | None, organization: str, organization_title: str | None
) -> dict[str, object]:
    """Return the variables that all messages of a campaign have."""
    return {
        "campaign": campaign,
        "title": title or campaign,
        "organization": organization_title or organization,
    }


def make_customer_values(
    row: Mapping[str, Any], coupon_id: str | None = None, referral: str | None = None
) -> dict[str, object]:
    """Return the variables of a customer's record; those without a value are left out.

    Args:
        row: the columns of the customer's record.
        coupon_id: what the coupon service says.
        referral: what the referral service says.
    """
    values: dict[str, object] = {
        "customer_id": row["customer_id"],
        "email": row["email"],
        "mobile": row["mobile_e164"],
        "last_store": row["last_store"],
        "profile": row["profile"],
        "coupon_id": coupon_id,
        "referral": referral,
    }
    values = {name: value for name, value in values.items() if value}
    custom: Mapping[str, str] = json.loads(row["custom"])
    for namespace in NAMESPACES:
        prefix = f"{namespace}:"
        by_name = {
            name.removeprefix(prefix): value
            for name, value in custom.items()
            if name.startswith(prefix) and value
        }
        values[namespace] = CustomerValues(by_name)
    return values


class MessageRenderer:
    """The messages of a campaign to customers of some numbers, who are loaded as needed.

    Attributes:
        size: bytes that an email has at least; None for any size.
    """

    def __init__(self, database: Database, campaign: Campaign, numbers: Sequence[int]) -> None:
        self.campaign = campaign
        self._database = database
        self._numbers = numbers
        source = MessageSource.from_json(campaign.message)
        self.size = source.size
        self._templates = MessageTemplates(
            source, campaign.channel, campaign.channel_settings.unsubscribe_url
        )
        self._campaign_values = make_campaign_values(
            campaign=campaign.name,
            title=campaign.title,
            organization=campaign.organization.name,
            organization_title=campaign.organization.title,
        )
        self._customer_values: dict[int, dict[str, object]] = {}
        self._variables = list_variables(self._templates.parts)
        self._services: Services | None = None

    @property
    def is_same_for_all(self) -> bool:
        """True if the message has nothing of the customer."""
        return self._variables <= self._campaign_values.keys()

    def render(self, number: int) -> RenderedMessage:
        """Return the message of a number.

        Raises:
            MessageFailed: a template raises an error for this customer; other messages aren't
                affected.
            ServiceUnavailable: the service that knows coupons or referrals is unavailable.
        """
        if self.is_same_for_all:
            return self._templates.render(self._campaign_values)
        if number not in self._customer_values:
            begin = self._numbers.index(number)
            chunk = self._numbers[begin : begin + CHUNK_MESSAGES]
            self._customer_values = dict(self._load_values(chunk))
        return self._templates.render({**self._campaign_values, **self._customer_values[number]})

    def _load_values(self, numbers: Sequence[int]) -> Iterator[tuple[int, dict[str, object]]]:
        """Yield the variables of customers by their numbers."""
        columns = [customers.c.number, *(customers.c[name] for name in _COLUMNS)]
        query = sa.select(*columns).where(
            customers.c.audience_id == self.campaign.audience_id,
            self._database.in_list(customers.c.number, numbers),
        )
        with self._database.read() as connection:
            rows = [row._asdict() for row in connection.execute(query)]
        coupons = self._call_service(ServiceName.COUPON, "coupon_id", numbers)
        referrals = self._call_service(ServiceName.REFERRAL, "referral", numbers)
        for row in rows:
            coupon = coupons.get(row["number"])
            coupon_id = None if coupon is None else coupon.coupon_id
            yield row["number"], make_customer_values(row, coupon_id, referrals.get(row["number"]))

    def _call_service(
        self, name: ServiceName, variable: str, numbers: Sequence[int]
    ) -> Mapping[int, Any]:
        """Return a service's answers, if the message uses them."""
        if variable not in self._variables:
            return {}
        if self._services is None:
            self._services = load_services(self.campaign, self._database)
        answers = call_service(
            self._services, name, self.campaign, sorted(numbers), is_last_try=False
        )
        if answers.failed:
            raise ServiceUnavailable(f"the {name} service gives no answer")
        return answers.complete(numbers, is_last_try=False).by_number
