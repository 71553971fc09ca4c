"""Facts of a run that the oracle takes from the record, because no plan has them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import ImportedAudience
from simulator.setup.run import RunCampaign
from tracker.clock import to_datetime, to_microseconds
from tracker.queries.cancellations import CancelledMessages, read_cancelled_messages
from tracker.queries.durations.judging_times import (
    JudgedBatches,
    read_dispatch_times,
    read_judged_batches,
)
from tracker.queries.failures import read_messages_by_check
from workers.checks.base import shipped_check_names

ALWAYS, NEVER = np.int64(0), np.int64(2**62)
"""Instants before and after every run."""


def _spread(
    batches: JudgedBatches, values: NDArray[np.int64], first: int, count: int, default: np.int64
) -> NDArray[np.int64]:
    """Return the value of the batch of each message from `first` on; `default` without one."""
    spread = np.full(count, default)
    for begin, size, value in zip(batches.first, batches.size, values, strict=True):
        spread[max(0, begin - first) : max(0, begin + size - first)] = value
    return spread


def _mark(numbers: Sequence[NDArray[np.int64]], first: int, count: int) -> NDArray[np.bool_]:
    """Return which messages from `first` on are among ascending numbers."""
    marked = np.zeros(count, np.bool_)
    for part in numbers:
        begin, end = np.searchsorted(part, [first, first + count])
        marked[part[begin:end] - first] = True
    return marked


@dataclass(frozen=True, kw_only=True)
class LimitTimes:
    """The times at which a campaign was judged and dispatched, for the message limit.

    Attributes:
        period: microseconds of the message limit's period.
        batches: when the batches were judged.
        numbers: numbers of the dispatched messages, ascending.
        dispatched_at: when each of them was.
    """

    period: int
    batches: JudgedBatches
    numbers: NDArray[np.int64]
    dispatched_at: NDArray[np.int64]

    @property
    def began_at(self) -> int:
        """The instant at which the first batch was judged."""
        return int(self.batches.judged_from.min(initial=NEVER))

    @property
    def ended_at(self) -> int:
        """The end of the last step before the gateway."""
        return int(self.batches.ended_at.max(initial=ALWAYS))

    def find_period_starts(
        self, first: int, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the earliest and the latest start of each message's period, from `first` on.

        They differ for a batch that was judged more than once. For a message that was never judged,
        the earliest period includes all time, and the latest none.
        """
        batches = self.batches
        return (
            _spread(batches, batches.judged_from - self.period, first, count, ALWAYS),
            _spread(batches, batches.judged_until - self.period, first, count, NEVER),
        )

    def find_dispatch_times(self, first: int, count: int) -> NDArray[np.int64]:
        """Return when each message from `first` on was dispatched; NEVER for others."""
        times = np.full(count, NEVER)
        begin, end = np.searchsorted(self.numbers, [first, first + count])
        times[self.numbers[begin:end] - first] = self.dispatched_at[begin:end]
        return times


@dataclass(frozen=True, kw_only=True)
class RecordedFacts:
    """The facts that the oracle takes from the record; empty before a run.

    Attributes:
        rule_blocks: by campaign and by rule of another package, the ascending numbers of the
            messages that the rule blocked.
        cancelled: by campaign, the messages that its cancellation ended.
        limit_times: by campaign, where a run is longer than the message limit's period.
        judged_batches: by campaign, where coupons of an audience file may expire during a run.
        zone: the time zone whose days decide when coupons expire.
    """

    rule_blocks: Mapping[str, Mapping[str, NDArray[np.int64]]] = field(default_factory=dict)
    cancelled: Mapping[str, CancelledMessages] = field(default_factory=dict)
    limit_times: Mapping[str, LimitTimes] = field(default_factory=dict)
    judged_batches: Mapping[str, JudgedBatches] = field(default_factory=dict)
    zone: tzinfo = UTC

    def count_rule_blocks(self, campaign: str) -> dict[str, int]:
        """Return how many messages of a campaign each rule of another package blocked."""
        return {name: len(numbers) for name, numbers in self.rule_blocks.get(campaign, {}).items()}

    def find_unmodelled(self, campaign: str, first: int, count: int) -> NDArray[np.bool_]:
        """Return which messages from `first` on no plan could foresee.

        A rule of another package blocked them, or they were cancelled.
        """
        blocks = [*self.rule_blocks.get(campaign, {}).values()]
        if campaign in self.cancelled:
            blocks.append(self.cancelled[campaign].not_sent)
        return _mark(blocks, first, count)

    def find_cut_off(self, campaign: str, first: int, count: int) -> NDArray[np.bool_]:
        """Return which messages from `first` on lost their further attempts by a cancellation."""
        cancelled = self.cancelled.get(campaign)
        return _mark([] if cancelled is None else [cancelled.cut_off], first, count)

    def count_cancelled(self, campaign: str) -> int:
        """Return how many messages of a campaign were cancelled."""
        return len(self.cancelled[campaign].not_sent) if campaign in self.cancelled else 0

    def find_expired(
        self, campaign: PlannedCampaign, imported: ImportedAudience | None, first: int, count: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which customers' coupons had expired when their messages were judged.

        The first array has coupons that surely had expired, the second those that may have expired.
        They differ for a batch whose steps before the gateway span midnight.
        """
        if imported is None or "coupon" not in campaign.requires:
            nobody = np.zeros(count, np.bool_)
            return nobody, nobody
        last_days = imported.coupon_expires[first : first + count]
        batches, today = self.judged_batches.get(campaign.name), np.int64(imported.today)
        if batches is None:
            return last_days < today, last_days < today
        earliest = _spread(batches, self._find_days(batches.judged_from), first, count, today)
        latest = _spread(batches, self._find_days(batches.ended_at), first, count, today)
        return last_days < earliest, last_days < latest

    def _find_days(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the days of instants in the zone, numbered as by `date.toordinal`."""
        times = (to_datetime(int(instant)).astimezone(self.zone) for instant in instants)
        return np.array([time.toordinal() for time in times], np.int64)

    def precedes(self, earlier: str, later: str) -> bool:
        """Return whether a campaign was dispatched before another one was judged at all."""
        if not {earlier, later} <= self.limit_times.keys():
            return False
        return self.limit_times[earlier].ended_at <= self.limit_times[later].began_at

    def find_counted(
        self, earlier: str, campaign: str, first: int, count: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which messages of an earlier campaign count for a campaign's message limit.

        The first array has messages that surely count, the second messages that may count.
        """
        if not {earlier, campaign} <= self.limit_times.keys():
            everyone = np.ones(count, np.bool_)  # the run is shorter than the period
            return everyone, everyone
        earliest, latest = self.limit_times[campaign].find_period_starts(first, count)
        dispatched_at = self.limit_times[earlier].find_dispatch_times(first, count)
        return dispatched_at > latest, dispatched_at > earliest


NO_FACTS = RecordedFacts()
"""The facts before a run."""


def read_recorded_facts(
    connection: Connection, campaigns: Sequence[RunCampaign], zone: tzinfo
) -> RecordedFacts:
    """Read the facts that the oracle needs of a run whose days are those of a time zone."""
    blocks = {
        run_campaign.campaign.name: read_messages_by_check(connection, run_campaign.campaign.id)
        for run_campaign in campaigns
    }
    # A shipped check that the record names isn't excused: the oracle models it.
    shipped = shipped_check_names()
    return RecordedFacts(
        rule_blocks={
            campaign: {name: numbers for name, numbers in rules.items() if name not in shipped}
            for campaign, rules in blocks.items()
        },
        cancelled={
            run_campaign.campaign.name: read_cancelled_messages(
                connection, run_campaign.campaign.id
            )
            for run_campaign in campaigns
        },
        limit_times=_read_limit_times(connection, campaigns),
        judged_batches={
            run_campaign.campaign.name: read_judged_batches(connection, run_campaign.campaign.id)
            for run_campaign in campaigns
            if run_campaign.imported_audience is not None and "coupon" in run_campaign.plan.requires
        },
        zone=zone,
    )


def _read_limit_times(
    connection: Connection, campaigns: Sequence[RunCampaign]
) -> dict[str, LimitTimes]:
    """Read the times of campaigns to the same customers that span more than a limit's period."""
    groups: defaultdict[tuple[int, int | None], list[RunCampaign]] = defaultdict(list)
    for run_campaign in campaigns:
        campaign = run_campaign.campaign
        if run_campaign.plan.organization.message_limit is not None:
            audience_id = None if campaign.has_shared_addresses else campaign.audience_id
            groups[campaign.organization.id, audience_id].append(run_campaign)
    times: dict[str, LimitTimes] = {}
    for group in groups.values():
        if len(group) == 1:
            continue
        limit = group[0].plan.organization.message_limit
        period = to_microseconds(timedelta(days=limit.days if limit is not None else 0))
        batches = {
            run_campaign.campaign: read_judged_batches(connection, run_campaign.campaign.id)
            for run_campaign in group
        }
        began_at = min(int(judged.judged_from.min(initial=NEVER)) for judged in batches.values())
        ended_at = max(int(judged.judged_until.max(initial=ALWAYS)) for judged in batches.values())
        if ended_at - began_at < period:
            continue
        for campaign, judged in batches.items():
            numbers, dispatched_at = read_dispatch_times(connection, campaign.id)
            times[campaign.name] = LimitTimes(
                period=period, batches=judged, numbers=numbers, dispatched_at=dispatched_at
            )
    return times
