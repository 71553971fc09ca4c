"""What all campaigns to an audience will do to some of its customers, one after the other.

The rule book is read here a second time, from labels and draws: no check is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from simulator.scenario.file import Scenario, build_service_settings
from simulator.scenario.sections import Campaign
from simulator.setup.census import ImportedAudience
from simulator.world.defects import (
    DEFECT_FIELDS,
    NO_DEFECT,
    SERVICE_BY_REASON,
    draw_defects,
    explain_unplantable,
)
from simulator.world.forced import derive_forced_engagement
from simulator.world.gateway_response import draw_gateway_responses, rejections
from simulator.world.outcomes import engaged
from simulator.world.services import draw_unanswered
from tracker.status import OPT_OUTS, Engagement, Reason, Status, Step
from workers.checks.base import third_party_checks
from workers.plugins import PluginGroup, list_plugin_names
from workers.services.base import MAX_SERVICE_CALLS

_STEPS = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH)

REASONS_BY_PRECEDENCE = sorted(Reason, key=lambda reason: (_STEPS.index(reason.step), reason))
"""Reasons in their order: the first that applies to a message is the one that it gets."""

PRECEDENCE = np.full(max(Reason) + 1, len(REASONS_BY_PRECEDENCE), np.int8)
PRECEDENCE[REASONS_BY_PRECEDENCE] = np.arange(len(REASONS_BY_PRECEDENCE))
"""The place of a reason, by its code, in the rule book. Code 0 stands for none and comes last."""


UNANSWERED_REASON = {
    Reason.UNSUBSCRIBED: Reason.SUBSCRIPTION_SERVICE,
    Reason.NDNC: Reason.SUBSCRIPTION_SERVICE,
    Reason.COUPON_ID_MISSING: Reason.COUPON_ISSUE,
    Reason.COUPON_DATE_FORMAT: Reason.COUPON_ISSUE,
    Reason.COUPON_EXPIRED: Reason.COUPON_ISSUE,
    Reason.COUPON_REDEEMED: Reason.COUPON_ISSUE,
}
"""Reasons that are known from a service only, and the reason there is when it has no answer."""


@dataclass(frozen=True)
class PredictedOutcomes:
    """What messages end as: arrays of one length, of codes of Status and Reason.

    ``instead`` has bits (1 << reason) of what may stop a message in place of that, depending on
    who comes first. Of an ``uncertain`` one nothing is known. The rest is of every message as if it
    were sent: ``duplicates`` and ``stale`` are the numbers of receipts that must not count, and
    ``rejections`` how often the gateway refuses it for now; of ``lost`` ones nothing
    is heard, and ``late`` ones bounce after delivery. What becomes of an ``unforeseen`` one
    its gateway alone knows.
    """

    statuses: NDArray[np.int8]
    reasons: NDArray[np.int8]
    attempts: NDArray[np.int8]
    instead: NDArray[np.int32]
    uncertain: NDArray[np.bool_]
    duplicates: NDArray[np.int16]
    stale: NDArray[np.int16]
    lost: NDArray[np.bool_]
    late: NDArray[np.bool_]
    unforeseen: NDArray[np.bool_]
    rejections: NDArray[np.int64]

    @classmethod
    def not_sent(cls, reasons: NDArray[np.int8]) -> "PredictedOutcomes":
        """Of messages that no gateway has seen yet."""
        count = len(reasons)
        return cls(
            statuses=np.full(count, Status.NOT_SENT, np.int8),
            reasons=reasons,
            attempts=np.zeros(count, np.int8),
            instead=np.zeros(count, np.int32),
            uncertain=np.zeros(count, np.bool_),
            duplicates=np.zeros(count, np.int16),
            stale=np.zeros(count, np.int16),
            lost=np.zeros(count, np.bool_),
            late=np.zeros(count, np.bool_),
            unforeseen=np.zeros(count, np.bool_),
            rejections=np.zeros(count, np.int64),
        )

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def sent(self) -> NDArray[np.bool_]:
        return np.asarray(self.statuses != Status.NOT_SENT)


@dataclass(frozen=True)
class _CustomerHistory:
    """What customers bring from campaigns before: bounces on the channel, messages had, and whether
    they want no more. ``uncertain`` is where that depended on who came first."""

    hard: NDArray[np.int64]
    soft: NDArray[np.int64]
    had: NDArray[np.int64]
    refused: NDArray[np.bool_]
    uncertain: NDArray[np.bool_]


@dataclass
class AudiencePrediction:
    """Some customers of an audience, and what all campaigns to it will do to them."""

    scenario: Scenario
    owner: Campaign
    population: ImportedAudience | None
    first: int
    count: int
    credit_is_scarce: bool
    _outcomes: dict[str, PredictedOutcomes] = field(default_factory=dict)

    def fates(self, campaign: Campaign) -> PredictedOutcomes:
        if campaign.name not in self._outcomes:
            self._outcomes[campaign.name] = self._compute_outcomes(campaign)
        return self._outcomes[campaign.name]

    def excess(self, campaign: Campaign) -> int:
        """Messages too many for the limit, of campaigns side by side of which this is the first."""
        beside = self._find_concurrent_campaigns(campaign)
        limit = self.scenario.organization_of(campaign).message_limit
        group = [each for each in self.scenario.campaigns if each in [campaign, *beside]]
        if limit is None or not beside or group[0] != campaign:
            return 0
        wanted = sum(self.fates(each).sent.astype(np.int64) for each in group)
        left = limit.count - self._compute_history(campaign).had
        return int(np.maximum(wanted - left, 0)[np.asarray(wanted) > 0].sum())

    def _compute_outcomes(self, campaign: Campaign) -> PredictedOutcomes:
        history = self._compute_history(campaign)
        organization = self.scenario.organization_of(campaign)
        reasons = self._find_reasons(campaign, history)
        instead = np.zeros(self.count, np.int32)
        beside = self._find_concurrent_campaigns(campaign)
        # What each would do if it were alone. That may come before ours, or after.
        alone = {
            each.name: self._find_reasons(each, self._compute_history(each)) for each in beside
        }
        if organization.message_limit is not None:
            left = organization.message_limit.count - history.had
            _assign_reason(reasons, left <= 0, Reason.MESSAGE_LIMIT)
            if beside:
                rivals = sum((each == NO_DEFECT).astype(np.int64) for each in alone.values())
                _add_possible_reason(instead, reasons, rivals >= left, Reason.MESSAGE_LIMIT)
        fates = replace(
            self._predict_delivery(campaign, reasons), instead=instead, uncertain=history.uncertain
        )
        hard, soft = history.hard.copy(), history.soft.copy()
        for each in beside:
            if each.channel is campaign.channel:
                others = self._predict_delivery(each, alone[each.name])
                hard += others.statuses == Status.HARD_BOUNCED
                soft += others.statuses == Status.SOFT_BOUNCED
                refuses = self._find_opted_out(each, others.statuses)
                _add_possible_reason(instead, reasons, refuses, Reason.UNSUBSCRIBED)
        bounced = hard >= organization.hard_bounce_limit
        bounced |= soft >= organization.soft_bounce_limit
        _add_possible_reason(instead, reasons, bounced, Reason.BOUNCED_REPEATEDLY)
        for check in third_party_checks():
            instead |= 1 << check.reason
        if self.credit_is_scarce:
            instead[fates.sent] |= 1 << Reason.OUT_OF_CREDIT
        return fates

    def _compute_history(self, campaign: Campaign) -> _CustomerHistory:
        if self.population is None:
            hard, soft = np.zeros((2, self.count), np.int64)
        else:
            part = slice(self.first, self.first + self.count)
            hard = self.population.hard_bounces[part].astype(np.int64)
            soft = self.population.soft_bounces[part].astype(np.int64)
        had = np.zeros(self.count, np.int64)
        refused, uncertain = np.zeros((2, self.count), np.bool_)
        for each in self.scenario.campaigns_sharing_audience(self.owner):
            if not self._waits_for(campaign, each):
                continue
            earlier = self.fates(each)
            had += earlier.sent
            uncertain |= earlier.uncertain | (earlier.instead != 0)
            uncertain |= earlier.sent & earlier.unforeseen
            if each.channel is campaign.channel:
                hard += earlier.statuses == Status.HARD_BOUNCED
                soft += earlier.statuses == Status.SOFT_BOUNCED
                soft[(earlier.statuses == Status.DELIVERED) | (earlier.sent & earlier.late)] = 0
                refused |= self._find_opted_out(each, earlier.statuses)
        return _CustomerHistory(hard, soft, had, refused, uncertain)

    def engaged(self, campaign: Campaign) -> dict[Engagement, NDArray[np.bool_]]:
        """Who does what with a message of a campaign that reaches them for good."""
        does = engaged(
            self.scenario.engagement_rates_of(campaign),
            *(self.scenario.seed, campaign.name, self.first, self.count),
        )
        forced = self._forced_outcomes(campaign)
        if not forced.any():
            return does
        by_force = derive_forced_engagement(forced)
        return {kind: np.where(forced > 0, by_force[kind], does[kind]) for kind in Engagement}

    def _forced_outcomes(self, campaign: Campaign) -> NDArray[np.int8]:
        """Return the outcomes that addresses force, as codes of :class:`ForcedOutcome`; 0 for none."""
        labels = self._find_defects(campaign)[0]
        return np.where(labels < 0, -labels, 0).astype(np.int8)

    def _find_opted_out(self, campaign: Campaign, statuses: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Who wants no more messages on the channel after this campaign's."""
        does = self.engaged(campaign)
        refuses = np.logical_or.reduce([does[kind] for kind in OPT_OUTS])
        return np.asarray(refuses & (statuses == Status.DELIVERED))

    def _find_reasons(self, campaign: Campaign, history: _CustomerHistory) -> NDArray[np.int8]:
        """The first reason of the rule book that applies, but for credit and the message limit."""
        organization = self.scenario.organization_of(campaign)
        on_channel = organization.channel_section(campaign.channel)
        everybody = np.ones(self.count, np.bool_)
        reasons = np.full(self.count, NO_DEFECT, np.int8)
        unanswered = self._find_unanswered(campaign)
        for labels in self._find_defects(campaign):
            for reason in np.unique(labels[labels > NO_DEFECT]):
                # What a service says of a customer is not known where it has no answer.
                knows = UNANSWERED_REASON.get(Reason(reason))
                hidden = unanswered.get(knows, False) if knows else False
                _assign_reason(reasons, (labels == reason) & ~np.asarray(hidden), Reason(reason))
        for reason, where in unanswered.items():
            _assign_reason(reasons, where, reason)
        sender = campaign.sender if campaign.sender is not None else on_channel.sender
        if not organization.enabled:
            _assign_reason(reasons, everybody, Reason.ORGANIZATION_DISABLED)
        if not on_channel.enabled or sender == "":
            _assign_reason(reasons, everybody, Reason.CONFIGURATION)
        bounced = history.hard >= organization.hard_bounce_limit
        bounced |= history.soft >= organization.soft_bounce_limit
        _assign_reason(reasons, bounced, Reason.BOUNCED_REPEATEDLY)
        unknown = unanswered[Reason.SUBSCRIPTION_SERVICE]
        _assign_reason(reasons, history.refused & ~unknown, Reason.UNSUBSCRIBED)
        if "coupon" in campaign.requires and not self.scenario.has_active_series(campaign):
            _assign_reason(reasons, everybody, Reason.COUPON_CONFIGURATION)
        if not self.scenario.gateway_of(campaign).enabled:
            _assign_reason(reasons, everybody, Reason.GATEWAY_CONFIGURATION)
        if campaign.kind not in _installed_handlers():
            _assign_reason(reasons, everybody, Reason.HANDLER_NOT_FOUND)
        return reasons

    def _find_unanswered(self, campaign: Campaign) -> Mapping[Reason, NDArray[np.bool_]]:
        """For whom a service that the campaign needs has no answer, by the reason that gives."""
        found = {}
        settings = build_service_settings(self.scenario, campaign)
        for reason, service in SERVICE_BY_REASON.items():
            if explain_unplantable(reason, campaign.channel, campaign.requires) is not None:
                continue
            if reason is Reason.TIMEOUT and campaign.kind not in _installed_handlers():
                continue  # nobody is asked to prepare them
            found[reason] = np.ones(self.count, np.bool_)
            for attempt in range(MAX_SERVICE_CALLS):
                found[reason] &= draw_unanswered(
                    settings, campaign.name, service, attempt, self.first, self.count
                )
        return found

    def _find_defects(self, campaign: Campaign) -> tuple[NDArray[np.int8], ...]:
        """What is wrong with the customers' own records and with their coupons, as far as the
        campaign minds."""
        if self.population is not None:
            part = slice(self.first, self.first + self.count)
            labels = self.population.labels[campaign.name]
            return labels[part], self.population.coupons[campaign.name][part]
        labels = draw_defects(
            self.scenario.seed, self.owner.name, self.owner.defects, self.first, self.count
        )
        for reason in DEFECT_FIELDS:
            why_not = explain_unplantable(reason, campaign.channel, campaign.requires)
            if why_not is not None or reason in SERVICE_BY_REASON:
                labels[labels == reason] = NO_DEFECT
        return (labels,)

    def _predict_delivery(self, campaign: Campaign, reasons: NDArray[np.int8]) -> PredictedOutcomes:
        """What becomes of messages whom no reason stops, in the hands of the gateway."""
        forced = self._forced_outcomes(campaign)
        fates = PredictedOutcomes.not_sent(reasons)
        waiting = np.ones(self.count, np.bool_)
        gateway = self.scenario.gateway_of(campaign)
        fates.unforeseen[:] = not gateway.is_simulated
        for attempt in range(1, gateway.attempts + 1):
            drawn = (gateway.behaviour, self.scenario.seed, campaign.name, attempt, self.first)
            treatment = draw_gateway_responses(*drawn, forced)
            fates.rejections[waiting] += rejections(*drawn, self.count)[waiting]
            fates.lost[waiting & treatment.lost] = True
            ends = np.where(treatment.lost, Status.IN_GATEWAY, treatment.outcomes)
            fates.statuses[waiting], fates.attempts[waiting] = ends[waiting], attempt
            fates.duplicates[waiting & treatment.duplicate] += 1
            fates.stale[waiting & treatment.stale] += 1
            late = waiting & treatment.late
            fates.late[late], fates.statuses[late] = True, Status.HARD_BOUNCED
            waiting &= ends == Status.SOFT_BOUNCED
        stopped = reasons != NO_DEFECT
        fates.statuses[stopped], fates.attempts[stopped] = Status.NOT_SENT, 0
        return fates

    def _find_concurrent_campaigns(self, campaign: Campaign) -> list[Campaign]:
        """The campaigns to this audience that run at the same time."""
        return [
            each
            for each in self.scenario.campaigns_sharing_audience(self.owner)
            if each != campaign
            and not self._waits_for(each, campaign)
            and not self._waits_for(campaign, each)
        ]

    def _waits_for(self, campaign: Campaign, other: Campaign) -> bool:
        """Whether a campaign begins after another has settled."""
        while campaign.after is not None:
            campaign = self.scenario.campaign(campaign.after)
            if campaign == other:
                return True
        return False


def _assign_reason(reasons: NDArray[np.int8], where: NDArray[np.bool_], reason: Reason) -> None:
    """Give messages a reason, but for those that have one which comes before it."""
    reasons[where & (PRECEDENCE[reasons] > PRECEDENCE[reason])] = reason


def _add_possible_reason(
    instead: NDArray[np.int32],
    reasons: NDArray[np.int8],
    where: NDArray[np.bool_],
    reason: Reason,
) -> None:
    instead[where & (PRECEDENCE[reasons] > PRECEDENCE[reason])] |= 1 << reason


@cache
def _installed_handlers() -> frozenset[str]:
    return frozenset(list_plugin_names(PluginGroup.HANDLERS))
