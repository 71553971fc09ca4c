"""The nights of a run: at each 1 am of its clock engagement is rolled up, as a beat would do."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import partial

from celery import Celery

from simulator.retry import retry_transient
from simulator.run.progress import ProgressDisplay
from simulator.setup.record import Run
from tracker.clock import Instant, from_datetime, to_datetime
from tracker.queries.report import Report
from tracker.status import Engagement
from workers.queues import ROLLUP_TASK, UPKEEP_QUEUE

ROLLUP_TIME = time(1)
"""When a day is rolled up, by the clock on the wall."""


def next_one_am(now: Instant, zone: tzinfo) -> Instant:
    """The first 1 am after ``now`` in a time zone."""
    today = to_datetime(now).astimezone(zone).date()
    candidates = (
        from_datetime(
            datetime.combine(today + timedelta(days=days), ROLLUP_TIME, zone).astimezone(UTC)
        )
        for days in range(3)
    )
    return next(each for each in candidates if each > now)


class NightlyRollups:
    """Has the workers roll up at each simulated 1 am, and says what is on record then."""

    def __init__(self, app: Celery, run: Run, zone: tzinfo, shown: ProgressDisplay) -> None:
        self._app = app
        self._zone = zone
        self._display = shown
        self._tracked_campaign_ids = {
            loaded.campaign.id for loaded in run.campaigns if loaded.campaign.tracks_engagement
        }
        self._clock = run.campaigns[0].campaign.clock
        self._next_rollup_at = next_one_am(self._clock.now(), zone)
        self._awaited_rollup_at: Instant | None = None

    def look(self, reports: Sequence[Report]) -> None:
        """Send the task if it is time, and say what came of it once it is done."""
        if not self._tracked_campaign_ids:
            return
        now = self._clock.now()
        if now >= self._next_rollup_at:
            retry_transient(partial(self._app.send_task, ROLLUP_TASK, queue=UPKEEP_QUEUE))
            self._awaited_rollup_at = self._next_rollup_at
            self._next_rollup_at = next_one_am(now, self._zone)
        tracked = [report for report in reports if report.campaign.id in self._tracked_campaign_ids]
        if self._awaited_rollup_at is not None and all(
            (report.engagement_as_of or 0) >= self._awaited_rollup_at for report in tracked
        ):
            counts = "; ".join(
                f"{report.campaign.name} {report.engagement[Engagement.OPENED]:,} opened,"
                f" {report.engagement[Engagement.CLICKED]:,} clicked"
                for report in tracked
            )
            night = to_datetime(self._awaited_rollup_at).astimezone(self._zone)
            self._display.log(f"rolled up at {night:%-d %b %H:%M}: {counts}")
            self._awaited_rollup_at = None
