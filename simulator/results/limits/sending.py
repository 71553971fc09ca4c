"""The part of a run that throughput measures: from the first arrival to the last acceptance.

All seconds are real ones since the start of the run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.setup.run import Run
from tracker.clock import to_real_seconds
from tracker.queries.durations.latencies import DRIVER_LAG, QUEUED_TO_GATEWAY, TransitionTimes
from tracker.queries.durations.workload import read_step_seconds
from tracker.record.check_times import CheckTime
from tracker.status import Status, Step

STALLED_SHARE = 0.1
"""Share of the usual acceptances below which a second counts as stalled."""

Counts = NDArray[np.int64]
"""A count for each second of the run."""


@dataclass(frozen=True, kw_only=True)
class GatewayLoad:
    """The work of a gateway that has a rate.

    Attributes:
        key: name of the gateway's table in the scenario.
        limit: most messages that it accepts in a real second.
        ready: messages that waited for their first attempt at the end of each second.
        submitted: messages that it accepted in each second, on any attempt.
    """

    key: str
    limit: float
    ready: Counts
    submitted: Counts


@dataclass(frozen=True, kw_only=True)
class CampaignGap:
    """A period in which a campaign only waited for another one to settle (`after`).

    Attributes:
        begin: last first acceptance of a message of the predecessor, or the campaign's own start if
            that is later.
        end: first arrival of the campaign.
    """

    campaign: str
    predecessor: str
    begin: float
    end: float


@dataclass(frozen=True, kw_only=True)
class SendingPhase:
    """The time in which messages were sent, and the work of the workers in it.

    Attributes:
        begin: first arrival.
        last_arrival: last arrival.
        end: last first acceptance of a message.
        recorded: when the driver recorded the last message, rounded down.
        waiting: messages that had arrived, and were neither accepted nor Not Sent, at the end of
            each second.
        accepted: first acceptances in each second.
        submitted: messages that the gateways accepted in each second, on any attempt.
        due_retries: soft-bounced messages that were due for another attempt at the end of each
            second.
        gateways: those that have a rate.
        gaps: those of all campaigns that waited for another one.
        step_seconds: time that the tasks of each step took.
        check_times: time that each check took, the longest first.
    """

    begin: float
    last_arrival: float
    end: float
    recorded: float
    waiting: Counts
    accepted: Counts
    submitted: Counts
    due_retries: Counts
    gateways: Sequence[GatewayLoad]
    gaps: Sequence[CampaignGap]
    step_seconds: Mapping[Step, float]
    check_times: Mapping[str, CheckTime]

    @property
    def seconds(self) -> float:
        """The length of the phase."""
        return self.end - self.begin

    @property
    def busy_seconds(self) -> float:
        """The time that the workers spent in steps."""
        return sum(self.step_seconds.values()) - self.step_seconds.get(Step.ENQUEUE, 0.0)

    @property
    def backlog_seconds(self) -> float:
        """The time for the messages left by an aborted run, at the average rate before."""
        return float(self.waiting[-1]) * self.seconds / float(self.accepted.sum())

    @cached_property
    def stalled(self) -> NDArray[np.bool_]:
        """A mask of the seconds in which messages waited and hardly any was accepted."""
        usual = np.median(self.accepted[self.accepted > 0]) if self.accepted.any() else 0.0
        seconds = np.arange(len(self.accepted))
        is_inside = (seconds >= self.begin) & (seconds + 1 <= self.end)
        is_slow = self.accepted < STALLED_SHARE * usual
        return np.asarray(is_inside & is_slow & (self.waiting > 0))


def read_sending_phase(
    connection: Connection,
    run: Run,
    times: TransitionTimes,
    campaign_times: Sequence[TransitionTimes],
    check_times: Mapping[str, CheckTime],
) -> SendingPhase | None:
    """Return the phase of a run, or None if the gateway accepted no message.

    Args:
        times: those of all campaigns.
        campaign_times: those of each campaign.
        check_times: those of all campaigns.
    """
    first, last, end = times.first_arrival, times.last_arrival, times.last_acceptance
    if first is None or last is None or end is None:
        return None
    speed = run.scenario.clock.speed

    def real_second(at: int) -> float:
        return to_real_seconds(at - run.started_at, speed)

    rows = max(len(times.entered_per_second(status)) for status in Status)
    accepted = _count_first_acceptances(times, rows)
    arrived = _pad(times.entered_per_second(Status.QUEUED), rows)
    submitted = _pad(times.entered_per_second(Status.IN_GATEWAY), rows)
    not_sent = _pad(times.entered_per_second(Status.NOT_SENT), rows)
    ids = run.campaign_ids
    return SendingPhase(
        begin=real_second(first),
        last_arrival=real_second(last),
        end=real_second(end),
        recorded=float(times.span_times(DRIVER_LAG).end_seconds.max()),
        waiting=np.cumsum(arrived - accepted - not_sent),
        accepted=accepted,
        submitted=submitted,
        due_retries=np.cumsum(times.retries_due_per_second(rows) - (submitted - accepted)),
        gateways=_make_gateway_loads(run, campaign_times, rows),
        gaps=list(_find_gaps(run, campaign_times)),
        step_seconds=read_step_seconds(connection, ids, speed, end),
        check_times=check_times,
    )


def _find_gaps(run: Run, campaign_times: Sequence[TransitionTimes]) -> Iterator[CampaignGap]:
    speed = run.scenario.clock.speed
    times_by_name = {
        run_campaign.plan.name: times
        for run_campaign, times in zip(run.campaigns, campaign_times, strict=True)
    }
    for run_campaign in run.campaigns:
        name, predecessor = run_campaign.plan.name, run_campaign.plan.after
        if predecessor is None:
            continue
        accepted = times_by_name[predecessor].last_acceptance
        arrived = times_by_name[name].first_arrival
        if accepted is not None and arrived is not None:
            begin = max(accepted, run_campaign.starts_at) - run.started_at
            end = to_real_seconds(arrived - run.started_at, speed)
            yield CampaignGap(
                campaign=name,
                predecessor=predecessor,
                begin=to_real_seconds(begin, speed),
                end=end,
            )


def _make_gateway_loads(
    run: Run, campaign_times: Sequence[TransitionTimes], rows: int
) -> list[GatewayLoad]:
    loads: dict[str, GatewayLoad] = {}
    for run_campaign, times in zip(run.campaigns, campaign_times, strict=True):
        plan = run_campaign.plan
        if plan.gateway.rate is None:
            continue
        entered = _pad(times.entered_per_second(Status.ABOUT_TO_BE_SENT), rows)
        blocked = _pad(times.blocked_at_submit_per_second, rows)
        ready = np.cumsum(entered - _count_first_acceptances(times, rows) - blocked)
        submitted = _pad(times.entered_per_second(Status.IN_GATEWAY), rows)
        other = loads.get(plan.gateway_key)
        loads[plan.gateway_key] = GatewayLoad(
            key=plan.gateway_key,
            limit=plan.gateway.rate * run.scenario.clock.speed,
            ready=ready if other is None else ready + other.ready,
            submitted=submitted if other is None else submitted + other.submitted,
        )
    return list(loads.values())


def _count_first_acceptances(times: TransitionTimes, rows: int) -> Counts:
    ended = times.span_times(QUEUED_TO_GATEWAY).end_seconds
    return np.asarray(np.bincount(ended, minlength=rows), np.int64)


def _pad(counts: Counts, rows: int) -> Counts:
    """Return counts with zeros for the seconds after the last one."""
    return np.concatenate([counts, np.zeros(rows - len(counts), np.int64)])
