"""Predict how many messages the credit and the message limit of organizations block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from simulator.oracle.costs import NO_COSTS, MessageCosts
from simulator.oracle.oracle import Oracle
from simulator.setup.message_costs import make_customer_cost
from tracker.status import Channel


@dataclass(frozen=True, kw_only=True)
class WithheldPrediction:
    """The number of messages that an organization's credit and message limit block.

    Attributes:
        withheld: number of messages, or None where it can't be predicted.
        scarce_channels: the channels on which credit blocks messages.
    """

    withheld: int | None
    scarce_channels: frozenset[Channel]


def predict_withheld(oracles: Sequence[Oracle]) -> Mapping[str | None, WithheldPrediction]:
    """Return how many messages each organization withholds, by its key in the scenario."""
    keys = dict.fromkeys(oracle.campaign.organization_key for oracle in oracles)
    return {
        key: _predict_withheld(
            [oracle for oracle in oracles if oracle.campaign.organization_key == key]
        )
        for key in keys
    }


def _predict_withheld(oracles: Sequence[Oracle]) -> WithheldPrediction:
    """Return how many messages the organization of some campaigns withholds."""
    organization = oracles[0].campaign.organization
    is_certain = all(oracle.is_certain() and not oracle.has_unclear_limit() for oracle in oracles)
    pools = [_count_pool(pool) for pool in _group_by_credit(oracles)]
    over_limit = sum(pool.over_limit for pool in pools)
    # With several pools, it depends on the order of campaigns in which of them the limit blocks.
    is_limit_unclear = len(pools) > 1 and over_limit > 0
    if is_limit_unclear:
        pools = [replace(pool, over_limit=0) for pool in pools]
    scarce_pools = [pool for pool in pools if pool.is_scarce]
    for pool in scarce_pools:
        if pool.has_order or not pool.has_one_cost or is_limit_unclear:
            is_certain = False
    breaking = sum(pool.breaking for pool in pools)
    if breaking and (scarce_pools or organization.message_limit is not None):
        is_certain = False  # it depends on whether a message ends before another is dispatched
    withheld = over_limit + sum(pool.out_of_credit for pool in pools)
    return WithheldPrediction(
        withheld=withheld if is_certain else None,
        scarce_channels=frozenset().union(*(pool.channels for pool in scarce_pools)),
    )


def _group_by_credit(oracles: Sequence[Oracle]) -> list[list[Oracle]]:
    """Return the campaigns of an organization in groups that share their credit."""
    if oracles[0].campaign.organization.shared_credit is not None:
        return [list(oracles)]
    groups = (
        [oracle for oracle in oracles if oracle.campaign.channel is channel] for channel in Channel
    )
    return [group for group in groups if group]


@dataclass(frozen=True, kw_only=True)
class _CreditPool:
    """The messages of campaigns that share their credit.

    Attributes:
        credit: None is unlimited.
        has_order: whether a campaign waits for another one.
        sendable: messages that only an allowance can block.
        over_limit: those of them that the message limit blocks.
        breaking: messages that break the gateway, which use credit until they have ended.
        costs: the credit for all sendable and breaking messages.
    """

    channels: frozenset[Channel]
    credit: int | None
    has_order: bool
    sendable: int
    over_limit: int
    breaking: int
    costs: MessageCosts

    @property
    def has_one_cost(self) -> bool:
        """True if all messages cost the same."""
        return self.costs.least == self.costs.greatest

    @property
    def is_scarce(self) -> bool:
        """True if the credit may not be enough for all messages."""
        needed = self.costs.total
        if self.has_one_cost:
            needed = (self.sendable - self.over_limit + self.breaking) * self.costs.least
        return self.credit is not None and self.credit < needed

    @property
    def out_of_credit(self) -> int:
        """The number of messages without credit, if all messages cost the same."""
        if self.credit is None or not self.is_scarce:
            return 0
        return max(0, self.sendable - self.over_limit - self.credit // self.costs.least)


def _count_pool(oracles: Sequence[Oracle]) -> _CreditPool:
    """Return the messages of some campaigns that share their credit."""
    counts = [oracle.count_sendable() for oracle in oracles]
    breaking = [oracle.count_breaking() for oracle in oracles]
    plans = [oracle.campaign for oracle in oracles]
    credit = plans[0].organization.credit_on(plans[0].channel)
    costs = NO_COSTS
    for oracle, (sendable, _), breaking_count in zip(oracles, counts, breaking, strict=True):
        if credit is not None:
            costs += _sum_costs(oracle, sendable + breaking_count)
    return _CreditPool(
        channels=frozenset(plan.channel for plan in plans),
        credit=credit,
        has_order=any(plan.after for plan in plans),
        sendable=sum(sendable for sendable, _ in counts),
        over_limit=sum(over_limit for _, over_limit in counts),
        breaking=sum(breaking),
        costs=costs,
    )


def _sum_costs(oracle: Oracle, messages: int) -> MessageCosts:
    """Return the credit for the messages of a campaign, whose number is known."""
    cost = make_customer_cost(oracle.campaign)
    if not isinstance(cost, int):
        return oracle.sum_costs()
    return MessageCosts(cost, cost, cost * messages) if messages else NO_COSTS
