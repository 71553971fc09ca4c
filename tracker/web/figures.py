"""The numbers of a campaign as the live page shows and moves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import pairwise
from typing import Any

import numpy as np

from tracker.charts import Chart, line_chart
from tracker.report import Report
from tracker.report_lines import all_lines, balance_line
from tracker.status import Reason, Status
from tracker.web.live import Moment, Snapshot, Waiting
from tracker.words import counted

SMOOTHED = 5.0
"""Seconds over which the throughput of now is taken."""

NOTHING_MOVED = "nothing has moved in the last minutes"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a campaign is, and what about it needs attention."""

    report: Report
    attention: Sequence[str]

    @property
    def state(self) -> str:
        return "finished" if self.report.finished else "running"


def progress(snapshot: Snapshot, report: Report) -> Progress:
    """How far a campaign is, and what about it needs attention."""
    attention = []
    standing = snapshot.standing_of[report.campaign.id]
    if not report.balanced:
        attention.append("its report does not balance: run sendtrace verify")
    if standing:
        attention.append(
            "1 batch stands still" if standing == 1 else f"{standing:,} batches stand still"
        )
    failed = report.having(Status.NOT_SENT, Reason.TIMEOUT)
    if failed:
        attention.append(f"given up after a timeout: {counted(failed, 'message')}")
    return Progress(report=report, attention=attention)


def throughput(moments: Sequence[Moment]) -> float | None:
    """Messages a second to the gateway, over the last seconds."""
    if len(moments) < 2:
        return None
    last = moments[-1]
    since = next((each for each in moments if each.at >= last.at - SMOOTHED), moments[0])
    if since.at >= last.at:
        since = moments[-2]
    return (last.sent - since.sent) / (last.at - since.at)


def news(
    snapshot: Snapshot, report: Report, moments: Sequence[Moment], zone: tzinfo
) -> dict[str, Any]:
    """What moves on the page of a campaign, as its program reads it."""
    rate = throughput(moments)
    lines = list(all_lines(report, zone))
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


def charts(moments: Sequence[Moment], waiting: Sequence[Waiting]) -> list[Chart]:
    """Throughput and queue depths of the last minutes."""
    now = max([each.at for each in moments[-1:]] + [each.at for each in waiting[-1:]], default=0.0)
    return [_throughput_chart(moments, now), _queue_chart(waiting, now)]


def _throughput_chart(moments: Sequence[Moment], now: float) -> Chart:
    pairs = list(pairwise(moments))
    seconds = np.array([after.at - before.at for before, after in pairs])
    series = {
        "to the gateway": np.array([after.sent - before.sent for before, after in pairs]) / seconds,
        "Not Sent": np.array([after.not_sent - before.not_sent for before, after in pairs])
        / seconds,
    }
    x = np.array([(after.at - now) / 60 for _, after in pairs])
    return line_chart(
        "Throughput",
        "minutes ago",
        "messages a second",
        x,
        series,
        nothing=NOTHING_MOVED,
    )


def _queue_chart(waiting: Sequence[Waiting], now: float) -> Chart:
    x = np.array([(each.at - now) / 60 for each in waiting])
    names = waiting[-1].depths if waiting else ()
    series = {
        name.replace("_", " "): np.array([sum(each.depths[name]) for each in waiting], np.float64)
        for name in names
    }
    return line_chart(
        "Tasks in the queues, those that workers hold included",
        "minutes ago",
        "tasks",
        x,
        series,
        nothing="the queues have been empty" if waiting else "the broker does not say",
    )
