"""The tables of organizations in a scenario file."""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from simulator.validation_errors import parse_table
from simulator.values import (
    BounceLimit,
    Flag,
    ScenarioSection,
    Title,
    format_value,
    validate_list_name,
    validate_text,
)
from tracker.record.allowance import MAX_MESSAGE_LIMIT, MAX_MESSAGE_LIMIT_DAYS
from tracker.status import Channel
from workers.addresses import is_well_formed

MAX_UNSUBSCRIBE_LENGTH = 500
"""Characters of a web address to unsubscribe; with values, it must fit in a header."""

_WEB_ADDRESS = re.compile(r"https?://[!-;=?-~][ !-;=?-~]*", re.ASCII)
"""Visible ASCII without angle brackets; a template may have spaces between its braces."""


def _validate_unsubscribe_url(url: str) -> str:
    if not _WEB_ADDRESS.fullmatch(url) or len(url) > MAX_UNSUBSCRIBE_LENGTH:
        raise ValueError(
            f"got {format_value(url)}; expected an address like https://shop.example/leave, up to"
            f" {MAX_UNSUBSCRIBE_LENGTH} characters in ASCII"
        )
    return url


def _validate_unsubscribe_email(address: str) -> str:
    if not address.isascii() or not is_well_formed(address):
        raise ValueError(f"got {format_value(address)}; expected an email address in ASCII")
    return address


MAX_CREDIT = 2**63 - 1

_CREDIT_SCHEMA = {"type": "integer", "minimum": 0, "maximum": MAX_CREDIT}


class MessageLimitSection(ScenarioSection):
    """The number of messages that a customer may get in a period."""

    count: Annotated[int, Field(ge=1, le=MAX_MESSAGE_LIMIT, strict=True, examples=[3])]
    """Messages of all campaigns of the organization to one customer."""
    days: Annotated[int, Field(ge=1, le=MAX_MESSAGE_LIMIT_DAYS, strict=True, examples=[1])]
    """Length of the period in days, up to the message."""


class ChannelSection(ScenarioSection):
    """An organization's settings for one channel."""

    enabled: Annotated[Flag, Field(examples=[False])] = True
    """Whether the organization's configuration allows the channel."""
    sender: Annotated[str | None, Field(examples=["Acme Mail"])] = None
    """Sender of messages on the channel; default: the organization's name. An empty sender is a
    wrong configuration."""
    unsubscribe_url: Annotated[
        str | None,
        AfterValidator(_validate_unsubscribe_url),
        Field(examples=["https://shop.internal/unsubscribe?customer={{ customer_id }}"]),
    ] = None
    """Address at which a customer unsubscribes on the web, a template. Email names it in the header
    `List-Unsubscribe`, and offers one click (RFC 8058) if it begins with https."""
    unsubscribe_email: Annotated[
        str | None,
        AfterValidator(_validate_unsubscribe_email),
        Field(examples=["unsubscribe@shop.internal"]),
    ] = None
    """Email address at which a customer unsubscribes, for the header `List-Unsubscribe`."""


class CreditSection(ScenarioSection):
    """An organization's credit for each channel."""

    email: Annotated[int | None, Field(ge=0, le=MAX_CREDIT, strict=True, examples=[20_000])] = None
    """Emails that the organization has paid for; default: unlimited."""
    sms: Annotated[int | None, Field(ge=0, le=MAX_CREDIT, strict=True, examples=[5_000])] = None
    """Segments of SMS that the organization has paid for; default: unlimited."""


def _parse_credit(value: object) -> int | CreditSection | None:
    match value:
        case None | CreditSection():
            return value
        case dict() if value:
            return parse_table(CreditSection, value)
        case int() if not isinstance(value, bool):
            if 0 <= value <= MAX_CREDIT:
                return value
            limit = "at least 0" if value < 0 else f"at most {MAX_CREDIT:,}"
            raise ValueError(f"got {format_value(value)}; expected {limit}")
    raise ValueError(
        f"got {format_value(value)}; expected an integer, or a table like {{ email = 20_000 }}"
    )


class OrganizationSection(ScenarioSection):
    """The sender of campaigns."""

    name: Annotated[str, AfterValidator(validate_text), Field(examples=["Acme Retail"])] = (
        "Acme Retail"
    )
    """Name of the organization."""
    title: Annotated[Title | None, Field(examples=["Acme Retail – Indien"])] = None
    """What people read instead of the name, in any script."""
    enabled: Annotated[Flag, Field(examples=[False])] = True
    """Whether the organization may send at all."""
    credit: Annotated[
        int | CreditSection | None,
        PlainValidator(_parse_credit),
        WithJsonSchema(
            {
                "anyOf": [
                    _CREDIT_SCHEMA,
                    {
                        "type": "object",
                        "properties": {channel.value: _CREDIT_SCHEMA for channel in Channel},
                        "additionalProperties": False,
                    },
                ]
            }
        ),
        Field(examples=[20_000, {"email": 20_000, "sms": 5_000}]),
    ] = None
    """Messages that the organization has paid for, on both channels together or on each of them;
    default: unlimited. An SMS counts once for each segment of its text."""
    message_limit: Annotated[
        MessageLimitSection | None, Field(examples=[{"count": 3, "days": 1}])
    ] = None
    """How many messages a customer may get; default: unlimited."""
    hard_bounce_limit: Annotated[BounceLimit, Field(examples=[2])] = 2
    """Hard bounces on a channel after which a customer is suppressed there. The default is 1 for an
    organization with a campaign whose gateway isn't simulated."""
    soft_bounce_limit: Annotated[BounceLimit, Field(examples=[3])] = 3
    """Soft bounces on a channel, since the last delivery, after which a customer is suppressed."""
    email: Annotated[ChannelSection, Field(examples=[{"sender": "Acme Mail"}])] = ChannelSection()
    """Settings for email."""
    sms: Annotated[ChannelSection, Field(examples=[{"enabled": False}])] = ChannelSection()
    """Settings for SMS."""
    keep: Annotated[Flag, Field(examples=[True])] = False
    """Whether bounces, opt-outs and the National Do Not Call list of imported customers stay for
    the next run of an organization with this name; see `sendtrace suppressions`."""

    @field_validator("keep")
    @classmethod
    def _validate_list_name(cls, keep: bool, info: ValidationInfo) -> bool:
        if keep and "name" in info.data:
            validate_list_name(info.data["name"])
        return keep

    def channel_section(self, channel: Channel) -> ChannelSection:
        """Return the settings for a channel."""
        return self.email if channel is Channel.EMAIL else self.sms

    @property
    def shared_credit(self) -> int | None:
        """The credit for both channels together; None is unlimited, or by channel."""
        return self.credit if isinstance(self.credit, int) else None

    def credit_on(self, channel: Channel) -> int | None:
        """Return the credit for messages on a channel; None is unlimited."""
        return self.channel_credit(channel) if self.shared_credit is None else self.shared_credit

    def channel_credit(self, channel: Channel) -> int | None:
        """Return the credit for a channel alone; None is unlimited, or for both together."""
        if not isinstance(self.credit, CreditSection):
            return None
        return self.credit.email if channel is Channel.EMAIL else self.credit.sms
