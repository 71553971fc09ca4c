"""Watch the parts with probes, and judge them for the latest snapshot."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from tracker.errors import SendtraceError
from tracker.monitoring import GatewayOutage, QueueDepth, WorkerActivity
from tracker.queries.report import Report
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.write_probe import check_writable, database_file
from tracker.text import describe_error
from tracker.web.health.judge import (
    BrokerFacts,
    DiskSpace,
    GatewayTrouble,
    Health,
    HealthFacts,
    judge_health,
)
from tracker.web.health.probes import Finding, Probe
from tracker.web.monitoring import Monitoring

DATABASE_INTERVAL_SECONDS, DATABASE_LIMIT_SECONDS = 3.0, 8.0
"""Time between two probes of the database, and for one: another writer of SQLite may hold the lock
for seconds."""

BROKER_INTERVAL_SECONDS, BROKER_LIMIT_SECONDS = 1.0, 3.0

DISK_INTERVAL_SECONDS, DISK_LIMIT_SECONDS = 5.0, 5.0
"""A network file system may hang."""


class HealthWatch:
    """The probes of database, broker and disks, each in its own thread."""

    def __init__(self, database: Database, monitoring: Monitoring, home: Path) -> None:
        self._database, self._monitoring, self._home = database, monitoring, home
        self._database_probe = Probe[None](
            "database",
            partial(check_writable, database),
            database.summarize_error,
            interval=DATABASE_INTERVAL_SECONDS,
            limit=DATABASE_LIMIT_SECONDS,
        )
        self._disk_probe = Probe[Sequence[DiskSpace]](
            "disk",
            self._read_disks,
            describe_error,
            interval=DISK_INTERVAL_SECONDS,
            limit=DISK_LIMIT_SECONDS,
        )
        self._broker_probe = None
        if monitoring.read_queue_depths is not None:
            self._broker_probe = Probe[BrokerFacts](
                "broker",
                self._ask_broker,
                _describe_broker_error,
                interval=BROKER_INTERVAL_SECONDS,
                limit=BROKER_LIMIT_SECONDS,
            )

    def start(self) -> None:
        """Start the probes, and wait for what they find first, with their limits."""
        for probe in self._probes:
            probe.start()
        for probe in self._probes:
            probe.wait_for_first()

    def stop(self) -> None:
        """End the probes."""
        for probe in self._probes:
            probe.stop()

    @property
    def queue_depths(self) -> Mapping[str, QueueDepth] | None:
        """The depth of each queue, None while the broker is unavailable."""
        finding = self._broker_finding
        if finding is None or finding.error is not None or finding.value is None:
            return None
        return finding.value.depths

    @property
    def disks(self) -> Sequence[DiskSpace]:
        """The disks as they were last seen; none before that."""
        return self._disk_probe.finding.value or ()

    @property
    def last_sweep_at(self) -> datetime | None:
        """The time at which the last sweep began, as the broker last told; None if unknown."""
        finding = self._broker_finding
        if finding is None or finding.value is None or finding.value_at is None:
            return None
        age = finding.value.sweep_age
        return None if age is None else finding.value_at - timedelta(seconds=age)

    @property
    def depths_read_at(self) -> datetime | None:
        """The time at which the broker last answered, None if it never has."""
        finding = self._broker_finding
        return None if finding is None else finding.value_at

    def judge(
        self,
        reports: Mapping[int, Report],
        read_error: str | None = None,
        read_error_since: datetime | None = None,
    ) -> Health:
        """Return the health as of now.

        Args:
            reports: the latest known reports, by the campaign's id.
            read_error: why the database couldn't be read, None if it could.
            read_error_since: the time of the first such failure in a row.
        """
        read_activity = self._monitoring.read_worker_activity
        activity = None if read_activity is None else read_activity()
        unfinished = [report for report in reports.values() if not report.is_over]
        return judge_health(
            HealthFacts(
                database=self._database_probe.finding,
                disks=self._disk_probe.finding,
                broker=self._broker_finding,
                activity=activity,
                queues=self._monitoring.queues,
                gateways=find_gateway_troubles(activity, reports),
                waiting=sum(map(_count_waiting, unfinished)),
                read_error=read_error,
                read_error_since=read_error_since,
            )
        )

    @property
    def _probes(self) -> list[Probe[None] | Probe[Sequence[DiskSpace]] | Probe[BrokerFacts]]:
        broker = [] if self._broker_probe is None else [self._broker_probe]
        return [self._database_probe, self._disk_probe, *broker]

    @property
    def _broker_finding(self) -> Finding[BrokerFacts] | None:
        return None if self._broker_probe is None else self._broker_probe.finding

    def _ask_broker(self) -> BrokerFacts:
        read_depths, read_sweep_age = (
            self._monitoring.read_queue_depths,
            self._monitoring.read_sweep_age,
        )
        depths = {} if read_depths is None else read_depths()
        return BrokerFacts(depths, None if read_sweep_age is None else read_sweep_age())

    def _read_disks(self) -> Sequence[DiskSpace]:
        folders = [self._home]
        file = database_file(self._database)
        if file is not None and file.parent.stat().st_dev != self._home.stat().st_dev:
            folders.append(file.parent)
        usages = [(str(folder), shutil.disk_usage(folder)) for folder in folders]
        return [DiskSpace(path, usage.free, usage.total) for path, usage in usages]


def _describe_broker_error(error: Exception) -> str:
    return str(error) if isinstance(error, SendtraceError) else describe_error(error)


def find_gateway_troubles(
    activity: WorkerActivity | None, reports: Mapping[int, Report]
) -> list[GatewayTrouble]:
    """Return the unavailable gateways of campaigns that have messages waiting."""
    outages: Sequence[GatewayOutage] = () if activity is None else activity.gateway_outages
    troubles = []
    for outage in outages:
        report = reports.get(outage.campaign)
        if report is not None and not report.is_over:
            waiting = _count_waiting_for_gateway(report)
            troubles.append(
                GatewayTrouble(
                    report.campaign.name, outage.error, outage.since, outage.is_refusing, waiting
                )
            )
    return troubles


def _count_waiting(report: Report) -> int:
    return report.count_messages(Status.QUEUED) + report.count_messages(Status.ABOUT_TO_BE_SENT)


def _count_waiting_for_gateway(report: Report) -> int:
    return report.count_messages(Status.ABOUT_TO_BE_SENT) + report.count_messages(
        Status.SOFT_BOUNCED
    )
