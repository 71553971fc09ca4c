"""The Grafana dashboard, generated from the names of the metrics."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracker.web.metrics.catalog import Metric

PANEL_WIDTH, PANEL_HEIGHT, ROW_WIDTH = 8, 8, 24
"""Grafana's units; a row of the dashboard has 24 columns."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """A time series: its title, its unit in Grafana, and its queries by their legends."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]


def _rate(metric: Metric, *labels: str) -> tuple[str, str]:
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    query = f"sum by ({', '.join(labels)}) (rate({metric.full_name}[$__rate_interval]))"
    return legend, query


def _quantile(metric: Metric, quantile: float) -> tuple[str, str]:
    buckets = f"sum by (step, le) (rate({metric.full_name}_bucket[$__rate_interval]))"
    return f"{{{{step}}}} p{quantile * 100:g}", f"histogram_quantile({quantile}, {buckets})"


PANELS = (
    Panel(
        "Parts that answer",
        "bool_yes_no",
        [
            ("database", Metric.DATABASE_UP.full_name),
            ("broker", Metric.BROKER_UP.full_name),
        ],
    ),
    Panel("Workers by queue", "short", [("{{queue}}", Metric.QUEUE_WORKERS.full_name)]),
    Panel("Free disk space", "bytes", [("{{path}}", Metric.DISK_FREE.full_name)]),
    Panel("Transitions per second", "cps", [_rate(Metric.TRANSITIONS, "status")]),
    Panel(
        "Messages Not Sent per second, by reason",
        "cps",
        [
            (
                "{{reason}}",
                f"sum by (reason) (rate({Metric.TRANSITIONS.full_name}"
                '{status="not_sent"}[$__rate_interval]))',
            )
        ],
    ),
    Panel(
        "Messages by status",
        "short",
        [("{{status}}", f"sum by (status) ({Metric.MESSAGES.full_name})")],
    ),
    Panel("Tasks by queue", "short", [("{{queue}} {{state}}", Metric.QUEUE_TASKS.full_name)]),
    Panel("Time that tasks wait", "s", [_quantile(Metric.WAIT_SECONDS, 0.95)]),
    Panel("Time that steps take", "s", [_quantile(Metric.STEP_SECONDS, 0.95)]),
    Panel("Oldest message of a stage", "s", [("{{stage}}", Metric.OLDEST_MESSAGE.full_name)]),
    Panel(
        "Stalled batches",
        "short",
        [("{{campaign}} {{run}}", f"{Metric.STALLED_BATCHES.full_name} > 0")],
    ),
    Panel(
        "Failed steps per second",
        "cps",
        [_rate(Metric.FAILED_STEPS, "step")],
    ),
    Panel("Gateway calls per second", "cps", [_rate(Metric.GATEWAY_CALLS, "gateway", "method")]),
    Panel(
        "Gateway trouble per second",
        "cps",
        [
            ("{{gateway}} unavailable", _rate(Metric.GATEWAY_UNAVAILABLE, "gateway")[1]),
            ("{{gateway}} refusals", _rate(Metric.GATEWAY_REFUSALS, "gateway")[1]),
        ],
    ),
    Panel("Receipts per second", "cps", [_rate(Metric.RECEIPTS, "verdict")]),
    Panel("Time of rules, per second", "s", [_rate(Metric.CHECK_SECONDS, "check")]),
)


def grafana_dashboard() -> str:
    """Return docs/grafana/sendtrace.json."""
    dashboard = {
        "uid": "sendtrace",
        "title": "sendtrace",
        "description": "Generated from the metrics by `make docs`; see docs/metrics.md.",
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_make_panels()),
    }
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _make_panels() -> Iterator[dict[str, object]]:
    per_row = ROW_WIDTH // PANEL_WIDTH
    for number, panel in enumerate(PANELS):
        row, column = divmod(number, per_row)
        yield {
            "id": number + 1,
            "title": panel.title,
            "type": "timeseries",
            "datasource": DATASOURCE,
            "gridPos": {
                "x": column * PANEL_WIDTH,
                "y": row * PANEL_HEIGHT,
                "w": PANEL_WIDTH,
                "h": PANEL_HEIGHT,
            },
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": DATASOURCE,
                    "expr": query,
                    "legendFormat": legend,
                }
                for index, (legend, query) in enumerate(panel.queries)
            ],
        }
