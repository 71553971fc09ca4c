"""The figures as lines: both sides of each ratio, what was wanted, and whether it was reached."""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_RATIO_TO_FLOOR = 0.35
"""Pipeline ÷ floor: what moving messages may cost beside writing down where they ended."""

MIN_RATIO_TO_SINGLE = 100.0
"""Pipeline ÷ the same with a task a message."""

MIN_RATIO_TO_GROUP_BY = 10.0
"""Counting the messages ÷ the report, in seconds, on the largest run."""

MIN_RATIO_TO_LOADING = 1.0
"""Judging ÷ loading, in candidates a second: rules cost no more than looking people up."""

MIN_RATIO_TO_MOVES = 0.5
"""Receipts applied ÷ messages only moved, both a second."""

MIN_ROLLUP_RATIO = 0.5
"""Counting new events with a GROUP BY ÷ rolling them up, in seconds, however many are old."""

MIN_RATIO_TO_UNRECORDED = 0.95
"""Pipeline ÷ the same without recording its result."""

MIN_RATIO_TO_UNWATCHED = 0.95
"""Pipeline with viewers of its live page ÷ without."""

MIN_RATIO_TO_UNSWEPT = 0.97
"""What is left of the throughput without a sweep."""

MAX_FLUSH_RATIO = 1.5
"""Times as long as an undisturbed run takes one whose broker forgets everything, at the most."""

MAX_PAGE_SECONDS = 0.1
"""Seconds in which any page of the largest run is there, at the 95th percentile."""

MAX_RESULT_SHARE = 0.05
"""Figures and page of the largest run ÷ the command that ran it, in seconds."""

MAX_PROCESS_BYTES = 300e6
"""Bytes that the driver and each process of the worker stay under."""

HEADER = ("database", "measure", "figure", "beside", "ratio", "wanted", "")


@dataclass(frozen=True, kw_only=True)
class TableLine:
    """One line of the table. ``reached`` is None where nothing was wanted."""

    database: str
    measure: str
    figure: str
    beside: str = ""
    ratio: float | None = None
    wanted: str = ""
    reached: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        verdict = {None: "", True: "reached", False: "missed"}[self.reached]
        ratio = "" if self.ratio is None else f"{self.ratio:,.2f}"
        cells = (self.database, self.measure, self.figure, self.beside, ratio)
        return (*cells, self.wanted, verdict)


def throughput_line(
    database: str, measure: str, ours: float, theirs: float, wanted: float
) -> TableLine:
    """Two throughputs in messages a second, the one divided by the other."""
    return TableLine(
        database=database,
        measure=measure,
        figure=f"{ours:,.0f}/s",
        beside=f"{theirs:,.0f}/s",
        ratio=ours / theirs,
        wanted=f"≥ {wanted:g}",
        reached=ours / theirs >= wanted,
    )


def report_line(
    database: str, messages: int, report: float, group_by: float, wanted: float | None
) -> TableLine:
    """Two times in seconds: how many times faster the report is than counting."""
    ratio = group_by / report
    return TableLine(
        database=database,
        measure=f"GROUP BY ÷ report, {messages:,}",
        figure=f"{report * 1e3:,.2f} ms",
        beside=f"{group_by * 1e3:,.2f} ms",
        ratio=ratio,
        wanted="" if wanted is None else f"≥ {wanted:g}",
        reached=None if wanted is None else ratio >= wanted,
    )


def rollup_line(database: str, new: int, old: int, rollup: float, group_by: float) -> TableLine:
    """Two times in seconds: how many times faster the rollup is than counting the events."""
    return TableLine(
        database=database,
        measure=f"GROUP BY ÷ rollup, {new:,} new of {new + old:,}",
        figure=f"{rollup * 1e3:,.2f} ms",
        beside=f"{group_by * 1e3:,.2f} ms",
        ratio=group_by / rollup,
        wanted=f"≥ {MIN_ROLLUP_RATIO:g}",
        reached=group_by / rollup >= MIN_ROLLUP_RATIO,
    )


def result_line(
    database: str, messages: int, figures: float, page: float, command: float
) -> TableLine:
    """Times in seconds: what share of a run its figures and its page take, as who waits sees it."""
    share = (figures + page) / command
    return TableLine(
        database=database,
        measure=f"figures and page ÷ command, {messages:,}",
        figure=f"{figures:,.2f} + {page:,.2f} s",
        beside=f"{command:,.1f} s",
        ratio=share,
        wanted=f"< {MAX_RESULT_SHARE:g}",
        reached=share < MAX_RESULT_SHARE,
    )


def flush_line(
    database: str, flushed: float, undisturbed: float, went_on: float | None
) -> TableLine:
    """Times in seconds: a run whose broker was flushed, the same without, and when it went on."""
    after = "" if went_on is None else f", goes on after {went_on:.1f} s"
    return TableLine(
        database=database,
        measure="run with a broker that is flushed ÷ without",
        figure=f"{flushed:,.1f} s{after}",
        beside=f"{undisturbed:,.1f} s",
        ratio=flushed / undisturbed,
        wanted=f"≤ {MAX_FLUSH_RATIO:g}",
        reached=flushed / undisturbed <= MAX_FLUSH_RATIO,
    )


def answer_line(database: str, messages: int, address: str, seconds: float) -> TableLine:
    """How long the slowest page takes, in seconds."""
    return TableLine(
        database=database,
        measure=f"slowest page, p95, {messages:,}",
        figure=f"{seconds * 1e3:,.0f} ms",
        beside=address,
        wanted=f"< {MAX_PAGE_SECONDS * 1e3:.0f} ms",
        reached=seconds < MAX_PAGE_SECONDS,
    )


def recording_line(database: str, recorded: float) -> TableLine:
    """Events a second that one process records."""
    return TableLine(database=database, measure="events recorded", figure=f"{recorded:,.0f}/s")


def memory_line(
    database: str, role: str, messages: int, peak: int | None, *, limited: bool
) -> TableLine:
    """A peak in bytes, shown in MB of a million bytes; None: no such process was seen."""
    return TableLine(
        database=database,
        measure=f"peak memory {role}, {messages:,}",
        figure="not seen" if peak is None else f"{peak / 1e6:,.0f} MB",
        wanted=f"< {MAX_PROCESS_BYTES / 1e6:.0f} MB" if limited else "",
        reached=peak is not None and peak < MAX_PROCESS_BYTES if limited else None,
    )


def as_text(lines: Sequence[TableLine]) -> str:
    """The lines under their header, in columns."""
    rows = [HEADER, *(line.cells for line in lines)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 2 <= place <= 4 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
