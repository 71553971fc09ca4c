"""Figures: the numbers in the result of a run, by name.

Thresholds refer to them, comparisons go through them, and `summary.json` has them all. The name of
a campaign's figure begins with the campaign: `diwali-email.delivered.share`.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from simulator.audience.problems import Duplicate, MobileProblem, Problem, RejectCause, Repair
from tracker.queries.durations.latencies import DRIVER_LAG, SPANS, Latencies
from tracker.queries.report import Report
from tracker.status import Category, Reason, ReceiptVerdict, Step
from workers.queues import QUEUES

Figures = Mapping[str, float | None]
"""By name; None for a figure without a value, such as a latency that no message had."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


class Unit(StrEnum):
    """The unit of a figure.

    Latencies are on the run's clock. Durations of steps and runs are in real time.
    """

    MESSAGES = "messages"
    SHARE = "share"
    RATE = "messages/s"
    SECONDS = "s"
    TIMES = "times"
    TASKS = "tasks"
    CORES = "cores"
    ROWS = "rows"
    BYTES = "bytes"


MESSAGE_TOTAL = "messages"

MESSAGE_COUNTS = (
    MESSAGE_TOTAL, "sent", "delivered", "bounced", "bounced.hard", "bounced.soft", "not_delivered",
    "in_gateway", "opened", "clicked", "spam", "unsubscribed", "not_sent",
    *(f"not_sent.{category}" for category in Category),
    *(f"not_sent.{reason.category}.{reason.slug}" for reason in Reason),
    "in_progress", "in_progress.queued", "in_progress.about_to_be_sent",
)  # fmt: skip

_LEDGER_COUNTS = ("repeats", "refused", "refused_calls")

GATEWAY_COUNTS = (
    *_LEDGER_COUNTS,
    *(verdict.value for verdict in ReceiptVerdict),
    "lost",
    "late_bounce",
)
"""Figures below `gateway`: anomalies."""

LEDGER_FIGURES = frozenset(f"gateway.{name}" for name in _LEDGER_COUNTS)
"""Figures that the gateway's ledger counts; they never decrease."""

REJECTS, REPAIRS, UNUSABLE_MOBILES = "rejects", "repairs", "unusable_mobiles"
DUPLICATES = "duplicates"
"""Figures of the audience files of a run, and what their problems are named below."""

IMPORT_FIGURES: Mapping[str, tuple[Problem, ...]] = MappingProxyType(
    {
        name: problems
        for group, members in (
            (REJECTS, tuple(RejectCause)),
            (REPAIRS, tuple(Repair)),
            (UNUSABLE_MOBILES, tuple(MobileProblem)),
            (DUPLICATES, tuple(Duplicate)),
        )
        for name, problems in (
            (group, members),
            *((f"{group}.{problem}", (problem,)) for problem in members),
        )
    }
)
"""Figures that are known once the audience files are read, with the problems that they count."""

REJECTS_SHARE = f"{REJECTS}.share"

COARSE_SECONDS, COARSE_RATE = 100, 1_000
"""Values from which the milliseconds, or the tenths, are left out."""

THROUGHPUT, RUN_SECONDS = "throughput", "seconds"

WORKERS_CPU, WORKERS_MEMORY = "workers.cpu", "workers.memory"
"""Largest usage of the workers; without a value for attached workers."""

SAMPLED_SUBJECTS = frozenset({"queues", "workers"})
"""Subjects of the figures that the driver samples; the record doesn't have them."""

TIMED_STEPS = tuple(step for step in Step if step is not Step.ENQUEUE)


def list_figure_units(campaigns: Sequence[str]) -> dict[str, Unit]:
    """Return every figure of a run with these campaigns, in order, with its unit."""
    common = dict(_common_units())
    units = {RUN_SECONDS: Unit.SECONDS, **common}
    units |= dict.fromkeys(IMPORT_FIGURES, Unit.ROWS) | {REJECTS_SHARE: Unit.SHARE}
    units |= {f"gateway.{name}": Unit.TIMES for name in GATEWAY_COUNTS}
    for step in TIMED_STEPS:
        units |= {f"steps.{step}.tasks": Unit.TASKS, f"steps.{step}.seconds": Unit.SECONDS}
        for part in ("waiting", "service"):
            units |= {f"steps.{step}.{part}.{name}": Unit.SECONDS for name in PERCENTILES}
    for queue in QUEUES:
        units |= {f"queues.{queue}.ready": Unit.TASKS, f"queues.{queue}.unacked": Unit.TASKS}
    units |= {WORKERS_CPU: Unit.CORES, WORKERS_MEMORY: Unit.BYTES}
    for campaign in campaigns:
        units |= {f"{campaign}.{name}": unit for name, unit in common.items()}
    return units


def _common_units() -> Iterator[tuple[str, Unit]]:
    """Yield the figures that both a run and each of its campaigns have."""
    yield THROUGHPUT, Unit.RATE
    for name in MESSAGE_COUNTS:
        yield name, Unit.MESSAGES
        if name != MESSAGE_TOTAL:
            yield f"{name}.share", Unit.SHARE
    for span in SPANS:
        for name in PERCENTILES:
            yield f"{span.name}.{name}", Unit.SECONDS


COMMON_FIGURES = frozenset(dict(_common_units()))

RESERVED_NAMES = frozenset(name.split(".")[0] for name in list_figure_units(()))
"""Names that no campaign may have: its figures would be ambiguous."""


def count_messages(reports: Sequence[Report]) -> dict[str, int]:
    """Return the figures of MESSAGE_COUNTS for several campaigns together."""
    counts = dict.fromkeys(MESSAGE_COUNTS, 0)
    for report in reports:
        for name, count in _flatten_counts(report.as_json()):
            if name in counts:
                counts[name] += count
    counts[MESSAGE_TOTAL] = sum(report.recorded for report in reports)
    return counts


def _flatten_counts(value: Mapping[str, object], above: str = "") -> Iterator[tuple[str, int]]:
    for key, inner in value.items():
        name = above + key
        if isinstance(inner, dict):
            # The figures below `sent` have no prefix.
            yield from _flatten_counts(inner, "" if name == "sent" else f"{name}.")
            if "total" in inner:
                yield name, inner["total"]
        elif isinstance(inner, int):
            yield name, inner


def count_import_problems(
    rows: int, problems: Mapping[Problem, int]
) -> Iterator[tuple[str, float | None]]:
    """Yield the figures of audience files, from the counts of their rows and problems."""
    for name, members in IMPORT_FIGURES.items():
        yield name, sum(problems.get(problem, 0) for problem in members)
    rejects = sum(problems.get(cause, 0) for cause in RejectCause)
    yield REJECTS_SHARE, rejects / rows if rows else None


def add_shares(counts: Mapping[str, int]) -> Iterator[tuple[str, float | None]]:
    """Yield counts, each followed by its share of all messages."""
    total = counts[MESSAGE_TOTAL]
    for name, count in counts.items():
        yield name, count
        if name != MESSAGE_TOTAL:
            yield f"{name}.share", count / total if total else None


def percentile_figures(name: str, latencies: Latencies) -> Iterator[tuple[str, float | None]]:
    """Yield the percentiles of latencies as figures below a name."""
    for figure, percent in PERCENTILES.items():
        yield f"{name}.{figure}", latencies.percentile(percent)


LATENCIES = "latencies"
"""Name of the figures of all spans together."""

CLOCK_GROUPS = (THROUGHPUT, LATENCIES, RUN_SECONDS, "steps")
"""Groups of figures that are computed from times on the run's clock."""

SPAN_NAMES = frozenset(span.name for span in SPANS)

LATENCY_SPANS = SPAN_NAMES - {DRIVER_LAG.name}
"""Spans of messages; DRIVER_LAG is one of the driver."""


def split_figure_name(figure: str, campaigns: Sequence[str]) -> tuple[str | None, str]:
    """Return the campaign of a figure, or None for one of the run, and the name without it."""
    for campaign in campaigns:
        name = figure.removeprefix(f"{campaign}.")
        if name != figure and name in COMMON_FIGURES:
            return campaign, name
    return None, figure


def is_known_early(figure: str, campaigns: Sequence[str]) -> bool:
    """Return whether the abort check knows the range of a figure before the end of a run."""
    _, name = split_figure_name(figure, campaigns)
    span, _, percentile = name.partition(".")
    return (
        name.removesuffix(".share") in MESSAGE_COUNTS
        or name in (RUN_SECONDS, *LEDGER_FIGURES, *IMPORT_FIGURES, REJECTS_SHARE)
        or (span in LATENCY_SPANS and percentile in PERCENTILES)
    )


def is_sampled(figure: str) -> bool:
    """Return whether a figure comes from the driver's samples of queues and workers."""
    return figure.split(".")[0] in SAMPLED_SUBJECTS


def find_speed_group(figure: str, campaigns: Sequence[str]) -> str | None:
    """Return the group of speed figures that a figure belongs to, or None.

    Samples count as speed figures, since a pause of the run distorts them as well.
    """
    _, name = split_figure_name(figure, campaigns)
    subject = name.split(".")[0]
    if subject in SPAN_NAMES:
        return LATENCIES
    if subject in SAMPLED_SUBJECTS or (subject in CLOCK_GROUPS and not name.endswith(".tasks")):
        return subject
    return None


def format_figure(value: float | None, unit: Unit) -> str:
    """Return a value with its unit, or a dash for None."""
    if value is None:
        return "-"
    match unit:
        case Unit.SECONDS:
            return f"{value:.3f} s" if value < COARSE_SECONDS else f"{value:,.1f} s"
        case Unit.SHARE:
            return f"{100 * value:.2f} %"
        case Unit.RATE:
            digits = 0 if value >= COARSE_RATE else 1 if value >= 1 else 3
            return f"{value:,.{digits}f}/s"
        case Unit.BYTES:
            return f"{value / 1e6:,.0f} MB"
        case Unit.CORES:
            return f"{value:.2f} cores"
        case _:
            # The median of an even number of runs may not be a whole number.
            return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
