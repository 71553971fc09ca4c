"""Predict what all campaigns to an audience do to some of its customers, one after the other.

The rules stand here a second time, derived from planted defects and draws. No check is called,
because the checks are what a run tests.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.oracle.campaign_reasons import find_campaign_reasons
from simulator.oracle.customers import CustomerChunk
from simulator.oracle.history import PredictedHistory
from simulator.oracle.outcomes import PredictedOutcomes
from simulator.oracle.persons import MessageEffects, SharedPersons, SharingCustomers
from simulator.oracle.precedence import UNANSWERED_REASON, add_possible_reason, assign_reason
from simulator.scenario.plan import PlannedAudience, PlannedCampaign
from simulator.setup.census import Restriction
from simulator.world.defects import NO_DEFECT
from tracker.status import Channel, Reason, Status


@dataclass
class AudiencePrediction:
    """The predictions of all campaigns to some consecutive customers of an audience.

    Attributes:
        scenario_campaigns: all campaigns of the scenario, in its order.
        persons: customers of the scenario's audience files who have the same address.
        scarce_channels: the channels on which credit blocks some messages.
    """

    scenario_campaigns: Sequence[PlannedCampaign]
    audience: PlannedAudience
    customers: CustomerChunk
    persons: SharedPersons
    scarce_channels: Collection[Channel]
    _outcomes: dict[str, PredictedOutcomes] = field(default_factory=dict)

    def predict_outcomes(self, campaign: PlannedCampaign) -> PredictedOutcomes:
        """Return the predicted outcomes of a campaign's messages to the customers.

        While they are computed, nothing is known of them: campaigns that wait for one another and
        run beside others may depend on each other in a circle.
        """
        if campaign.name not in self._outcomes:
            self._outcomes[campaign.name] = PredictedOutcomes.unknown(self.customers.count)
            self._outcomes[campaign.name] = self._compute_outcomes(campaign)
        return self._outcomes[campaign.name]

    def count_over_limit(self, campaign: PlannedCampaign) -> int:
        """Return how many messages of concurrent campaigns the message limit blocks.

        They are counted for the first of these campaigns only; the result for others is 0.
        """
        names = {other.name for other in self._find_rivals(campaign)}
        limit = campaign.organization.message_limit
        group = [
            other
            for other in self.scenario_campaigns
            if other.name in {campaign.name, *names} and self._is_own(other)
        ]
        if limit is None or len(group) == 1 or group[0].name != campaign.name:
            return 0
        wanted = np.sum([self.predict_outcomes(member).sent for member in group], axis=0)
        left = limit.count - self._compute_history(campaign).messages_sent
        return int(np.maximum(wanted - left, 0)[wanted > 0].sum())

    def _compute_outcomes(self, campaign: PlannedCampaign) -> PredictedOutcomes:
        history = self._compute_history(campaign)
        reasons = self._find_reasons(campaign, history)
        possible_reasons = np.zeros(self.customers.count, np.int32)
        concurrent = self._find_concurrent_campaigns(campaign)
        # What each would do if it were alone. That may happen before or after this campaign.
        alone = {other.name: self._find_effects(other, is_alone=True) for other in concurrent}
        own_rest = self._find_effects_of_itself(campaign)
        limit = campaign.organization.message_limit
        if limit is not None:
            left = limit.count - history.messages_sent
            assign_reason(reasons, left <= 0, Reason.MESSAGE_LIMIT)
            most = history.most_messages_sent + self._count_rivals(campaign, alone)
            add_possible_reason(
                possible_reasons, reasons, most >= limit.count, Reason.MESSAGE_LIMIT
            )
        outcomes = self.customers.predict_delivery(campaign, reasons)
        rivals = [alone[other.name] for other in concurrent if other.channel is campaign.channel]
        for own, rest in (*rivals, (MessageEffects.none(self.customers.count), own_rest)):
            effects = own.plus(rest)
            history = history.add_bounces(effects)
            opted_out = effects.opted_out > 0
            history.uncertain[rest.uncertain > 0] = True
            add_possible_reason(possible_reasons, reasons, opted_out, Reason.UNSUBSCRIBED)
        bounced = history.has_bounced_repeatedly(campaign)
        add_possible_reason(possible_reasons, reasons, bounced, Reason.BOUNCED_REPEATEDLY)
        _, may_expire = self.customers.find_expired(campaign)
        add_possible_reason(possible_reasons, reasons, may_expire, Reason.COUPON_EXPIRED)
        if campaign.channel in self.scarce_channels:
            breaking = self.customers.find_breaking(campaign, outcomes.reasons)
            possible_reasons[outcomes.sent | breaking] |= 1 << Reason.OUT_OF_CREDIT
        failing = self.customers.find_failing(campaign)
        possible_reasons[outcomes.sent & failing] |= 1 << Reason.STEP_FAILED
        by_rule = self.customers.find_rule_blocked(campaign)
        possible_reasons[by_rule] = 0
        return replace(
            outcomes,
            possible_reasons=possible_reasons,
            uncertain=history.uncertain & ~by_rule,
            by_rule=by_rule,
        )

    def find_breaking(self, campaign: PlannedCampaign) -> NDArray[np.bool_]:
        """Return which messages of a campaign break the gateway."""
        return self.customers.find_breaking(campaign, self.predict_outcomes(campaign).reasons)

    def has_unclear_limit(self, campaign: PlannedCampaign) -> bool:
        """Return whether it is open which messages count for the message limit."""
        rivals = self._find_rivals(campaign)
        has_limit = campaign.organization.message_limit is not None
        for other in rivals if has_limit and self.persons.sharing else ():
            if self._find_effects(other, is_alone=True)[1].limited.any():
                return True
        if campaign.name not in self.customers.facts.limit_times:
            return False
        history = self._compute_history(campaign)
        is_unclear = history.most_messages_sent > history.messages_sent
        return bool(rivals or is_unclear.any())

    def predict_effects(self, campaign: PlannedCampaign, *, is_alone: bool) -> MessageEffects:
        """Return what the messages of a campaign to this audience do to their customers.

        Args:
            is_alone: whether concurrent campaigns and the message limit block none of them.
        """
        if is_alone:
            history = self._compute_history(campaign)
            reasons = self._find_reasons(campaign, history)
            outcomes = self.customers.predict_delivery(campaign, reasons)
            uncertain = history.uncertain
        else:
            outcomes = self.predict_outcomes(campaign)
            uncertain = outcomes.uncertain | (outcomes.possible_reasons != 0)
        uncertain = uncertain | self.customers.find_cut_off(campaign)
        sent, statuses = outcomes.sent, outcomes.statuses
        was_delivered = (statuses == Status.DELIVERED) | (sent & outcomes.late_bounce)
        return MessageEffects.from_flags(
            sent=sent,
            limited=sent | self.customers.find_breaking(campaign, outcomes.reasons),
            hard_bounces=statuses == Status.HARD_BOUNCED,
            soft_bounces=statuses == Status.SOFT_BOUNCED,
            delivered=was_delivered,
            opted_out=self.customers.find_opted_out(campaign, statuses),
            uncertain=uncertain | (sent & outcomes.unpredictable),
        )

    def _find_effects(
        self, other: PlannedCampaign, *, is_alone: bool
    ) -> tuple[MessageEffects, MessageEffects]:
        """Return the effects of a campaign's messages to the customers, and to others like them.

        The others have the same address on the campaign's channel.
        """
        own = MessageEffects.none(self.customers.count)
        if self._is_own(other):
            own = self.predict_effects(other, is_alone=is_alone)
        rest = MessageEffects.none(self.customers.count)
        part = self._find_sharing(other.channel)
        if len(part.numbers):
            total = self._sum_effects(other, is_alone)
            for values, sums, own_values in zip(rest, total, own, strict=True):
                is_known = part.persons < len(sums)
                at, persons = part.numbers[is_known], part.persons[is_known]
                values[at] = np.maximum(sums[persons] - own_values[at], 0)
        return own, rest

    def _find_effects_of_itself(self, campaign: PlannedCampaign) -> MessageEffects:
        """Return the effects of a campaign's other messages to the address of each customer."""
        imported = self.customers.imported_audience
        if imported is None or imported.skips_duplicates:
            return MessageEffects.none(self.customers.count)
        return self._find_effects(campaign, is_alone=True)[1]

    def _sum_effects(self, campaign: PlannedCampaign, is_alone: bool) -> MessageEffects:
        """Return the effects of a campaign's messages on persons who occur more than once."""
        audience = campaign.audience

        def predict(first: int, count: int) -> MessageEffects:
            imported = self.persons.audiences[audience.owner]
            customers = CustomerChunk(imported, self.customers.facts, first, count)
            chunk = replace(self, audience=audience, customers=customers, _outcomes={})
            return chunk.predict_effects(campaign, is_alone=is_alone)

        return self.persons.sum_effects(
            (campaign.name, is_alone, frozenset(self.scarce_channels)),
            self.persons.find_sharing(audience.owner, campaign.channel),
            predict,
        )

    def _find_sharing(self, channel: Channel) -> SharingCustomers:
        """Return the customers who share an address on a channel, by their positions."""
        sharing = self.persons.find_sharing(self.audience.owner, channel)
        return sharing.select(self.customers.first, self.customers.count)

    def _is_own(self, campaign: PlannedCampaign) -> bool:
        return campaign.audience.owner == self.audience.owner

    def _count_rivals(
        self,
        campaign: PlannedCampaign,
        alone: Mapping[str, tuple[MessageEffects, MessageEffects]],
    ) -> NDArray[np.int64]:
        """Return how many messages of concurrent campaigns may use each customer's limit."""
        rivals = np.zeros(self.customers.count, np.int64)
        for other in self._find_rivals(campaign):
            own, rest = alone[other.name]
            rivals += own.limited * self._find_counted(other, campaign)[1] + rest.limited
        return rivals

    def _find_counted(
        self, earlier: PlannedCampaign, campaign: PlannedCampaign
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which messages of an earlier campaign count for the limit, surely and possibly."""
        return self.customers.facts.find_counted(
            earlier.name, campaign.name, self.customers.first, self.customers.count
        )

    def _compute_history(self, campaign: PlannedCampaign) -> PredictedHistory:
        """Return the changes of customers by earlier campaigns.

        A campaign that was dispatched before this one was judged counts for the message limit. All
        else counts only of campaigns that settle before this one begins.
        """
        count, facts = self.customers.count, self.customers.facts
        part = self._find_sharing(campaign.channel)
        hard, soft = self.customers.load_bounces(campaign.channel)
        hard[part.numbers], soft[part.numbers] = part.hard_bounces, part.soft_bounces
        messages_sent, most_sent = np.zeros((2, count), np.int64)
        opted_out, uncertain = np.zeros((2, count), np.bool_)
        for other in self._find_related_campaigns(campaign):
            has_settled = other.name in campaign.predecessors
            if not has_settled and not facts.precedes(other.name, campaign.name):
                continue
            own, rest = self._find_effects(other, is_alone=False)
            surely_counted, possibly_counted = self._find_counted(other, campaign)
            is_dated = campaign.name in facts.limit_times
            messages_sent += own.sent * surely_counted
            messages_sent += rest.sent * (has_settled and not is_dated)
            most_sent += own.sent * possibly_counted + rest.sent
            uncertain |= own.uncertain + rest.uncertain > 0
            if has_settled and other.channel is campaign.channel:
                effects = own.plus(rest)
                hard += effects.hard_bounces
                soft += effects.soft_bounces
                # Several messages of one campaign to an address end in an unknown order.
                uncertain |= (effects.delivered > 0) & (effects.soft_bounces > 0)
                soft[effects.delivered > 0] = 0
                opted_out |= effects.opted_out > 0
        return PredictedHistory(hard, soft, messages_sent, most_sent, opted_out, uncertain)

    def _find_reasons(
        self, campaign: PlannedCampaign, history: PredictedHistory
    ) -> NDArray[np.int8]:
        """Return the first reason that applies to each message, credit and message limit apart.

        `CUSTOM_RULE` stands for a rule of another package.
        """
        reasons = np.full(self.customers.count, NO_DEFECT, np.int8)
        unanswered = self.customers.find_unanswered(campaign)
        for defects in self.customers.find_defects(campaign):
            for reason in map(Reason, sorted(set(defects[defects > NO_DEFECT].tolist()))):
                where = defects == reason
                # A service that has no answer can't report the defect.
                service_reason = UNANSWERED_REASON.get(reason)
                if service_reason is not None and service_reason in unanswered:
                    where = where & ~unanswered[service_reason]
                assign_reason(reasons, where, reason)
        for reason, where in unanswered.items():
            assign_reason(reasons, where, reason)
        bounced = history.has_bounced_repeatedly(campaign)
        assign_reason(reasons, bounced, Reason.BOUNCED_REPEATEDLY)
        has_answer = ~unanswered[Reason.SUBSCRIPTION_SERVICE]
        assign_reason(reasons, history.opted_out & has_answer, Reason.UNSUBSCRIBED)
        self._assign_shared_reasons(campaign, reasons, has_answer)
        everybody = np.ones(self.customers.count, np.bool_)
        for reason in find_campaign_reasons(campaign):
            assign_reason(reasons, everybody, reason)
        if campaign.gateway.is_simulated:
            self.customers.assign_poison_reasons(campaign, reasons)
        # Whatever the reason on record: such a message isn't sent, and isn't compared.
        reasons[self.customers.find_rule_blocked(campaign)] = Reason.CUSTOM_RULE
        return reasons

    def _assign_shared_reasons(
        self,
        campaign: PlannedCampaign,
        reasons: NDArray[np.int8],
        has_answer: NDArray[np.bool_],
    ) -> None:
        """Give customers who share an address the reasons of all of them, and duplicates theirs."""
        part = self._find_sharing(campaign.channel)
        is_sms = campaign.channel is Channel.SMS
        unsubscribed = Restriction.UNSUBSCRIBED_SMS if is_sms else Restriction.UNSUBSCRIBED_EMAIL
        by_reason = {
            Reason.UNSUBSCRIBED: (part.restrictions & unsubscribed > 0) & has_answer[part.numbers],
            Reason.NDNC: (part.restrictions & Restriction.NDNC > 0) & has_answer[part.numbers],
            Reason.DUPLICATE_RECIPIENT: part.is_duplicate,
        }
        if not is_sms:
            del by_reason[Reason.NDNC]
        for reason, is_blocked in by_reason.items():
            where = np.zeros(len(reasons), np.bool_)
            where[part.numbers] = is_blocked
            assign_reason(reasons, where, reason)

    def _find_related_campaigns(self, campaign: PlannedCampaign) -> list[PlannedCampaign]:
        """Return the other campaigns of the organization to these customers or their addresses."""
        return [
            other
            for other in self.scenario_campaigns
            if other.name != campaign.name
            and other.organization_key == campaign.organization_key
            and (
                self._is_own(other)
                or (
                    len(self._find_sharing(other.channel).numbers)
                    and len(self.persons.find_sharing(other.audience.owner, other.channel).numbers)
                )
            )
        ]

    def _find_concurrent_campaigns(self, campaign: PlannedCampaign) -> list[PlannedCampaign]:
        """Return the related campaigns that may change a campaign's messages."""
        return [
            other
            for other in self._find_related_campaigns(campaign)
            if other.name not in campaign.predecessors
            and campaign.name not in other.predecessors
            and not self.customers.facts.precedes(campaign.name, other.name)
        ]

    def _find_rivals(self, campaign: PlannedCampaign) -> list[PlannedCampaign]:
        """Return the concurrent campaigns that use the message limit in an unknown order."""
        return [
            other
            for other in self._find_concurrent_campaigns(campaign)
            if not self.customers.facts.precedes(other.name, campaign.name)
        ]
