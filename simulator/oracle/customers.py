"""The customers of a part of an audience: what blocks a message to them, and what follows from it.

Nothing here depends on other messages. No check is called, because the checks are what a run tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.oracle.campaign_reasons import installed_handlers
from simulator.oracle.costs import find_failing
from simulator.oracle.facts import RecordedFacts
from simulator.oracle.outcomes import PredictedOutcomes
from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import ImportedAudience
from simulator.world.defects import (
    DEFECT_FIELDS,
    NO_DEFECT,
    SERVICE_BY_REASON,
    draw_defects,
    explain_unplantable,
)
from simulator.world.engagement import derive_forced_engagement, draw_engagement
from simulator.world.gateway_response import draw_gateway_responses, draw_rejection_counts
from simulator.world.poison import REASON_BY_POISON
from simulator.world.services import draw_unanswered
from tracker.status import OPT_OUTS, Channel, Engagement, Reason, Status
from workers.services.base import MAX_SERVICE_CALLS


@dataclass(frozen=True)
class CustomerChunk:
    """Consecutive customers of an audience.

    Attributes:
        imported_audience: what is known of the customers, if they come from a file.
        facts: what the oracle takes from the record.
    """

    imported_audience: ImportedAudience | None
    facts: RecordedFacts
    first: int
    count: int

    def load_bounces(self, channel: Channel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the hard and the soft bounces on a channel that the customers' file says."""
        if self.imported_audience is None:
            hard, soft = np.zeros((2, self.count), np.int64)
        else:
            part = slice(self.first, self.first + self.count)
            hard = self.imported_audience.hard_bounces[channel][part].astype(np.int64)
            soft = self.imported_audience.soft_bounces[channel][part].astype(np.int64)
        return hard, soft

    def predict_engagement(self, campaign: PlannedCampaign) -> dict[Engagement, NDArray[np.bool_]]:
        """Return which customers engage how with a message that stays delivered."""
        drawn = draw_engagement(
            campaign.engagement, campaign.seed, campaign.name, self.first, self.count
        )
        forced = self.find_forced_outcomes(campaign)
        if not forced.any():
            return drawn
        by_force = derive_forced_engagement(forced)
        return {kind: np.where(forced > 0, by_force[kind], drawn[kind]) for kind in Engagement}

    def find_forced_outcomes(self, campaign: PlannedCampaign) -> NDArray[np.int8]:
        """Return the outcomes that addresses force, as codes of `ForcedOutcome`; 0 for none."""
        defects = self.find_defects(campaign)[0]
        return np.where(defects < 0, -defects, 0).astype(np.int8)

    def find_opted_out(
        self, campaign: PlannedCampaign, statuses: NDArray[np.int8]
    ) -> NDArray[np.bool_]:
        """Return which customers opt out of the channel after a campaign's message."""
        engagement = self.predict_engagement(campaign)
        opted_out = np.logical_or.reduce([engagement[kind] for kind in OPT_OUTS])
        return np.asarray(opted_out & (statuses == Status.DELIVERED))

    def find_rule_blocked(self, campaign: PlannedCampaign) -> NDArray[np.bool_]:
        """Return the customers whose message a rule of another package, or a person, stopped."""
        return self.facts.find_unmodelled(campaign.name, self.first, self.count)

    def find_cut_off(self, campaign: PlannedCampaign) -> NDArray[np.bool_]:
        """Return the customers whose message lost its further attempts, as it was cancelled."""
        return self.facts.find_cut_off(campaign.name, self.first, self.count)

    def find_failing(self, campaign: PlannedCampaign) -> NDArray[np.bool_]:
        """Return the customers whose message a gateway that sends text can't make."""
        return find_failing(campaign, self.imported_audience, self.first, self.count)

    def assign_poison_reasons(self, campaign: PlannedCampaign, reasons: NDArray[np.int8]) -> None:
        """Give messages that break the gateway their reason in place, if they get that far."""
        is_submitted = reasons == NO_DEFECT
        forced = self.find_forced_outcomes(campaign)
        for outcome, reason in REASON_BY_POISON.items():
            reasons[is_submitted & (forced == outcome)] = reason

    def find_breaking(
        self, campaign: PlannedCampaign, reasons: NDArray[np.int8]
    ) -> NDArray[np.bool_]:
        """Return which messages break the gateway. They use an allowance until they have ended."""
        forced = self.find_forced_outcomes(campaign)
        breaking = [
            (forced == outcome) & (reasons == reason)
            for outcome, reason in REASON_BY_POISON.items()
        ]
        return np.asarray(np.logical_or.reduce(breaking))

    def find_unanswered(self, campaign: PlannedCampaign) -> Mapping[Reason, NDArray[np.bool_]]:
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

    def find_defects(self, campaign: PlannedCampaign) -> tuple[NDArray[np.int8], ...]:
        """Return the defects of the customers' records, then of their coupons if imported.

        Defects that don't block the campaign's messages are left out.
        """
        if self.imported_audience is not None:
            part = slice(self.first, self.first + self.count)
            return (
                self.imported_audience.record_defects[campaign.name][part],
                self.imported_audience.coupon_defects[campaign.name][part],
                np.where(self.find_expired(campaign)[0], Reason.COUPON_EXPIRED, NO_DEFECT),
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

    def find_expired(
        self, campaign: PlannedCampaign
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which coupons surely had expired when judged, and which may have expired."""
        return self.facts.find_expired(campaign, self.imported_audience, self.first, self.count)

    def predict_delivery(
        self, campaign: PlannedCampaign, reasons: NDArray[np.int8]
    ) -> PredictedOutcomes:
        """Return the outcomes of messages at the gateway if no reason blocks them."""
        forced = self.find_forced_outcomes(campaign)
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
