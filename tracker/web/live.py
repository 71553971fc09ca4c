"""The snapshot that all viewers share, read once a second however many there are."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import NamedTuple

import sqlalchemy as sa
from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError

from tracker.clock import Instant
from tracker.errors import UnreadableRecord
from tracker.monitoring import QueueDepth
from tracker.queries.durations.stage_ages import read_oldest_message_ages
from tracker.queries.report import Report, make_reports
from tracker.queries.stalled import (
    StalledBatch,
    find_stalled_batches,
    find_unfinished_campaigns,
    read_last_requeue_time,
)
from tracker.record.catalog import Campaign, find_latest_campaign_ids, load_campaigns
from tracker.record.check_times import CheckTime, CheckTimeTotals
from tracker.record.monitoring.counters import CounterValue, read_counters
from tracker.record.rollup import read_daily_rollup_time
from tracker.store.database import Database
from tracker.store.database_clock import transaction_start
from tracker.web.health.judge import Health
from tracker.web.health.watch import HealthWatch

REFRESH_INTERVAL_SECONDS = 1.0

READ_LIMIT_SECONDS = 4.0
"""Seconds that the database has to answer. Later snapshots have the old numbers, marked as old."""

FULL_REFRESH_EVERY = 10
"""Snapshots from one full refresh to the next. In between, stalled batches and campaigns of runs
that have ended are carried over: little changes the latter, such as late bounces and rollups."""

MAX_READ_GAP_SECONDS = 10.0
"""Seconds between two reads after which drivers, too, may have been cut off from the database."""

MAX_FOLLOWED_CAMPAIGNS = 50
"""Latest campaigns that every snapshot has."""

MAX_PINNED_CAMPAIGNS = 50
"""Older campaigns that snapshots have because a viewer has opened them."""

HISTORY_LENGTH = 600
"""Samples that are kept: ten minutes of snapshots."""


class ProgressSample(NamedTuple):
    """A campaign's message counts at one time; `at` is in seconds since 1970."""

    at: float
    sent: int
    not_sent: int
    settled: int


class QueueSample(NamedTuple):
    """The queue depths at one time; `at` is in seconds since 1970."""

    at: float
    depths: Mapping[str, QueueDepth]


@dataclass(frozen=True, kw_only=True)
class StalledWork:
    """The part of a snapshot that only a full refresh reads.

    Attributes:
        oldest_ages: for each stage, the real seconds since its oldest message entered it.
        requeued_at: real time at which the sweep last re-queued a batch, None if it never did.
        daily_rollup_at: real time at which beat's daily rollup last ran, None if it never did.
        check_times: the time that each check took, by campaign id and the check's name.
        counters: the counters on record, by their names and labels.
    """

    batches: Sequence[StalledBatch] = ()
    oldest_ages: Mapping[str, float] = field(default_factory=dict)
    requeued_at: Instant | None = None
    daily_rollup_at: Instant | None = None
    check_times: Mapping[int, Mapping[str, CheckTime]] = field(default_factory=dict)
    counters: Mapping[str, Mapping[str, CounterValue]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The database and the queues at one time.

    Attributes:
        number: position in the sequence of snapshots.
        at: time at which the database was last read, None before the first success.
        reports: the reports of the followed campaigns, by the campaign's id.
        queue_depths: the depth of each queue, None while the broker is unavailable.
        database_error: why the database could not be read this time, None if it could.
        database_error_since: time of the first failure in a row.
        health: the health of all parts, None before the first snapshot.
    """

    number: int = 0
    at: datetime | None = None
    reports: Mapping[int, Report] = field(default_factory=dict)
    queue_depths: Mapping[str, QueueDepth] | None = None
    stalled: StalledWork = field(default_factory=StalledWork)
    database_error: str | None = None
    database_error_since: datetime | None = None
    health: Health | None = None

    @cached_property
    def stalled_counts(self) -> Counter[int]:
        """Stalled batches by the campaign's id."""
        return Counter(batch.campaign.id for batch in self.stalled.batches)


class LiveFeed:
    """A feed of snapshots, one each second. Viewers wait for the next one and make no query."""

    def __init__(self, database: Database, watch: HealthWatch) -> None:
        self.snapshot = Snapshot()
        self.queue_history: deque[QueueSample] = deque(maxlen=HISTORY_LENGTH)
        self._database, self._watch = database, watch
        self._campaigns: dict[int, Campaign] = {}
        self._pinned: deque[int] = deque(maxlen=MAX_PINNED_CAMPAIGNS)
        self._progress_histories: dict[int, deque[ProgressSample]] = {}
        self._check_times = CheckTimeTotals()
        self._refresh_count = 0
        self._last_read_at = datetime.now(UTC)
        self._refresh_lock = asyncio.Lock()
        self._reading: asyncio.Task[Snapshot] | None = None
        self._changed: asyncio.Event | None = None
        self._stop_event = asyncio.Event()

    @property
    def is_stopped(self) -> bool:
        """True once the feed has ended."""
        return self._stop_event.is_set()

    async def run(self) -> None:
        """Refresh the snapshot once a second until `stop` is called."""
        while not self.is_stopped:
            started = time.monotonic()
            await self.refresh()
            with suppress(TimeoutError):
                pause = REFRESH_INTERVAL_SECONDS - (time.monotonic() - started)
                await asyncio.wait_for(self._stop_event.wait(), max(0.0, pause))

    def stop(self) -> None:
        """End `run`, and release all that wait for a snapshot."""
        self._stop_event.set()
        self._publish(self.snapshot)

    async def refresh(self) -> None:
        """Read a new snapshot and publish it; if the database is late, publish that."""
        async with self._refresh_lock:
            if self._reading is None:
                self._reading = asyncio.create_task(run_sync(self._read_snapshot))
            ended, _ = await asyncio.wait({self._reading}, timeout=READ_LIMIT_SECONDS)
            if ended:
                reading, self._reading = self._reading, None
                self._publish(reading.result())
            else:
                late = f"no answer for more than {READ_LIMIT_SECONDS:g} s"
                self._publish(self._mark_as_old(late))

    async def wait_for_newer(self, number: int, timeout: float) -> Snapshot:
        """Return the first snapshot after `number`, or the current one after `timeout` seconds."""
        if self.snapshot.number <= number:
            if self._changed is None:
                self._changed = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout)
        return self.snapshot

    def judge_health(self) -> Health:
        """Return the health as of now, with the numbers of the latest snapshot."""
        snapshot = self.snapshot
        return self._watch.judge(
            snapshot.reports, snapshot.database_error, snapshot.database_error_since
        )

    def pin(self, campaign_id: int) -> None:
        """Include a campaign in the following snapshots, even if it isn't among the latest."""
        if campaign_id not in self.snapshot.reports and campaign_id not in self._pinned:
            self._pinned.append(campaign_id)

    def progress_history(self, campaign_id: int) -> Sequence[ProgressSample]:
        """Return the samples of a campaign's last ten minutes."""
        return tuple(self._progress_histories.get(campaign_id, ()))

    def _publish(self, snapshot: Snapshot) -> None:
        health = self._watch.judge(
            snapshot.reports, snapshot.database_error, snapshot.database_error_since
        )
        self.snapshot = replace(snapshot, number=self.snapshot.number + 1, health=health)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _read_snapshot(self) -> Snapshot:
        before = self.snapshot
        depths = self._watch.queue_depths
        is_full = self._refresh_count % FULL_REFRESH_EVERY == 0
        try:
            reports = self._read_reports(before.reports, is_full=is_full)
            stalled = self._read_stalled_work(reports) if is_full else before.stalled
        except (SQLAlchemyError, UnreadableRecord, ValueError, TypeError) as error:
            return self._mark_as_old(self._database.summarize_error(error))
        self._refresh_count += 1
        at = self._last_read_at = datetime.now(UTC)
        self._append_history(at.timestamp(), reports, depths)
        return Snapshot(at=at, reports=reports, queue_depths=depths, stalled=stalled)

    def _mark_as_old(self, error: str) -> Snapshot:
        """Return the latest snapshot, with the reason why there is no newer one."""
        return replace(
            self.snapshot,
            queue_depths=self._watch.queue_depths,
            database_error=error,
            database_error_since=self.snapshot.database_error_since or datetime.now(UTC),
        )

    def _read_stalled_work(self, reports: Mapping[int, Report]) -> StalledWork:
        with self._database.read() as connection:
            campaigns = find_unfinished_campaigns(connection)
            return StalledWork(
                batches=find_stalled_batches(connection, campaigns),
                oldest_ages=read_oldest_message_ages(connection, campaigns),
                requeued_at=read_last_requeue_time(connection),
                daily_rollup_at=read_daily_rollup_time(connection),
                check_times=self._check_times.read(connection, reports.keys()),
                counters=read_counters(connection),
            )

    def _read_reports(self, before: Mapping[int, Report], *, is_full: bool) -> dict[int, Report]:
        gap = datetime.now(UTC) - self._last_read_at
        if gap.total_seconds() > MAX_READ_GAP_SECONDS:
            with self._database.read() as connection:
                now = connection.scalars(sa.select(transaction_start())).one()
            self._database.set_reachable_since(now)
        with self._database.read() as connection:
            latest = find_latest_campaign_ids(connection, MAX_FOLLOWED_CAMPAIGNS)
            followed = {*latest, *self._pinned}
            missing = followed if is_full else followed - self._campaigns.keys()
            if missing:
                campaigns = load_campaigns(connection, sorted(missing))
                loaded = {campaign.id: campaign for campaign in campaigns}
                self._campaigns = loaded if is_full else self._campaigns | loaded
            changing = [
                self._campaigns[campaign_id]
                for campaign_id in sorted(followed & self._campaigns.keys())
                if is_full or campaign_id not in before or not before[campaign_id].is_over
            ]
            reports = make_reports(connection, changing)
        carried_over = {key: report for key, report in before.items() if key in followed}
        return carried_over | {report.campaign.id: report for report in reports}

    def _append_history(
        self, at: float, reports: Mapping[int, Report], depths: Mapping[str, QueueDepth] | None
    ) -> None:
        for campaign_id in self._progress_histories.keys() - reports.keys():
            del self._progress_histories[campaign_id]
        for campaign_id, report in reports.items():
            samples = self._progress_histories.setdefault(campaign_id, deque(maxlen=HISTORY_LENGTH))
            sample = ProgressSample(at, report.sent, report.not_sent, report.settled)
            # A period without change keeps its first and its last sample only.
            if len(samples) > 1 and samples[-1][1:] == samples[-2][1:] == sample[1:]:
                samples.pop()
            samples.append(sample)
        if depths is not None:
            self.queue_history.append(QueueSample(at, depths))
