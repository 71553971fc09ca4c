"""Charge an organization with limited credit for the messages that are dispatched."""

from collections.abc import Mapping, Sequence

from tracker.clock import Instant
from tracker.record import allowance
from tracker.record.journal import Entry
from tracker.status import Channel, Reason
from workers.message.rendering import MessageFailed, MessageRenderer
from workers.message.sms_segments import count_sms_segments
from workers.services.base import ServiceUnavailable
from workers.steps.context import StepContext
from workers.steps.verdicts import mark_not_sent


def find_costs(context: StepContext, numbers: Sequence[int]) -> Mapping[int, int]:
    """Return the credit for those messages that cost more than one.

    An SMS costs as much as it has segments (3GPP TS 23.040), and an email one. Nothing is rendered
    where credit is unlimited.

    If a service that the text needs stays unavailable, each message costs one.

    Raises:
        ServiceUnavailable: the service is unavailable, and a retry follows.
    """
    campaign = context.campaign
    is_charged = campaign.organization.credit_on(campaign.channel) is not None
    if campaign.channel is not Channel.SMS or not is_charged or not numbers:
        return {}
    renderer = MessageRenderer(context.database, campaign, numbers)
    if renderer.is_same_for_all:
        cost = _find_cost(renderer, numbers[0])
        return dict.fromkeys(numbers, cost) if cost > 1 else {}
    try:
        costs = {number: _find_cost(renderer, number) for number in numbers}
    except ServiceUnavailable:
        if not context.is_last_try:
            raise
        return {}
    return {number: cost for number, cost in costs.items() if cost > 1}


def _find_cost(renderer: MessageRenderer, number: int) -> int:
    try:
        return count_sms_segments(renderer.render(number).text)
    except MessageFailed:
        return 1  # a gateway that makes messages refuses it, and the credit is refunded


def charge_messages(
    context: StepContext,
    written: Entry,
    numbers: Sequence[int],
    costs: Mapping[int, int],
    credit: int,
    now: Instant,
) -> Sequence[int]:
    """Charge messages while credit is left, and return them; the others are Not Sent.

    Args:
        context: the batch.
        written: an entry that has locked the organization.
        numbers: the messages, in the order in which they get credit.
        costs: the credit for messages that cost more than one.
        credit: the organization's credit on the channel.
        now: time of the dispatch.
    """
    affordable, unaffordable, cost = _divide(numbers, costs, credit)
    mark_not_sent(written, unaffordable, Reason.OUT_OF_CREDIT, now)
    allowance.charge_credit(written.connection, context.campaign, cost)
    charged = {number: costs[number] for number in affordable if number in costs}
    if charged:
        allowance.record_costs(context.database, written.connection, context.campaign, charged)
    return affordable


def _divide(
    numbers: Sequence[int], costs: Mapping[int, int], credit: int
) -> tuple[Sequence[int], Sequence[int], int]:
    """Return the messages that the credit covers, the others, and the cost of the first.

    A message that costs more than what is left leaves it to the messages after it.
    """
    affordable, unaffordable, left = [], [], credit
    for number in numbers:
        cost = costs.get(number, 1)
        if cost <= left:
            affordable.append(number)
            left -= cost
        else:
            unaffordable.append(number)
    return affordable, unaffordable, credit - left
