"""Predict what all campaigns to an audience do to some of its customers, one after the other.

The rules stand here a second time, derived from planted defects and draws. No check is called,
because the checks are what a run tests.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.oracle.campaign_reasons import find_campaign_reasons, installed_handlers
from simulator.oracle.facts import RecordedFacts
from simulator.oracle.history import PredictedHistory
from simulator.oracle.outcomes import PredictedOutcomes
from simulator.oracle.precedence import UNANSWERED_REASON, add_possible_reason, assign_reason
from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import ImportedAudience
from simulator.world.defects import (
    DEFECT_FIELDS,
    NO_DEFECT,
    SERVICE_BY_REASON,
    draw_defects,
    explain_unplantable,
)
from simulator.world.engagement import draw_engagement
from simulator.world.forced import REASON_BY_POISON, derive_forced_engagement
from simulator.world.gateway_response import draw_gateway_responses, draw_rejection_counts
from simulator.world.services import draw_unanswered
from tracker.status import OPT_OUTS, Channel, Engagement, Reason, Status
from workers.services.base import MAX_SERVICE_CALLS


@dataclass
class AudiencePrediction:
    """The predictions of all campaigns to some consecutive customers of an audience.

    Attributes:
        campaigns: campaigns that use the audience, in the order of the scenario.
        imported_audience: what is known of the customers, if they come from a file.
        facts: what the oracle takes from the record.
        scarce_channels: the channels on which credit blocks some messages.
    """

    campaigns: tuple[PlannedCampaign, ...]
    imported_audience: ImportedAudience | None
    facts: RecordedFacts
    first: int
    count: int
    scarce_channels: Collection[Channel]
    _outcomes: dict[str, PredictedOutcomes] = field(default_factory=dict)

    def predict_outcomes(self, campaign: PlannedCampaign) -> PredictedOutcomes:
        """Return the predicted outcomes of a campaign's messages to the customers."""
        if campaign.name not in self._outcomes:
            self._outcomes[campaign.name] = self._compute_outcomes(campaign)
        return self._outcomes[campaign.name]

    def count_over_limit(self, campaign: PlannedCampaign) -> int:
        """Return how many messages of concurrent campaigns the message limit blocks.

        They are counted for the first of these campaigns only; the result for others is 0.
        """
        names = {other.name for other in self._find_rivals(campaign)}
        limit = campaign.organization.message_limit
        group = [other for other in self.campaigns if other.name in {campaign.name, *names}]
        if limit is None or not names or group[0].name != campaign.name:
            return 0
        wanted = np.sum([self.predict_outcomes(member).sent for member in group], axis=0)
        left = limit.count - self._compute_history(campaign).messages_sent
        return int(np.maximum(wanted - left, 0)[wanted > 0].sum())

    def predict_engagement(self, campaign: PlannedCampaign) -> dict[Engagement, NDArray[np.bool_]]:
        """Return which customers engage how with a message that stays delivered."""
        drawn = draw_engagement(
            campaign.engagement, campaign.seed, campaign.name, self.first, self.count
        )
        forced = self._find_forced_outcomes(campaign)
        if not forced.any():
            return drawn
        by_force = derive_forced_engagement(forced)
        return {kind: np.where(forced > 0, by_force[kind], drawn[kind]) for kind in Engagement}

    def _compute_outcomes(self, campaign: PlannedCampaign) -> PredictedOutcomes:
        history = self._compute_history(campaign)
        reasons = self._find_reasons(campaign, history)
        possible_reasons = np.zeros(self.count, np.int32)
        concurrent = self._find_concurrent_campaigns(campaign)
        # What each would do if it were alone. That may happen before or after this campaign.
        reasons_alone = {
            other.name: self._find_reasons(other, self._compute_history(other))
            for other in concurrent
        }
        limit = campaign.organization.message_limit
        if limit is not None:
            left = limit.count - history.messages_sent
            assign_reason(reasons, left <= 0, Reason.MESSAGE_LIMIT)
            most = history.most_messages_sent + self._count_rivals(campaign, reasons_alone)
            add_possible_reason(
                possible_reasons, reasons, most >= limit.count, Reason.MESSAGE_LIMIT
            )
        outcomes = self._predict_delivery(campaign, reasons)
        for other in concurrent:
            if other.channel is campaign.channel:
                delivery = self._predict_delivery(other, reasons_alone[other.name])
                history = history.add_bounces(delivery)
                opted_out = self._find_opted_out(other, delivery.statuses)
                add_possible_reason(possible_reasons, reasons, opted_out, Reason.UNSUBSCRIBED)
        bounced = history.has_bounced_repeatedly(campaign)
        add_possible_reason(possible_reasons, reasons, bounced, Reason.BOUNCED_REPEATEDLY)
        _, may_expire = self._find_expired(campaign)
        add_possible_reason(possible_reasons, reasons, may_expire, Reason.COUPON_EXPIRED)
        if campaign.channel in self.scarce_channels:
            breaking = self._find_breaking(campaign, outcomes.reasons)
            possible_reasons[outcomes.sent | breaking] |= 1 << Reason.OUT_OF_CREDIT
        by_rule = self._find_rule_blocked(campaign)
        possible_reasons[by_rule] = 0
        return replace(
            outcomes,
            possible_reasons=possible_reasons,
            uncertain=history.uncertain & ~by_rule,
            by_rule=by_rule,
        )

    def find_breaking(self, campaign: PlannedCampaign) -> NDArray[np.bool_]:
        """Return which messages of a campaign break the gateway."""
        return self._find_breaking(campaign, self.predict_outcomes(campaign).reasons)

    def has_unclear_limit(self, campaign: PlannedCampaign) -> bool:
        """Return whether the record leaves open which messages count for the message limit."""
        if campaign.name not in self.facts.limit_times:
            return False
        history = self._compute_history(campaign)
        is_unclear = history.most_messages_sent > history.messages_sent
        return bool(self._find_rivals(campaign) or is_unclear.any())

    def _count_rivals(
        self, campaign: PlannedCampaign, reasons_alone: Mapping[str, NDArray[np.int8]]
    ) -> NDArray[np.int64]:
        """Return how many messages of concurrent campaigns may use each customer's limit."""
        rivals = np.zeros(self.count, np.int64)
        for other in self._find_rivals(campaign):
            reasons = reasons_alone[other.name]
            uses_limit = (reasons == NO_DEFECT) | self._find_breaking(other, reasons)
            rivals += uses_limit & self._find_counted(other, campaign)[1]
        return rivals

    def _find_counted(
        self, earlier: PlannedCampaign, campaign: PlannedCampaign
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which messages of an earlier campaign count for the limit, surely and possibly."""
        return self.facts.find_counted(earlier.name, campaign.name, self.first, self.count)

    def _compute_history(self, campaign: PlannedCampaign) -> PredictedHistory:
        """Return the changes of customers by earlier campaigns.

        A campaign that was dispatched before this one was judged counts for the message limit. All
        else counts only of campaigns that settle before this one begins.
        """
        if self.imported_audience is None:
            hard, soft = np.zeros((2, self.count), np.int64)
        else:
            part = slice(self.first, self.first + self.count)
            hard = self.imported_audience.hard_bounces[part].astype(np.int64)
            soft = self.imported_audience.soft_bounces[part].astype(np.int64)
        messages_sent, most_sent = np.zeros((2, self.count), np.int64)
        opted_out, uncertain = np.zeros((2, self.count), np.bool_)
        for other in self.campaigns:
            has_settled = other.name in campaign.predecessors
            if not has_settled and not self.facts.precedes(other.name, campaign.name):
                continue
            earlier = self.predict_outcomes(other)
            surely_counted, possibly_counted = self._find_counted(other, campaign)
            messages_sent += earlier.sent & surely_counted
            most_sent += earlier.sent & possibly_counted
            uncertain |= earlier.uncertain | (earlier.possible_reasons != 0)
            uncertain |= earlier.sent & earlier.unpredictable
            if has_settled and other.channel is campaign.channel:
                hard += earlier.statuses == Status.HARD_BOUNCED
                soft += earlier.statuses == Status.SOFT_BOUNCED
                was_delivered = earlier.statuses == Status.DELIVERED
                soft[was_delivered | (earlier.sent & earlier.late_bounce)] = 0
                opted_out |= self._find_opted_out(other, earlier.statuses)
        return PredictedHistory(hard, soft, messages_sent, most_sent, opted_out, uncertain)

    def _find_forced_outcomes(self, campaign: PlannedCampaign) -> NDArray[np.int8]:
        """Return the outcomes that addresses force, as codes of `ForcedOutcome`; 0 for none."""
        defects = self._find_defects(campaign)[0]
        return np.where(defects < 0, -defects, 0).astype(np.int8)

    def _find_opted_out(
        self, campaign: PlannedCampaign, statuses: NDArray[np.int8]
    ) -> NDArray[np.bool_]:
        """Return which customers opt out of the channel after a campaign's message."""
        engagement = self.predict_engagement(campaign)
        opted_out = np.logical_or.reduce([engagement[kind] for kind in OPT_OUTS])
        return np.asarray(opted_out & (statuses == Status.DELIVERED))

    def _find_reasons(
        self, campaign: PlannedCampaign, history: PredictedHistory
    ) -> NDArray[np.int8]:
        """Return the first reason that applies to each message, credit and message limit apart.

        `CUSTOM_RULE` stands for a rule of another package.
        """
        reasons = np.full(self.count, NO_DEFECT, np.int8)
        unanswered = self._find_unanswered(campaign)
        for defects in self._find_defects(campaign):
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
        everybody = np.ones(self.count, np.bool_)
        for reason in find_campaign_reasons(campaign):
            assign_reason(reasons, everybody, reason)
        if campaign.gateway.is_simulated:
            self._assign_poison_reasons(campaign, reasons)
        # Whatever the reason on record: such a message isn't sent, and isn't compared.
        reasons[self._find_rule_blocked(campaign)] = Reason.CUSTOM_RULE
        return reasons

    def _find_rule_blocked(self, campaign: PlannedCampaign) -> NDArray[np.bool_]:
        """Return the customers whose message a rule of another package blocked."""
        return self.facts.find_rule_blocked(campaign.name, self.first, self.count)

    def _assign_poison_reasons(self, campaign: PlannedCampaign, reasons: NDArray[np.int8]) -> None:
        """Give messages that break the gateway their reason in place, if they get that far."""
        is_submitted = reasons == NO_DEFECT
        forced = self._find_forced_outcomes(campaign)
        for outcome, reason in REASON_BY_POISON.items():
            reasons[is_submitted & (forced == outcome)] = reason

    def _find_breaking(
        self, campaign: PlannedCampaign, reasons: NDArray[np.int8]
    ) -> NDArray[np.bool_]:
        """Return which messages break the gateway. They use an allowance until they have ended."""
        forced = self._find_forced_outcomes(campaign)
        breaking = [
            (forced == outcome) & (reasons == reason)
            for outcome, reason in REASON_BY_POISON.items()
        ]
        return np.asarray(np.logical_or.reduce(breaking))

    def _find_unanswered(self, campaign: PlannedCampaign) -> Mapping[Reason, NDArray[np.bool_]]:
        """Return the customers without an answer from a service that the campaign needs.

        The arrays are keyed by the reason that such a message gets.
        """
        unanswered = {}
        for reason, service in SERVICE_BY_REASON.items():
            if explain_unplantable(reason, campaign.channel, campaign.requires) is not None:
                continue
            if reason is Reason.TIMEOUT and campaign.kind not in installed_handlers():
                continue  # Without a handler, no message is prepared.
            unanswered[reason] = np.ones(self.count, np.bool_)
            for attempt in range(MAX_SERVICE_CALLS):
                unanswered[reason] &= draw_unanswered(
                    campaign.services, campaign.name, service, attempt, self.first, self.count
                )
        return unanswered

    def _find_defects(self, campaign: PlannedCampaign) -> tuple[NDArray[np.int8], ...]:
        """Return the defects of the customers' records, then of their coupons if imported.

        Defects that don't block the campaign's messages are left out.
        """
        if self.imported_audience is not None:
            part = slice(self.first, self.first + self.count)
            return (
                self.imported_audience.record_defects[campaign.name][part],
                self.imported_audience.coupon_defects[campaign.name][part],
                np.where(self._find_expired(campaign)[0], Reason.COUPON_EXPIRED, NO_DEFECT),
            )
        audience = campaign.audience
        defects = draw_defects(
            campaign.seed, audience.owner, audience.defects, self.first, self.count
        )
        for reason in DEFECT_FIELDS:
            why_not = explain_unplantable(reason, campaign.channel, campaign.requires)
            if why_not is not None or reason in SERVICE_BY_REASON:
                defects[defects == reason] = NO_DEFECT
        return (defects,)

    def _find_expired(
        self, campaign: PlannedCampaign
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which coupons surely had expired when judged, and which may have expired."""
        return self.facts.find_expired(campaign, self.imported_audience, self.first, self.count)

    def _predict_delivery(
        self, campaign: PlannedCampaign, reasons: NDArray[np.int8]
    ) -> PredictedOutcomes:
        """Return the outcomes of messages at the gateway if no reason blocks them."""
        forced = self._find_forced_outcomes(campaign)
        outcomes = PredictedOutcomes.not_sent(reasons)
        waiting = np.ones(self.count, np.bool_)
        gateway = campaign.gateway
        outcomes.unpredictable[:] = not gateway.is_simulated
        for attempt in range(1, gateway.attempts + 1):
            response = draw_gateway_responses(
                gateway, campaign.seed, campaign.name, attempt, self.first, forced
            )
            rejections = draw_rejection_counts(
                gateway, campaign.seed, campaign.name, attempt, self.first, self.count
            )
            outcomes.rejections[waiting] += rejections[waiting]
            outcomes.lost[waiting & response.lost] = True
            statuses = np.where(response.lost, Status.IN_GATEWAY, response.outcomes)
            outcomes.statuses[waiting], outcomes.attempts[waiting] = statuses[waiting], attempt
            outcomes.duplicates[waiting & response.duplicate] += 1
            outcomes.stale[waiting & response.stale] += 1
            late = waiting & response.late_bounce
            outcomes.late_bounce[late], outcomes.statuses[late] = True, Status.HARD_BOUNCED
            waiting &= statuses == Status.SOFT_BOUNCED
        blocked = reasons != NO_DEFECT
        outcomes.statuses[blocked], outcomes.attempts[blocked] = Status.NOT_SENT, 0
        return outcomes

    def _find_concurrent_campaigns(self, campaign: PlannedCampaign) -> list[PlannedCampaign]:
        """Return the other campaigns to the audience that may change a campaign's messages."""
        return [
            other
            for other in self.campaigns
            if other.name != campaign.name
            and other.name not in campaign.predecessors
            and campaign.name not in other.predecessors
            and not self.facts.precedes(campaign.name, other.name)
        ]

    def _find_rivals(self, campaign: PlannedCampaign) -> list[PlannedCampaign]:
        """Return the concurrent campaigns that use the message limit in an unknown order."""
        return [
            other
            for other in self._find_concurrent_campaigns(campaign)
            if not self.facts.precedes(other.name, campaign.name)
        ]
