"""The figures of a run: everything in its result that is one number, by name.

Thresholds are set on them, runs are compared by them, and ``summary.json`` has them all. A figure
of one campaign bears its name in front: ``diwali-email.delivered.share``.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from tracker.queries.latencies import DRIVER_LAG, SPANS, Latencies
from tracker.queries.report import Report
from tracker.status import Category, Reason, ReceiptVerdict, Step
from workers.queues import QUEUES

Figures = Mapping[str, float | None]
"""By name. None is what there is no value of, such as a latency that no message had."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


class Unit(StrEnum):
    """What a figure counts. Seconds are of the run's own time but for those of whole runs."""

    MESSAGES = "messages"
    SHARE = "share"
    RATE = "messages/s"
    SECONDS = "s"
    TIMES = "times"
    TASKS = "tasks"
    CORES = "cores"
    BYTES = "bytes"


MESSAGE_TOTAL = "messages"

MESSAGE_COUNTS = (
    *(MESSAGE_TOTAL, "sent", "delivered", "bounced", "bounced.hard", "bounced.soft"),
    *("not_delivered", "in_gateway", "opened", "clicked", "spam", "unsubscribed", "not_sent"),
    *(f"not_sent.{category}" for category in Category),
    *(f"not_sent.{reason.category}.{reason.slug}" for reason in Reason),
    *("in_progress", "in_progress.queued", "in_progress.about_to_be_sent"),
)
"""Figures that count messages, of a campaign or of all."""

_LEDGER_COUNTS = ("repeats", "refused", "refused_calls")

GATEWAY_COUNTS = (
    *_LEDGER_COUNTS,
    *(verdict.value for verdict in ReceiptVerdict),
    *("lost", "late_bounce"),
)
"""Figures below ``gateway``: how often something went wrong there."""

LEDGER_FIGURES = frozenset(f"gateway.{name}" for name in _LEDGER_COUNTS)
"""Those that the gateway keeps itself: they never become less."""

THROUGHPUT, RUN_SECONDS = "throughput", "seconds"

WORKERS_CPU, WORKERS_MEMORY = "workers.cpu", "workers.memory"
"""What the workers use at most. They are known of our own workers only."""

TIMED_STEPS = tuple(step for step in Step if step is not Step.ENQUEUE)


def list_figure_units(campaigns: Sequence[str]) -> dict[str, Unit]:
    """Every figure that a run of these campaigns has, in order, with its unit."""
    of_all = dict(_common_units())
    found = {RUN_SECONDS: Unit.SECONDS, **of_all}
    found |= {f"gateway.{name}": Unit.TIMES for name in GATEWAY_COUNTS}
    for step in TIMED_STEPS:
        found |= {f"steps.{step}.tasks": Unit.TASKS, f"steps.{step}.seconds": Unit.SECONDS}
        for part in ("waiting", "service"):
            found |= {f"steps.{step}.{part}.{name}": Unit.SECONDS for name in PERCENTILES}
    for queue in QUEUES:
        found |= {f"queues.{queue}.ready": Unit.TASKS, f"queues.{queue}.unacked": Unit.TASKS}
    found |= {WORKERS_CPU: Unit.CORES, WORKERS_MEMORY: Unit.BYTES}
    for campaign in campaigns:
        found |= {f"{campaign}.{name}": unit for name, unit in of_all.items()}
    return found


def _common_units() -> Iterator[tuple[str, Unit]]:
    """Figures that a run has and each of its campaigns has, too."""
    yield THROUGHPUT, Unit.RATE
    for name in MESSAGE_COUNTS:
        yield name, Unit.MESSAGES
        if name != MESSAGE_TOTAL:
            yield f"{name}.share", Unit.SHARE
    for span in SPANS:
        for name in PERCENTILES:
            yield f"{span.name}.{name}", Unit.SECONDS


RESERVED_NAMES = frozenset(name.split(".")[0] for name in list_figure_units(()))
"""Names that no campaign may have, as its figures could be taken for others."""


def count_messages(reports: Sequence[Report]) -> dict[str, int]:
    """The figures of :data:`MESSAGE_COUNTS` of campaigns together."""
    found = dict.fromkeys(MESSAGE_COUNTS, 0)
    for report in reports:
        for name, count in _flatten_counts(report.as_json()):
            if name in found:
                found[name] += count
    found[MESSAGE_TOTAL] = sum(report.audience for report in reports)
    return found


def _flatten_counts(value: Mapping[str, object], above: str = "") -> Iterator[tuple[str, int]]:
    for key, inner in value.items():
        name = above + key
        if isinstance(inner, dict):
            # What was sent is what most figures are about, and goes without saying.
            yield from _flatten_counts(inner, "" if name == "sent" else f"{name}.")
            yield name, inner["total"]
        elif isinstance(inner, int):
            yield name, inner


def add_shares(found: Mapping[str, int]) -> Iterator[tuple[str, float | None]]:
    """Counts, and each as a share of all messages."""
    total = found[MESSAGE_TOTAL]
    for name, count in found.items():
        yield name, count
        if name != MESSAGE_TOTAL:
            yield f"{name}.share", count / total if total else None


def percentile_figures(name: str, latencies: Latencies) -> Iterator[tuple[str, float | None]]:
    """The percentiles of latencies, as figures below ``name``."""
    for figure, percent in PERCENTILES.items():
        yield f"{name}.{figure}", latencies.percentile(percent)


LATENCY_SPANS = frozenset(span.name for span in SPANS) - {DRIVER_LAG.name}
"""Spans that messages go through; the lag is the driver's."""


def split_figure_name(figure: str, campaigns: Sequence[str]) -> tuple[str | None, str]:
    """The campaign that a figure is of, None for a figure of the whole run, and its name there."""
    for campaign in campaigns:
        name = figure.removeprefix(f"{campaign}.")
        if name != figure and name in COMMON_FIGURES:
            return campaign, name
    return None, figure


COMMON_FIGURES = frozenset(dict(_common_units()))


def is_known_early(figure: str, campaigns: Sequence[str]) -> bool:
    """Whether anything is known of a figure before the end of a run: see simulator.run.abort."""
    _, name = split_figure_name(figure, campaigns)
    span, _, percentile = name.partition(".")
    return (
        name.removesuffix(".share") in MESSAGE_COUNTS
        or name in (RUN_SECONDS, *LEDGER_FIGURES)
        or (span in LATENCY_SPANS and percentile in PERCENTILES)
    )


def format_figure(value: float | None, unit: Unit) -> str:
    """A figure with its unit; a dash where there is none."""
    if value is None:
        return "-"
    match unit:
        case Unit.SECONDS:
            return f"{value:.3f} s" if value < COARSE_SECONDS else f"{value:,.1f} s"
        case Unit.SHARE:
            return f"{100 * value:.2f} %"
        case Unit.RATE:
            return f"{value:,.0f}/s" if value >= COARSE_RATE else f"{value:,.1f}/s"
        case Unit.BYTES:
            return f"{value / 1e6:,.0f} MB"
        case Unit.CORES:
            return f"{value:.2f} cores"
        case _:
            # A median of several runs may lie between two of them.
            return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


COARSE_SECONDS, COARSE_RATE = 100, 1_000
"""From here on nobody minds the milliseconds, and the tenths."""
