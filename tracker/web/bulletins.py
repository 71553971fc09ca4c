"""What viewers are told of the latest numbers: worded once, however many listen."""

import json
from datetime import tzinfo
from typing import Any

from tracker.report import Report
from tracker.web import figures
from tracker.web.live import Live, Snapshot


class Bulletins:
    """The news of a campaign, or of all of them, as JSON. For one thread: that of the streams."""

    def __init__(self, live: Live, zone: tzinfo) -> None:
        self._live, self._zone = live, zone
        self._number = -1
        self._worded: dict[int | None, str] = {}

    def latest(self, campaign_id: int | None) -> str:
        """The news of a campaign, of all without one; ``null`` as long as nobody follows it."""
        snapshot = self._live.snapshot
        if snapshot.number != self._number:
            self._number = snapshot.number
            self._worded.clear()
        if campaign_id not in self._worded:
            self._worded[campaign_id] = json.dumps(self._news(snapshot, campaign_id))
        return self._worded[campaign_id]

    def _news(self, snapshot: Snapshot, campaign_id: int | None) -> dict[str, Any] | None:
        if campaign_id is None:
            return {
                "at": snapshot.at and snapshot.at.isoformat(),
                "trouble": snapshot.trouble,
                "campaigns": {
                    key: _brief(snapshot, report) for key, report in snapshot.reports.items()
                },
            }
        report = snapshot.reports.get(campaign_id)
        if report is None:
            return None
        return figures.news(snapshot, report, self._live.moments(campaign_id), self._zone)


def _brief(snapshot: Snapshot, report: Report) -> dict[str, Any]:
    its = figures.progress(snapshot, report)
    return {
        "audience": report.audience,
        "settled": report.settled,
        "state": its.state,
        "attention": list(its.attention),
    }
