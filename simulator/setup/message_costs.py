"""The credit that the messages of a campaign cost, as the oracle predicts it.

The rules for the segments of an SMS stand here a second time, independently of the workers' code,
because that is what a run tests. Rendering a template is not repeated, because no rule is in it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from simulator.audience.row_parser import CustomerRecord
from simulator.scenario.plan import PlannedCampaign
from tracker.status import Channel
from workers.message.source import MessageSource

_ESCAPE = "\x1b"
_GSM_EXTENDED = {char: _ESCAPE + char for char in "\f^{}\\[~]|€"}
_GSM = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
).union(_GSM_EXTENDED)

CANNOT_BE_MADE = 0
"""Cost of a message whose template raises an error for the customer, at a gateway that sends text.

If the gateway renders the message, it ends before it is sent, and its credit is refunded.
"""

CustomerCost = Callable[[Mapping[str, Any]], int]
"""A function that returns the cost of the message to a customer, from the customer's record."""


def make_customer_cost(campaign: PlannedCampaign) -> int | CustomerCost:
    """Return the credit that each message of a campaign costs.

    Returns:
        The number, or a function of the customer if it differs by customer.
    """
    is_limited = campaign.organization.credit_on(campaign.channel) is not None
    has_segments = campaign.channel is Channel.SMS and is_limited
    is_made = not campaign.gateway.is_simulated and campaign.message != MessageSource()
    if not has_segments and not is_made:
        return 1
    # The template engine is loaded only for campaigns that need it.
    from workers.message.rendering import (
        MessageFailed,
        MessageTemplates,
        make_campaign_values,
        make_customer_values,
    )
    from workers.message.variables import list_variables

    organization = campaign.organization
    campaign_values = make_campaign_values(
        campaign=campaign.name,
        title=campaign.title,
        organization=organization.name,
        organization_title=organization.title,
    )
    url = campaign.channel_settings.unsubscribe_url
    templates = MessageTemplates(campaign.message, campaign.channel, url)

    def count(values: Mapping[str, object]) -> int:
        try:
            text = templates.render({**campaign_values, **values}).text
        except MessageFailed:
            return CANNOT_BE_MADE if is_made else 1
        return count_segments(text) if has_segments else 1

    if list_variables(templates.parts) <= campaign_values.keys():
        return count({})

    def count_for_customer(record: Mapping[str, Any]) -> int:
        referral = f"R-{record['customer_id']}"
        return count(make_customer_values(record, record["coupon_id"], referral))

    return count_for_customer


def list_record(customer: CustomerRecord) -> dict[str, object]:
    """Return the columns of an imported customer that a message may have."""
    return {
        "customer_id": customer.customer_id,
        "email": customer.email,
        "mobile_e164": customer.mobile_e164,
        "last_store": customer.last_store,
        "profile": customer.profile,
        "coupon_id": customer.coupon_id,
        "custom": customer.custom,
    }


def count_segments(text: str) -> int:
    """Return the number of segments of an SMS (3GPP TS 23.038 and 23.040)."""
    if _GSM.issuperset(text):
        units = "".join(_GSM_EXTENDED.get(char, char) for char in text)
        return _count_cuts(units, 160, 153, lambda unit: unit == _ESCAPE)
    encoded = text.encode("utf-16-be")
    units = "".join(
        chr(int.from_bytes(encoded[place : place + 2])) for place in range(0, len(encoded), 2)
    )
    return _count_cuts(units, 70, 67, lambda unit: "\ud800" <= unit <= "\udbff")


def _count_cuts(units: str, alone: int, joined: int, is_first_half: Callable[[str], bool]) -> int:
    """Return into how many parts a text is cut, where no character of two units is divided."""
    if len(units) <= alone:
        return 1
    parts = place = 0
    while place < len(units):
        end = place + joined
        if end < len(units) and is_first_half(units[end - 1]):
            end -= 1
        place, parts = end, parts + 1
    return parts
