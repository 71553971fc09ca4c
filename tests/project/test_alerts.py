"""The alerts, tested with promtool: each fires for its fault, alone, and clears after it."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.paths import ROOT
from workers.queues import QUEUES

ALERTS = ROOT / "docs" / "alerts.yml"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool isn't installed; Debian's package prometheus has it",
)

Values = Sequence[float | None]

SERVED = tuple(f'sendtrace_queue_workers{{queue="{queue}"}}' for queue in QUEUES)
SWEEP, ROLLUP = "sendtrace_sweep_timestamp_seconds", "sendtrace_daily_rollup_timestamp_seconds"
QUEUED = 'sendtrace_transitions_total{status="queued",reason=""}'
RULE_FAILED = 'sendtrace_transitions_total{status="not_sent",reason="rule_failed"}'
STALLED = 'sendtrace_batches_standing_still{campaign="spring",run="1"}'
ABANDONED = 'sendtrace_campaign_state{campaign="spring",run="1",state="abandoned"}'
OLDEST = 'sendtrace_oldest_message_seconds{stage="in_gateway"}'
READY = 'sendtrace_queue_tasks{queue="gateway",state="ready"}'
UNAVAILABLE = 'sendtrace_gateway_unavailable_total{gateway="smtp"}'
FAILED = 'sendtrace_failed_steps_total{step="submit"}'
DISK, DISK_SIZE = 'sendtrace_disk_free_bytes{path="/"}', 'sendtrace_disk_size_bytes{path="/"}'
DISK_FULL = "sendtrace_disk_full"
DATABASE, BROKER, PAGE = "sendtrace_database_up", "sendtrace_broker_up", "up"

HEALTHY: Mapping[str, float] = {
    PAGE: 1,
    DATABASE: 1,
    BROKER: 1,
    **dict.fromkeys(SERVED, 2),
    QUEUED: 0,
    RULE_FAILED: 0,
    STALLED: 0,
    ABANDONED: 0,
    OLDEST: 0,
    READY: 0,
    UNAVAILABLE: 0,
    FAILED: 0,
    DISK: 5e10,
    DISK_SIZE: 1e11,
    DISK_FULL: 0,
}


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A fault between two healthy times.

    Attributes:
        alert: the alert that fires; empty for none.
        values: of each series during the fault; None is absent.
        rates: of each counter during the fault, added each interval.
        interval: seconds between two scrapes.
    """

    alert: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    interval: int = 15
    healthy: int = 40
    faulty: int = 160
    recovered: int = 80

    @property
    def end(self) -> int:
        """Seconds from the begin to the end of the fault."""
        return (self.healthy + self.faulty) * self.interval

    def series(self) -> Mapping[str, str]:
        """Return the values of each series, as promtool reads them."""
        lines = {name: self._line(name, value) for name, value in HEALTHY.items()}
        count = self.healthy + self.faulty + self.recovered + 1
        for name, is_daily in ((SWEEP, False), (ROLLUP, True)):
            times = [number * self.interval for number in range(count)]
            daily: list[float | None] = [at // 86_400 * 86_400 if is_daily else at for at in times]
            if name in self.values:
                end = self.healthy + self.faulty
                stopped = self.values[name]
                daily[self.healthy : end] = [stopped] * self.faulty
            lines[name] = _format(daily)
        return lines

    def _line(self, name: str, healthy: float) -> str:
        fault = self.values.get(name, healthy)
        rate = self.rates.get(name, 0)
        if fault is None:
            during: list[float | None] = [None] * self.faulty
        else:
            during = [fault + rate * number for number in range(1, self.faulty + 1)]
        is_counter = "_total" in name
        after = during[-1] if is_counter else healthy
        return _format([healthy] * self.healthy + during + [after] * (self.recovered + 1))


def _format(values: Sequence[float | None]) -> str:
    """Return values with a stale marker where a series disappears, as a scrape adds one."""
    texts = []
    for before, value in zip([None, *values], values, strict=False):
        gap = "_" if before is None else "stale"
        texts.append(gap if value is None else f"{value:g}" if value < 1e5 else f"{value:.0f}")
    return " ".join(texts)


NO_WORKERS = dict.fromkeys(SERVED, 0.0)
NO_METRICS: Mapping[str, float | None] = {**dict.fromkeys(HEALTHY), SWEEP: None, ROLLUP: None}

INCIDENTS = {
    "idle": Incident(),
    "accelerated run": Incident(
        values={OLDEST: 9, READY: 300}, rates={QUEUED: 100_000, RULE_FAILED: 100}
    ),
    "page down": Incident(alert="SendtracePageDown", values={**NO_METRICS, PAGE: 0}),
    "page gone": Incident(alert="SendtracePageDown", values=NO_METRICS),
    "database": Incident(
        alert="SendtraceDatabaseUnavailable",
        values={DATABASE: 0, SWEEP: 600, STALLED: 9, OLDEST: 4_000, ABANDONED: 1},
    ),
    "broker": Incident(
        alert="SendtraceBrokerUnavailable",
        values={BROKER: 0, **NO_WORKERS, READY: None, SWEEP: 600, STALLED: 9, OLDEST: 4_000},
    ),
    "worker": Incident(alert="SendtraceQueueWithoutWorker", values={SERVED[1]: 0}),
    "worker of upkeep": Incident(
        alert="SendtraceQueueWithoutWorker", values={SERVED[-1]: 0, SWEEP: 600}
    ),
    "beat": Incident(alert="SendtraceBeatDead", values={SWEEP: 600}),
    "beat, never started": Incident(alert="SendtraceBeatDead", values={SWEEP: None}),
    "disk": Incident(alert="SendtraceDiskLow", values={DISK: 5e8}),
    "small disk": Incident(values={DISK: 9e8, DISK_SIZE: 2e9}),
    "disk full": Incident(
        alert="SendtraceDiskFull",
        values={
            DISK: 0,
            DISK_FULL: 1,
            DATABASE: 0,
            BROKER: 0,
            **NO_WORKERS,
            READY: None,
            SWEEP: 600,
            STALLED: 9,
            OLDEST: 4_000,
            ABANDONED: 1,
        },
    ),
    "disk full, with a broker that only reads": Incident(
        alert="SendtraceDiskFull", values={DISK_FULL: 1, SWEEP: 600, **NO_WORKERS}
    ),
    "gateway": Incident(alert="SendtraceGatewayUnavailable", rates={UNAVAILABLE: 1}),
    "gateway, for two minutes": Incident(rates={UNAVAILABLE: 1}, faulty=8, recovered=16),
    "stalled": Incident(alert="SendtraceBatchesStalled", values={STALLED: 3}),
    "driver": Incident(alert="SendtraceRunAbandoned", values={ABANDONED: 1}),
    "slow": Incident(alert="SendtraceMessagesDelayed", values={OLDEST: 2_000}),
    "queue": Incident(
        alert="SendtraceQueueGrows", values={READY: 1_000}, rates={READY: 10}, recovered=120
    ),
    "rules": Incident(alert="SendtraceSystemErrors", rates={QUEUED: 1_000, RULE_FAILED: 50}),
    "step": Incident(alert="SendtraceTasksFail", rates={FAILED: 0.1}),
    "rollup missed": Incident(
        alert="SendtraceRollupMissed", values={ROLLUP: 0}, interval=240, healthy=350, faulty=100
    ),
    "rollup never ran": Incident(
        alert="SendtraceRollupNeverRan",
        values={ROLLUP: None},
        interval=240,
        healthy=10,
        faulty=400,
    ),
}


def make_test(name: str, incident: Incident) -> Mapping[str, object]:
    def expect(at: int, alert: str) -> Mapping[str, object]:
        samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
        return {
            "expr": 'max by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{at}s",
            "exp_samples": samples,
        }

    return {
        "name": name,
        "interval": f"{incident.interval}s",
        "input_series": [
            {"series": _add_labels(series), "values": values}
            for series, values in incident.series().items()
        ],
        "promql_expr_test": [
            expect((incident.healthy - 1) * incident.interval, ""),
            expect(incident.end - incident.interval, incident.alert),
            expect(incident.end + incident.recovered * incident.interval, ""),
        ],
    }


def _add_labels(series: str) -> str:
    name, _, labels = series.removesuffix("}").partition("{")
    target = 'job="sendtrace",instance="web:8080"'
    return f"{name}{{{target}{',' if labels else ''}{labels}}}"


def load_rules() -> Sequence[Mapping[str, Mapping[str, str]]]:
    with ALERTS.open() as file:
        return [rule for group in YAML(typ="safe").load(file)["groups"] for rule in group["rules"]]


@needs_promtool
def test_each_alert_fires_for_its_fault_alone_and_clears_after_it(tmp_path: Path) -> None:
    """An idle system and an accelerated run raise none."""
    tests = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [make_test(name, incident) for name, incident in INCIDENTS.items()],
    }
    file = tmp_path / "alerts.test.yml"
    with file.open("w") as opened:
        YAML(typ="safe").dump(tests, opened)
    result = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout[-4_000:] + result.stderr[-4_000:]


def test_every_alert_has_an_incident_and_a_section_of_the_runbook() -> None:
    rules = load_rules()
    assert {str(rule["alert"]) for rule in rules} == {
        incident.alert for incident in INCIDENTS.values() if incident.alert
    }
    headings = re.findall(r"^## (.*)$", (ROOT / "docs" / "runbook.md").read_text(), re.M)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    links = {rule["annotations"]["runbook_url"] for rule in rules}
    assert links == {f"docs/runbook.md#{anchor}" for anchor in anchors}
