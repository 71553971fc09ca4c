"""The numbers of a campaign as the live page shows and moves them."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import pairwise
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from tracker.output.charts import Chart, line_chart
from tracker.output.report_lines import all_report_lines, balance_line
from tracker.output.series import Column
from tracker.queries.report import Report
from tracker.status import Reason, Status
from tracker.text import pluralize
from tracker.web.live import LiveFeed, ProgressSample, QueueSample, Snapshot

THROUGHPUT_WINDOW_SECONDS = 5.0
"""Seconds over which the throughput of now is taken."""

SECONDS_AXIS_LIMIT = 120.0
"""Up to so many seconds, what was seen is shown by the second, else by the minute."""

NO_MOVEMENT = "nothing has moved in the last minutes"


@dataclass(frozen=True, kw_only=True)
class CampaignProgress:
    """How far a campaign is, and what about it needs attention."""

    report: Report
    attention: Sequence[str]

    @property
    def state(self) -> str:
        return "finished" if self.report.finished else "running"


def progress(snapshot: Snapshot, report: Report) -> CampaignProgress:
    """How far a campaign is, and what about it needs attention."""
    attention = []
    standing = snapshot.stalled_counts[report.campaign.id]
    if not report.balanced:
        attention.append("its report does not balance: run sendtrace verify")
    if standing:
        attention.append(
            "1 batch stands still" if standing == 1 else f"{standing:,} batches stand still"
        )
    failed = report.having(Status.NOT_SENT, Reason.TIMEOUT)
    if failed:
        attention.append(f"given up after a timeout: {pluralize(failed, 'message')}")
    return CampaignProgress(report=report, attention=attention)


def throughput(moments: Sequence[ProgressSample]) -> float | None:
    """Messages a second to the gateway, over the last seconds."""
    if len(moments) < 2:
        return None
    last = moments[-1]
    since = next(
        (each for each in moments if each.at >= last.at - THROUGHPUT_WINDOW_SECONDS), moments[0]
    )
    if since.at >= last.at:
        since = moments[-2]
    return (last.sent - since.sent) / (last.at - since.at)


def make_campaign_update(
    snapshot: Snapshot, report: Report, moments: Sequence[ProgressSample], zone: tzinfo
) -> dict[str, Any]:
    """What moves on the page of a campaign, as its program reads it."""
    rate = throughput(moments)
    lines = list(all_report_lines(report, zone))
    return {
        "at": snapshot.at and snapshot.at.isoformat(),
        "trouble": snapshot.trouble,
        "counts": {line.path: line.count for line in lines},
        "notes": {line.path: line.note for line in lines if line.note},
        "audience": report.audience,
        "settled": report.settled,
        "throughput": None if rate is None else round(rate),
        "state": "finished" if report.finished else "running",
        "balanced": report.balanced,
        "balance": balance_line(report),
        "queues": queues(snapshot),
    }


def queues(snapshot: Snapshot) -> dict[str, dict[str, int]] | None:
    """How deep each queue is; None where the broker does not say."""
    if snapshot.depths is None:
        return None
    return {name: depth._asdict() for name, depth in snapshot.depths.items()}


def charts(moments: Sequence[ProgressSample], waiting: Sequence[QueueSample]) -> list[Chart]:
    """Throughput and queue depths of the last minutes."""
    times = [each.at for each in moments] + [each.at for each in waiting]
    axis = _TimeAxis.for_range(min(times, default=0.0), max(times, default=0.0))
    return [_throughput_chart(moments, axis), _queue_chart(waiting, axis)]


class _TimeAxis(NamedTuple):
    """The time of what was seen: in seconds at first, in minutes later, and 0 at its end."""

    end: float
    unit: float
    title: str

    @classmethod
    def for_range(cls, begin: float, end: float) -> "_TimeAxis":
        if end - begin < SECONDS_AXIS_LIMIT:
            return cls(end, 1, "seconds (0 is now)")
        return cls(end, 60, "minutes (0 is now)")

    def positions(self, times: Iterable[float]) -> Column:
        return (np.array([*times]) - self.end) / self.unit


def _throughput_chart(moments: Sequence[ProgressSample], axis: _TimeAxis) -> Chart:
    pairs = list(pairwise(moments))
    seconds = np.array([after.at - before.at for before, after in pairs])
    series = {
        "to the gateway": np.array([after.sent - before.sent for before, after in pairs]) / seconds,
        "Not Sent": np.array([after.not_sent - before.not_sent for before, after in pairs])
        / seconds,
    }
    x = axis.positions(after.at for _, after in pairs)
    return line_chart(
        "Throughput",
        axis.title,
        "messages a second",
        x,
        series,
        empty_reason=NO_MOVEMENT,
    )


def _queue_chart(waiting: Sequence[QueueSample], axis: _TimeAxis) -> Chart:
    x = axis.positions(each.at for each in waiting)
    names = waiting[-1].depths if waiting else ()
    series = {
        name.replace("_", " "): np.array([sum(each.depths[name]) for each in waiting], np.float64)
        for name in names
    }
    return line_chart(
        "Tasks in the queues, those that workers hold included",
        axis.title,
        "tasks",
        x,
        series,
        empty_reason="the queues have been empty" if waiting else "the broker does not say",
    )


class LiveUpdates:
    """The news of a campaign, or of all of them, as JSON. For one thread: that of the streams."""

    def __init__(self, live: LiveFeed, zone: tzinfo) -> None:
        self._live, self._zone = live, zone
        self._number = -1
        self._json_by_campaign: dict[int | None, str] = {}

    def get(self, campaign_id: int | None) -> str:
        """The news of a campaign, of all without one; ``null`` as long as nobody follows it."""
        snapshot = self._live.snapshot
        if snapshot.number != self._number:
            self._number = snapshot.number
            self._json_by_campaign.clear()
        if campaign_id not in self._json_by_campaign:
            self._json_by_campaign[campaign_id] = json.dumps(
                self._make_update(snapshot, campaign_id)
            )
        return self._json_by_campaign[campaign_id]

    def _make_update(self, snapshot: Snapshot, campaign_id: int | None) -> dict[str, Any] | None:
        if campaign_id is None:
            return {
                "at": snapshot.at and snapshot.at.isoformat(),
                "trouble": snapshot.trouble,
                "campaigns": {
                    key: _progress_json(snapshot, report)
                    for key, report in snapshot.reports.items()
                },
            }
        report = snapshot.reports.get(campaign_id)
        if report is None:
            return None
        return make_campaign_update(snapshot, report, self._live.moments(campaign_id), self._zone)


def _progress_json(snapshot: Snapshot, report: Report) -> dict[str, Any]:
    its = progress(snapshot, report)
    return {
        "audience": report.audience,
        "settled": report.settled,
        "state": its.state,
        "attention": list(its.attention),
    }


CHART_MAX_AGE_SECONDS = 5.0
"""Seconds that a picture is shown before it is drawn again; a picture takes some 20 ms."""

MAX_CACHED_CHARTS = 100


class ChartCache:
    """The latest picture of each thing. Safe to use from many threads: who comes while something is
    being drawn waits for it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, Lock()
        self._charts: dict[int, tuple[float, str]] = {}

    def get(self, key: int, draw: Callable[[], str]) -> str:
        """The picture of ``key``, made by ``draw`` unless there is one that is new enough."""
        with self._lock:
            drawn_at, picture = self._charts.get(key, (0.0, ""))
            if not picture or self._now() - drawn_at >= CHART_MAX_AGE_SECONDS:
                picture = draw()
                self._charts.pop(key, None)
                self._charts[key] = self._now(), picture
                while len(self._charts) > MAX_CACHED_CHARTS:
                    del self._charts[next(iter(self._charts))]
            return picture
