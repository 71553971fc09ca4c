"""The numbers that everybody looks at: read once a second, however many look."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import NamedTuple

from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError

from tracker.clock import Instant
from tracker.errors import UnreadableRecord
from tracker.monitoring import QueueDepth
from tracker.queries.report import Report, make_reports
from tracker.queries.stage_ages import read_oldest_message_ages
from tracker.queries.stalled import (
    StalledBatch,
    find_stalled_batches,
    find_unfinished_campaigns,
    read_last_requeue_time,
)
from tracker.record.catalog import Campaign, find_latest_campaign_ids, load_campaigns
from tracker.store.database import Database
from tracker.web.monitoring import Monitoring

logger = logging.getLogger(__name__)

REFRESH_INTERVAL_SECONDS = 1.0
"""Seconds between two looks at the record."""

FULL_REFRESH_EVERY = 10
"""Every so many looks those campaigns are read too that have come to their end: late bounces and
rollups change them."""

MAX_FOLLOWED_CAMPAIGNS = 50
"""The latest campaigns; those before them are followed while somebody looks at them."""

MAX_PINNED_CAMPAIGNS = 50
"""Older campaigns that are followed because somebody has looked at them."""

HISTORY_LENGTH = 600
"""Looks that are remembered: the last ten minutes."""


class ProgressSample(NamedTuple):
    """How many messages of a campaign were somewhere at ``at``, in seconds since 1970."""

    at: float
    sent: int
    not_sent: int
    settled: int


class QueueSample(NamedTuple):
    """How deep the queues were at ``at``, in seconds since 1970."""

    at: float
    depths: Mapping[str, QueueDepth]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What was read at ``at``: reports by campaign, the depth of each queue, batches that stand
    still, for how many seconds the oldest message of each stage has been there, and when a batch
    was last sent on by a sweep (real time). ``trouble``
    says why nothing newer could be, since ``database_error_since``."""

    number: int = 0
    at: datetime | None = None
    reports: Mapping[int, Report] = field(default_factory=dict)
    depths: Mapping[str, QueueDepth] | None = None
    standing: Sequence[StalledBatch] = ()
    ages: Mapping[str, float] = field(default_factory=dict)
    recovered_at: Instant | None = None
    trouble: str | None = None
    database_error_since: datetime | None = None

    @cached_property
    def stalled_counts(self) -> Counter[int]:
        """How many batches of each campaign stand still."""
        return Counter(each.campaign.id for each in self.standing)


class _StalledWork(NamedTuple):
    """What a snapshot has of what waits."""

    standing: Sequence[StalledBatch]
    ages: Mapping[str, float]
    recovered_at: Instant | None


class LiveFeed:
    """Follows the record. Viewers wait for the next :class:`Snapshot`, and make no query."""

    def __init__(self, database: Database, outside: Monitoring) -> None:
        self._database, self._monitoring = database, outside
        self._campaigns: dict[int, Campaign] = {}
        self._pinned: deque[int] = deque(maxlen=MAX_PINNED_CAMPAIGNS)
        self._refresh_count = 0
        self._refresh_lock = asyncio.Lock()
        self._changed: asyncio.Event | None = None
        self._progress_histories: dict[int, deque[ProgressSample]] = {}
        self.waiting: deque[QueueSample] = deque(maxlen=HISTORY_LENGTH)
        self._stop_event = asyncio.Event()
        self.snapshot = Snapshot()

    @property
    def is_stopped(self) -> bool:
        return self._stop_event.is_set()

    async def run(self) -> None:
        """Look at the record once a second, until the end."""
        while not self.is_stopped:
            began = time.monotonic()
            await self.look()
            with suppress(TimeoutError):
                left = REFRESH_INTERVAL_SECONDS - (time.monotonic() - began)
                await asyncio.wait_for(self._stop_event.wait(), max(0.0, left))

    def stop(self) -> None:
        """Look no more, and let nobody wait any longer."""
        self._stop_event.set()
        self._publish(self.snapshot)

    async def look(self) -> None:
        """Look at the record, and tell who waits for it."""
        async with self._refresh_lock:
            self._publish(await run_sync(self._read_snapshot))

    async def wait_for_newer(self, number: int, timeout: float) -> Snapshot:
        """The first snapshot after ``number``; the same again after ``timeout`` seconds."""
        if self.snapshot.number <= number:
            if self._changed is None:
                self._changed = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout)
        return self.snapshot

    def pin(self, campaign_id: int) -> None:
        """Follow a campaign that may not be among the latest."""
        if campaign_id not in self.snapshot.reports and campaign_id not in self._pinned:
            self._pinned.append(campaign_id)

    def moments(self, campaign_id: int) -> Sequence[ProgressSample]:
        """The last ten minutes of a campaign, as far as they were seen."""
        return tuple(self._progress_histories.get(campaign_id, ()))

    def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _read_snapshot(self) -> Snapshot:
        before = self.snapshot
        depths = self._read_queue_depths()
        try:
            reports = self._read_reports(before.reports)
            waits = _StalledWork(before.standing, before.ages, before.recovered_at)
            if self._refresh_count % FULL_REFRESH_EVERY == 0:
                waits = self._read_stalled_work()
        except (SQLAlchemyError, UnreadableRecord, ValueError, TypeError) as error:
            return replace(
                before,
                number=before.number + 1,
                depths=depths,
                trouble=self._database.summarize_error(error),
                database_error_since=before.database_error_since or datetime.now(UTC),
            )
        self._refresh_count += 1
        at = datetime.now(UTC)
        self._append_history(at.timestamp(), reports, depths)
        return Snapshot(
            number=before.number + 1,
            at=at,
            reports=reports,
            depths=depths,
            **waits._asdict(),
        )

    def _read_stalled_work(self) -> "_StalledWork":
        with self._database.read() as connection:
            known = find_unfinished_campaigns(connection)
            return _StalledWork(
                find_stalled_batches(connection, known),
                read_oldest_message_ages(connection, known),
                read_last_requeue_time(connection),
            )

    def _read_reports(self, before: Mapping[int, Report]) -> dict[int, Report]:
        with self._database.read() as connection:
            wanted = {*find_latest_campaign_ids(connection, MAX_FOLLOWED_CAMPAIGNS), *self._pinned}
            all_of_them = self._refresh_count % FULL_REFRESH_EVERY == 0
            new = wanted if all_of_them else wanted - self._campaigns.keys()
            if new:
                loaded = load_campaigns(connection, sorted(new))
                self._campaigns |= {each.id: each for each in loaded}
            now = [
                self._campaigns[each]
                for each in sorted(wanted & self._campaigns.keys())
                if all_of_them or each not in before or not before[each].finished
            ]
            found = make_reports(connection, now)
        kept = {key: report for key, report in before.items() if key in wanted}
        return kept | {report.campaign.id: report for report in found}

    def _read_queue_depths(self) -> Mapping[str, QueueDepth] | None:
        if self._monitoring.depths is None:
            return None
        try:
            return self._monitoring.depths()
        except Exception as error:  # whatever the broker's library raises: it is away
            logger.debug("the broker does not say how deep its queues are: %s", error)
            return None

    def _append_history(
        self, at: float, reports: Mapping[int, Report], depths: Mapping[str, QueueDepth] | None
    ) -> None:
        for key in self._progress_histories.keys() - reports.keys():
            del self._progress_histories[key]
        for key, report in reports.items():
            moments = self._progress_histories.setdefault(key, deque(maxlen=HISTORY_LENGTH))
            now = ProgressSample(at, report.sent, report.not_sent, report.settled)
            # What rests is remembered by its ends alone.
            if len(moments) > 1 and moments[-1][1:] == moments[-2][1:] == now[1:]:
                moments.pop()
            moments.append(now)
        if depths is not None:
            self.waiting.append(QueueSample(at, depths))
