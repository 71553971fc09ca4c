"""The simulated gateway: it accepts each message once and reports its outcome after a while.

As a scenario says it, the gateway may also be unavailable or slow, reject messages temporarily,
and send faulty receipts.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from simulator.forced import ForcedOutcome, find_forced_outcomes
from simulator.schema import SIMULATOR_MIGRATIONS
from simulator.values import ScenarioSection
from simulator.world import ledger
from simulator.world.behaviour import EngagementRates, GatewayBehaviour
from simulator.world.bounce_causes import explain_bounces
from simulator.world.engagement import (
    EngagementEvents,
    build_immediate_events,
    concatenate_events,
    derive_forced_engagement,
    draw_engagement_events,
)
from simulator.world.gateway_response import (
    DUPLICATE_COPY,
    STALE_COPY,
    GatewayResponses,
    draw_gateway_responses,
    draw_late_bounces,
    draw_rejection_counts,
)
from simulator.world.outcomes import MAX_LATENCY_US
from simulator.world.poison import REASON_BY_POISON, trigger_poison
from tracker.clock import Instant, to_timedelta
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt, Receipts
from tracker.status import Engagement, Status
from tracker.store.database import Database
from tracker.store.migrate import prepare_schema
from tracker.store.schema.messages import BOUNCED_STATUSES
from workers.gateways.base import (
    Acceptances,
    DeliveredMessages,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
)

REJECTION_RETRY_DELAY = timedelta(seconds=1)
"""Simulated time after which a rejected message may be submitted again."""

MALFORMED_EXPLANATION = "5.1.3 invalid address"
"""Cause of the bounce of a malformed address (RFC 3463), as a mail server would give it."""

NEVER_DELIVERED = np.int64(-(2**62))
"""Delivery instant of a message that reaches no recipient."""


class SimulatedGatewaySettings(ScenarioSection):
    """Settings of a simulated gateway, as the database stores them."""

    seed: int
    """Seed of the scenario."""
    behaviour: GatewayBehaviour
    """What the gateway does."""
    engagement: EngagementRates = EngagementRates()
    """What recipients do."""
    has_imported_recipients: bool = False
    """Whether any recipient comes from an audience file, so that addresses may be malformed."""


class SimulatedGateway:
    """A gateway all of whose answers follow from the seed."""

    network = False
    keeps_to_instants = True

    def __init__(self, settings: str, database: Database) -> None:
        self._settings = SimulatedGatewaySettings.model_validate_json(settings)
        self._database = database
        prepare_schema(database, SIMULATOR_MIGRATIONS, accepts_compatible=True)

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Accept all messages except those that are rejected for now, at once or at given instants.

        A message that was accepted before keeps its instant of acceptance, outcome and receipts.
        """
        campaign = submission.campaign
        self._raise_if_unavailable(campaign, now)
        plan = self._plan_submission(submission, now)
        result = ledger.record_acceptance(self._database, plan)
        accepted = Acceptances(
            submission.numbers, now if submission.accept_at is None else plan.accepted_at
        )
        if not result.accepted_before and not result.rejected:
            return SubmissionResult(accepted)
        instants = {
            number: result.accepted_before.get(number, at)
            for number, at in zip(submission.numbers, plan.accepted_at.tolist(), strict=True)
            if number not in result.rejected
        }
        delay = REJECTION_RETRY_DELAY / campaign.speed if result.rejected else timedelta()
        return SubmissionResult(Acceptances([*instants], [*instants.values()]), delay=delay)

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """Return the receipts of a batch that are due by `now`, faulty ones included."""
        self._raise_if_unavailable(batch.campaign, now)
        parts: list[Collection[Receipt]] = []
        due_times: list[Instant | None] = []
        for attempt, numbers in awaited.items():
            due = ledger.read_due_receipts(self._database, batch.campaign.id, attempt, numbers, now)
            parts.append(due.receipts)
            due_times.append(due.next_due)
        if self._settings.behaviour.receipts.has_faults:
            notices, next_due = ledger.read_notices(
                self._database, batch.campaign.id, batch.first, batch.last, now
            )
            parts.append(
                [Receipt(n.number, n.attempt, n.status, n.due_at, n.copy) for n in notices]
            )
            due_times.append(next_due)
        next_due = min((due_at for due_at in due_times if due_at is not None), default=None)
        receipts = Receipts.of(*parts)
        return PollResult(self._explain_bounces(batch.campaign, receipts), next_due)

    def _explain_bounces(self, campaign: Campaign, receipts: Receipts) -> Receipts:
        """Return receipts, those of bounces with the cause."""
        is_bounce = np.isin(receipts.statuses, [*BOUNCED_STATUSES])
        details = receipts.details.copy()
        for attempt in np.unique(receipts.attempts[is_bounce]).tolist():
            rows = np.flatnonzero(is_bounce & (receipts.attempts == attempt))
            bounces = {receipt.number: Status(receipt.status) for receipt in receipts.select(rows)}
            explanations = explain_bounces(
                self._settings.behaviour.bounces,
                self._settings.seed,
                campaign.name,
                campaign.channel,
                attempt,
                bounces,
            )
            malformed = self._find_malformed(campaign, [*bounces])
            explanations |= dict.fromkeys(malformed, MALFORMED_EXPLANATION)
            details[rows] = [explanations[number] for number in receipts.numbers[rows].tolist()]
        return replace(receipts, details=details)

    def _find_malformed(self, campaign: Campaign, bounced: Sequence[int]) -> Collection[int]:
        """Return which bounced messages have a malformed address; only files have such ones."""
        if not bounced or not self._settings.has_imported_recipients:
            return ()
        forced = ledger.read_forced_outcomes(
            self._database, campaign.id, min(bounced), max(bounced)
        )
        return {number for number, code in forced.items() if code == ForcedOutcome.MALFORMED}

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """Return what recipients did from `since` to `now`, and when the next of them does more."""
        self._raise_if_unavailable(batch.campaign, now)
        if not delivered.numbers:
            return PollResult([])
        first = min(delivered.numbers)
        count = max(delivered.numbers) - first + 1
        forced = self._read_forced_outcomes(batch, first, count)
        delivered_at = self._find_delivery_times(batch, delivered, forced, first)
        events = self._draw_events(batch.campaign, forced, first)
        is_delivered = delivered_at[events.positions] != NEVER_DELIVERED
        at = (delivered_at[events.positions] + events.delays_us)[is_delivered]
        is_due = (at >= since) & (at <= now)
        rows = zip(
            (events.positions[is_delivered][is_due] + first).tolist(),
            events.kinds[is_delivered][is_due].tolist(),
            at[is_due].tolist(),
            strict=True,
        )
        later = at[at > now]
        return PollResult(
            [EngagementEvent(number, Engagement(kind), instant) for number, kind, instant in rows],
            int(later.min()) if len(later) else None,
        )

    def _raise_if_unavailable(self, campaign: Campaign, now: Instant) -> None:
        """Record the call and raise `GatewayUnavailable` during an outage."""
        outage = self._settings.behaviour.outage
        if outage is not None and outage.contains(to_timedelta(now - campaign.started_at)):
            ledger.record_refused_call(self._database, campaign.id, now)
            raise GatewayUnavailable("simulated outage of the gateway")

    def _plan_submission(self, submission: Submission, now: Instant) -> ledger.SubmissionPlan:
        """Return what the gateway decides about each message of a submission."""
        campaign, attempt = submission.campaign, submission.attempt
        behaviour, seed = self._settings.behaviour, self._settings.seed
        numbers = np.asarray(submission.numbers, np.int64)
        first = int(numbers.min())
        positions = numbers - first
        forced_outcomes = _find_forced_outcomes(submission)
        forced = np.zeros(int(numbers.max()) - first + 1, np.int8)
        for row in forced_outcomes:
            forced[row.number - first] = row.magic
        responses = draw_gateway_responses(
            behaviour, seed, campaign.name, attempt, first, forced
        ).select(positions)
        rejections = draw_rejection_counts(
            behaviour, seed, campaign.name, attempt, first, len(forced)
        )
        latencies = responses.latencies
        accepted_at = submission.accept_at
        if accepted_at is None:
            accepted_at = np.full(len(numbers), now)
        slow = behaviour.slow
        if slow is not None and slow.contains(to_timedelta(now - campaign.started_at)):
            latencies = np.minimum(latencies * slow.factor, MAX_LATENCY_US).astype(np.int64)
        due_at = latencies + accepted_at
        notices: tuple[ledger.Notice, ...] = ()
        if behaviour.receipts.has_faults:
            is_last_attempt = attempt >= campaign.attempts
            notices = tuple(_build_notices(responses, numbers, attempt, is_last_attempt, due_at))
        return ledger.SubmissionPlan(
            campaign_id=campaign.id,
            attempt=attempt,
            numbers=submission.numbers,
            accepted_at=accepted_at,
            outcomes=responses.outcomes,
            due_at=np.where(responses.lost, ledger.NEVER_DUE, due_at),
            rejections=rejections[positions],
            notices=notices,
            forced_outcomes=forced_outcomes,
        )

    def _draw_events(
        self, campaign: Campaign, forced: NDArray[np.int8], first: int
    ) -> EngagementEvents:
        """Return all events of the recipients from `first` on, in no order."""
        drawn = draw_engagement_events(
            self._settings.engagement, self._settings.seed, campaign.name, first, len(forced)
        )
        by_force = build_immediate_events(derive_forced_engagement(forced))
        return concatenate_events((drawn.select(forced == 0), by_force))

    def _find_delivery_times(
        self, batch: Batch, delivered: DeliveredMessages, forced: NDArray[np.int8], first: int
    ) -> NDArray[np.int64]:
        """Return the delivery instants of the messages from `first` on.

        A message that bounces after delivery counts as never delivered: no recipient engages with
        it. The oracle's side of this rule is in simulator.results.prediction_check.
        """
        times = np.full(len(forced), NEVER_DELIVERED)
        times[np.asarray(delivered.numbers) - first] = delivered.delivered_at
        late_bounce = draw_late_bounces(
            self._settings.behaviour, self._settings.seed, batch.campaign.name, first, len(forced)
        )
        times[late_bounce & (forced == 0)] = NEVER_DELIVERED
        return times

    def _read_forced_outcomes(self, batch: Batch, first: int, count: int) -> NDArray[np.int8]:
        """Return the outcomes that recipients force, recorded at the submission; 0 for none."""
        forced = np.zeros(count, np.int8)
        by_number = ledger.read_forced_outcomes(
            self._database, batch.campaign.id, first, first + count - 1
        )
        for number, code in by_number.items():
            forced[number - first] = code
        return forced


def _find_forced_outcomes(submission: Submission) -> list[ledger.ForcedOutcomeRow]:
    """Return the outcomes that the recipients of a submission force; break on a poison."""
    rows = []
    for position, outcome in find_forced_outcomes(
        submission.campaign.channel, submission.recipients
    ):
        if outcome in REASON_BY_POISON:
            trigger_poison(outcome)
        rows.append(ledger.ForcedOutcomeRow(submission.numbers[position], outcome))
    return rows


def _build_notices(
    responses: GatewayResponses,
    numbers: NDArray[np.int64],
    attempt: int,
    is_last_attempt: bool,
    due_at: NDArray[np.int64],
) -> Iterator[ledger.Notice]:
    """Yield the receipts beside those of the outcomes: duplicates, stale ones and late bounces.

    The elements of `responses` and of `due_at`, the instants of the receipts with the outcomes,
    belong to the messages of `numbers` in the same order.
    """
    # A soft bounce is submitted again soon. A copy that arrived after that would be a stale one.
    is_submitted_again = (responses.outcomes == Status.SOFT_BOUNCED) & (not is_last_attempt)
    copies = responses.copy_delays
    duplicate_at = due_at + np.where(is_submitted_again, 0, copies)
    for i in np.flatnonzero(responses.duplicate):
        status, at = int(responses.outcomes[i]), int(duplicate_at[i])
        yield ledger.Notice(int(numbers[i]), attempt, status, DUPLICATE_COPY, at)
    for i in np.flatnonzero(responses.stale):
        at = int(due_at[i] + copies[i])
        yield ledger.Notice(int(numbers[i]), attempt - 1, Status.SOFT_BOUNCED, STALE_COPY, at)
    for i in np.flatnonzero(responses.late_bounce):
        at = int(due_at[i] + responses.late_bounce_delays[i])
        yield ledger.Notice(int(numbers[i]), attempt, Status.HARD_BOUNCED, 0, at)
