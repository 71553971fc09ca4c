"""The simulated gateway: accepts everything once, and has an answer for each after a while.

Unless it is to be hostile: then it is away, slow, refuses for now, and its receipts go wrong.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from simulator.schema import migrate_simulator_tables
from simulator.world import ledger
from simulator.world.forced import (
    POISON_OUTCOMES,
    derive_forced_engagement,
    find_forced_outcome,
    trigger_poison,
)
from simulator.world.gateway_response import (
    DUPLICATE_COPY,
    STALE_COPY,
    GatewayResponses,
    draw_gateway_responses,
    draw_late_bounces,
    rejections,
)
from simulator.world.outcomes import (
    MAX_LATENCY_US,
    EngagementRates,
    GatewayBehaviour,
    ReceiptFaultRates,
    build_immediate_events,
    concatenate_events,
    draw_engagement_events,
)
from tracker.clock import Instant, to_timedelta
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Engagement, Status
from tracker.store.database import Database
from workers.gateways.base import (
    DeliveredMessages,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
)

TimeWindow = tuple[timedelta, timedelta]
"""A time, from the beginning of the run on."""

REJECTION_RETRY_DELAY = timedelta(seconds=1)
"""How long to let the gateway be before offering it again what it refused."""


class SlowPeriod(BaseModel):
    """A time in which latencies are ``factor`` times as long."""

    model_config = ConfigDict(frozen=True)

    span: TimeWindow
    factor: float


NEVER_REACHED = np.int64(-(2**62))
"""Stands for the moment at which a message reached nobody."""


class SimulatedGatewaySettings(BaseModel):
    """What is recorded of a simulated gateway. It is away during its ``outage``."""

    model_config = ConfigDict(frozen=True)

    seed: int
    behaviour: GatewayBehaviour
    inclination: EngagementRates = EngagementRates()
    outage: TimeWindow | None = None
    slow: SlowPeriod | None = None


class SimulatedGateway:
    """A gateway behind the workers' protocol whose every answer follows from the seed."""

    network = False

    def __init__(self, settings: str, database: Database) -> None:
        self._settings = SimulatedGatewaySettings.model_validate_json(settings)
        self._database = database
        migrate_simulator_tables(database)

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Accept all but what it refuses for now. What was accepted before keeps its moment,
        outcome and receipts."""
        campaign = submission.campaign
        self._raise_if_unavailable(campaign, now)
        decision = ledger.record_acceptance(
            self._database, self._plan_submission(submission, now), now
        )
        if not decision.earlier and not decision.refused:
            return SubmissionResult({now: submission.numbers})
        accepted: defaultdict[Instant, list[int]] = defaultdict(list)
        for number in submission.numbers:
            if number not in decision.refused:
                accepted[decision.earlier.get(number, now)].append(number)
        delay = REJECTION_RETRY_DELAY / campaign.speed if decision.refused else timedelta()
        return SubmissionResult(accepted, delay=delay)

    def _raise_if_unavailable(self, campaign: Campaign, now: Instant) -> None:
        """Raise :exc:`GatewayUnavailable` during an outage, which is put down."""
        if self._settings.outage is not None and _is_within(self._settings.outage, campaign, now):
            ledger.record_refused_call(self._database, campaign.id, now)
            raise GatewayUnavailable("the simulated gateway is away")

    def _plan_submission(self, submission: Submission, now: Instant) -> ledger.SubmissionPlan:
        """What the gateway decides on each message of a submission."""
        settings, campaign, attempt = self._settings, submission.campaign, submission.attempt
        numbers = np.asarray(submission.numbers, np.int64)
        first = int(numbers.min())
        here = numbers - first
        drawn = (settings.behaviour, settings.seed, campaign.name, attempt, first)
        forced = np.zeros(int(numbers.max()) - first + 1, np.int8)
        magic = list[tuple[int, int]]()
        for number, recipient in zip(submission.numbers, submission.recipients, strict=True):
            found = find_forced_outcome(campaign.channel, recipient)
            if found in POISON_OUTCOMES:
                trigger_poison(found)
            if found is not None:
                forced[number - first] = found
                magic.append((number, found))
        treatment = draw_gateway_responses(*drawn, forced)
        latencies = treatment.latencies[here]
        if settings.slow is not None and _is_within(settings.slow.span, campaign, now):
            latencies = np.minimum(latencies * settings.slow.factor, MAX_LATENCY_US).astype(
                np.int64
            )
        due_at = latencies + now
        return ledger.SubmissionPlan(
            campaign_id=campaign.id,
            attempt=attempt,
            numbers=submission.numbers,
            outcomes=treatment.outcomes[here].tolist(),
            due_at=np.where(treatment.lost[here], ledger.NEVER_DUE, due_at).tolist(),
            rejections=rejections(*drawn, len(forced))[here].tolist(),
            notices=list(_build_notices(treatment, numbers, here, attempt, settings, due_at)),
            magic=magic,
        )

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """The answers that are out by ``now``, and what else is said of a batch."""
        self._raise_if_unavailable(batch.campaign, now)
        receipts: list[Receipt] = []
        dues: list[Instant | None] = []
        for attempt, numbers in awaited.items():
            answers = ledger.answers(self._database, batch.campaign.id, attempt, numbers, now)
            receipts += (Receipt(each, attempt, status, at) for each, status, at in answers.out)
            dues.append(answers.next_due)
        if self._settings.behaviour.receipts != ReceiptFaultRates():
            out, next_due = ledger.read_notices(
                self._database, batch.campaign.id, batch.first, batch.last, now
            )
            receipts += (
                Receipt(each.number, each.attempt, each.status, each.due_at, each.copy)
                for each in out
            )
            dues.append(next_due)
        return PollResult(receipts, min((due for due in dues if due is not None), default=None))

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """What the recipients did from ``since`` to ``now``: each has done it all in advance."""
        self._raise_if_unavailable(batch.campaign, now)
        if not delivered.numbers:
            return PollResult([])
        settings, campaign = self._settings, batch.campaign
        first = min(delivered.numbers)
        count = max(delivered.numbers) - first + 1
        delivered_at = np.full(count, NEVER_REACHED)
        delivered_at[np.asarray(delivered.numbers) - first] = delivered.delivered_at
        forced = self._read_forced_outcomes(batch, first, count)
        late = draw_late_bounces(settings.behaviour, settings.seed, campaign.name, first, count)
        # Of what comes back as undeliverable after all nobody hears. The prediction's side of it is
        # in simulator.results.prediction_check.
        delivered_at[late & (forced == 0)] = NEVER_REACHED
        done = concatenate_events(
            (
                draw_engagement_events(
                    settings.inclination, settings.seed, campaign.name, first, count
                ).select(forced == 0),
                build_immediate_events(derive_forced_engagement(forced)),
            )
        )
        reached = delivered_at[done.places] != NEVER_REACHED
        at = (delivered_at[done.places] + done.after)[reached]
        out = (at >= since) & (at <= now)
        events = zip(
            (done.places[reached][out] + first).tolist(),
            done.kinds[reached][out].tolist(),
            at[out].tolist(),
            strict=True,
        )
        later = at[at > now]
        return PollResult(
            [
                EngagementEvent(number, Engagement(kind), instant)
                for number, kind, instant in events
            ],
            int(later.min()) if len(later) else None,
        )

    def _read_forced_outcomes(self, batch: Batch, first: int, count: int) -> NDArray[np.int8]:
        """What the addresses of recipients force, as was noted when their messages came in."""
        forced = np.zeros(count, np.int8)
        found = ledger.forced(self._database, batch.campaign.id, first, first + count - 1)
        for number, magic in found.items():
            forced[number - first] = magic
        return forced


def _is_within(span: TimeWindow, campaign: Campaign, now: Instant) -> bool:
    return span[0] <= to_timedelta(now - campaign.started_at) < span[1]


def _build_notices(
    treatment: GatewayResponses,
    numbers: NDArray[np.int64],
    here: NDArray[np.int64],
    attempt: int,
    settings: SimulatedGatewaySettings,
    due_at: NDArray[np.int64],
) -> Iterator[ledger.Notice]:
    """What is said beside the outcomes that are due at ``due_at``."""
    if settings.behaviour.receipts == ReceiptFaultRates():
        return
    statuses = treatment.outcomes[here]
    # What bounced softly is soon sent again. A copy that came after that would be a stale one.
    tried_again = (statuses == Status.SOFT_BOUNCED) & (attempt < settings.behaviour.attempts)
    copied_at = due_at + np.where(tried_again, 0, treatment.copy_delays[here])
    late_at = due_at + treatment.late_delays[here]
    for place in np.flatnonzero(treatment.duplicate[here]):
        yield ledger.Notice(
            *(int(numbers[place]), attempt, int(statuses[place])),
            DUPLICATE_COPY,
            int(copied_at[place]),
        )
    stale_at = due_at + treatment.copy_delays[here]
    for place in np.flatnonzero(treatment.stale[here]):
        yield ledger.Notice(
            *(int(numbers[place]), attempt - 1, int(Status.SOFT_BOUNCED)),
            STALE_COPY,
            int(stale_at[place]),
        )
    for place in np.flatnonzero(treatment.late[here]):
        yield ledger.Notice(
            *(int(numbers[place]), attempt, int(Status.HARD_BOUNCED)), 0, int(late_at[place])
        )
