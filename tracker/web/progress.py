"""The progress of campaigns, and the live updates that carry it to the pages."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import Any

from tracker.campaign_states import CampaignState
from tracker.clock import to_datetime
from tracker.output.report_lines import all_report_lines, balance_line
from tracker.queries.campaign_state import ABANDONED_AFTER
from tracker.queries.report import Report
from tracker.status import Reason, Status
from tracker.text import pluralize
from tracker.web.health.judge import Condition, Health, Part
from tracker.web.live import LiveFeed, ProgressSample, Snapshot

THROUGHPUT_WINDOW_SECONDS = 5.0
"""Seconds over which the current throughput is averaged."""


@dataclass(frozen=True, kw_only=True)
class CampaignProgress:
    """A campaign's report, with the problems that need attention."""

    report: Report
    attention: Sequence[str]


def make_campaign_progress(snapshot: Snapshot, report: Report) -> CampaignProgress:
    """Return the progress of a campaign, and what needs attention in it."""
    attention = _find_causes(snapshot.health, report)
    if report.state is CampaignState.ABANDONED:
        attention.append(_describe_abandoned(report))
    if not report.is_balanced:
        attention.append("the report doesn't balance; run sendtrace verify")
    stalled = snapshot.stalled_counts[report.campaign.id]
    if stalled:
        attention.append(pluralize(stalled, "stalled batch"))
    for reason in (Reason.TIMEOUT, Reason.RULE_FAILED, Reason.STEP_FAILED):
        failed = report.count_messages(Status.NOT_SENT, reason)
        if failed:
            attention.append(f"{pluralize(failed, 'message')} Not Sent: {reason.title.lower()}")
    return CampaignProgress(report=report, attention=attention)


def _find_causes(health: Health | None, report: Report) -> list[str]:
    """Return the cause that keeps an unfinished campaign from going on, if there is one."""
    if health is None or health.cause is None or report.is_over:
        return []
    cause = health.parts[health.cause]
    is_own = health.cause is not Part.GATEWAYS or report.campaign.name in cause.summary
    return [cause.summary] if is_own and cause.condition is Condition.DOWN else []


def _describe_abandoned(report: Report) -> str:
    problem = f"no heartbeat of its driver for {ABANDONED_AFTER.total_seconds():.0f} s"
    if report.scheduled:
        customers = pluralize(report.scheduled, "scheduled customer")
        problem += f"; no driver queues messages to {customers}"
    return f"{problem}; to continue, run sendtrace resume {report.campaign.run_id}"


def recent_throughput(samples: Sequence[ProgressSample]) -> float | None:
    """Return the recent messages per second to the gateway, None before two samples."""
    if len(samples) < 2:
        return None
    last = samples[-1]
    window_start = last.at - THROUGHPUT_WINDOW_SECONDS
    first = next((sample for sample in samples if sample.at >= window_start), samples[0])
    if first.at >= last.at:
        first = samples[-2]
    return (last.sent - first.sent) / (last.at - first.at)


def queue_depths(snapshot: Snapshot) -> dict[str, dict[str, int]] | None:
    """Return the ready and unacked tasks of each queue, None while the broker is unavailable."""
    if snapshot.queue_depths is None:
        return None
    return {queue: depth._asdict() for queue, depth in snapshot.queue_depths.items()}


class UpdateView(StrEnum):
    """What a page shows, other than one campaign."""

    OVERVIEW = "overview"
    HEALTH = "health"
    """The health of all parts only."""


class LiveUpdates:
    """The data of the server-sent events, as JSON; made once for all viewers of a snapshot.

    Not thread-safe: only the event loop uses it.
    """

    def __init__(
        self, live: LiveFeed, zone: tzinfo, render_health: Callable[[Health | None], str]
    ) -> None:
        self._live, self._zone, self._render_health = live, zone, render_health
        self._number = -1
        self._json_by_view: dict[int | UpdateView, str] = {}

    def latest_json(self, view: "int | UpdateView") -> str:
        """Return the latest numbers of a campaign, given its id, or of another view.

        The result is `null` while the snapshot lacks the campaign.
        """
        snapshot = self._live.snapshot
        if snapshot.number != self._number:
            self._number, self._json_by_view = snapshot.number, {}
        if view not in self._json_by_view:
            self._json_by_view[view] = json.dumps(self._make_update(snapshot, view))
        return self._json_by_view[view]

    def _make_update(self, snapshot: Snapshot, view: "int | UpdateView") -> dict[str, Any] | None:
        shared = _freshness(snapshot) | {"health": self._render_health(snapshot.health)}
        if isinstance(view, UpdateView):
            return shared | (_make_overview(snapshot) if view is UpdateView.OVERVIEW else {})
        report = snapshot.reports.get(view)
        if report is None:
            return None
        samples = self._live.progress_history(view)
        return shared | _make_campaign_update(snapshot, report, samples, self._zone)


def _make_overview(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "campaigns": {
            campaign_id: {
                "audience": report.audience,
                "scheduled": report.scheduled,
                "settled": report.settled,
                "state": report.state,
                "attention": list(progress.attention),
            }
            for campaign_id, report in snapshot.reports.items()
            for progress in [make_campaign_progress(snapshot, report)]
        },
    }


def _make_campaign_update(
    snapshot: Snapshot, report: Report, samples: Sequence[ProgressSample], zone: tzinfo
) -> dict[str, Any]:
    throughput = recent_throughput(samples)
    lines = list(all_report_lines(report, zone))
    return {
        "counts": {line.path: line.count for line in lines},
        "shares": {line.path: line.share for line in lines},
        "notes": {line.path: line.note for line in lines if line.note},
        "as_of": to_datetime(report.as_of).isoformat(timespec="seconds"),
        "audience": report.audience,
        "settled": report.settled,
        "throughput": None if throughput is None else round(throughput),
        "state": report.state,
        "attention": list(make_campaign_progress(snapshot, report).attention),
        "balanced": report.is_balanced,
        "balance": balance_line(report),
        "queues": queue_depths(snapshot),
    }


def _freshness(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "at": snapshot.at and snapshot.at.isoformat(),
        "trouble": snapshot.database_error,
    }
