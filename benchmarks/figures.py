"""All that was measured on a kind of database, and how it is said."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from benchmarks import judging, pipeline, receipts, reports, results, rollups, table, viewers
from benchmarks.table import TableLine
from simulator.cli.simulate import DEFAULT_BATCH_SIZE

WORKER_COUNT = 2
"""Worker processes."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSizes:
    """How many messages each measurement is made with."""

    pipeline: int
    single: int
    reports: tuple[int, int]
    rollups: tuple[tuple[int, int], ...]
    """Events that are new, and that are old."""
    receipts: int


FULL_SIZES = BenchmarkSizes(
    pipeline=200_000,
    single=2_000,
    reports=(100_000, 1_000_000),
    rollups=((1_000_000, 1_000_000), (1_000_000, 10_000_000)),
    receipts=1_000_000,
)
QUICK_SIZES = BenchmarkSizes(
    pipeline=20_000,
    single=100,
    reports=(10_000, 50_000),
    rollups=((50_000, 50_000), (50_000, 500_000)),
    receipts=50_000,
)


@dataclass(frozen=True, kw_only=True)
class RoundThroughputs:
    """Messages a second: through the pipeline, the same without a recorded result, with people at
    its live page, without a sweep, and written plainly."""

    pipeline: float
    unrecorded: float
    watched: float
    unswept: float
    floor: float


@dataclass(frozen=True, kw_only=True)
class DatabaseFigures:
    """All that was measured on a kind of database."""

    database: str
    settings: dict[str, str]
    rounds: list[RoundThroughputs]
    single: pipeline.PipelineMeasurement
    reports: list[reports.Timed]
    judging: judging.Timed
    rollups: list[rollups.Timed]
    receipts: receipts.Timed
    largest: pipeline.PipelineMeasurement
    result: results.Timed
    waited: viewers.SlowestPage
    undisturbed: pipeline.PipelineMeasurement
    flushed: pipeline.PipelineMeasurement
    """The same run, with a broker that forgets everything in the middle of it."""
    went_on_after: float | None

    @property
    def lines(self) -> list[TableLine]:
        ours = median(each.pipeline for each in self.rounds)
        plain = median(each.floor for each in self.rounds)
        bare = median(each.unrecorded for each in self.rounds)
        watched = median(each.watched for each in self.rounds)
        unswept = median(each.unswept for each in self.rounds)
        single = self.single.throughput
        small, large = self.reports
        size, peaks = self.largest.messages, self.largest.peaks
        name = self.database
        return [
            table.throughput_line(name, "pipeline ÷ floor", ours, plain, table.MIN_RATIO_TO_FLOOR),
            table.throughput_line(
                name, "pipeline ÷ without recording", ours, bare, table.MIN_RATIO_TO_UNRECORDED
            ),
            table.throughput_line(
                name,
                f"pipeline with {viewers.VIEWER_COUNT} viewers ÷ without",
                watched,
                ours,
                table.MIN_RATIO_TO_UNWATCHED,
            ),
            table.throughput_line(
                name, "pipeline ÷ without sweep", ours, unswept, table.MIN_RATIO_TO_UNSWEPT
            ),
            table.flush_line(
                name, self.flushed.command, self.undisturbed.command, self.went_on_after
            ),
            table.answer_line(name, size, self.waited.address, self.waited.seconds),
            table.throughput_line(
                name, "pipeline ÷ per message", ours, single, table.MIN_RATIO_TO_SINGLE
            ),
            table.result_line(
                name,
                self.result.messages,
                self.result.figures,
                self.result.page,
                self.largest.command,
            ),
            table.throughput_line(
                name,
                "judging ÷ loading candidates",
                self.judging.judged,
                self.judging.loaded,
                table.MIN_RATIO_TO_LOADING,
            ),
            table.report_line(name, small.messages, small.report, small.group_by, None),
            table.report_line(
                name, large.messages, large.report, large.group_by, table.MIN_RATIO_TO_GROUP_BY
            ),
            table.throughput_line(
                name,
                f"receipts ÷ moves, {self.receipts.messages:,}",
                self.receipts.applied,
                self.receipts.floor,
                table.MIN_RATIO_TO_MOVES,
            ),
            *(
                table.rollup_line(name, each.new, each.old, each.rollup, each.group_by)
                for each in self.rollups
            ),
            table.recording_line(name, self.rollups[0].recorded),
            *(
                table.memory_line(name, role, size, peaks.get(role), limited=role != "broker")
                for role in ("driver", "worker", "pool child", "broker")
            ),
        ]


def as_text(
    figures: Sequence[DatabaseFigures],
    described: dict[str, str],
    sizes: BenchmarkSizes,
    rounds: int,
    seconds: float,
) -> str:
    lines = [line for each in figures for line in each.lines]
    notes = [
        *(f"{each.database}: {_format_pairs(each.settings)}" for each in figures),
        f"machine: {_format_pairs(described)}",
        f"batch size {DEFAULT_BATCH_SIZE:,}, {WORKER_COUNT} worker processes; throughputs: medians of"
        f" {rounds} interleaved rounds",
        f"pipeline: {sizes.pipeline:,} email messages, no defects, gateway latency 0; timed by its"
        " rows, from the first",
        "  to the last message settled; the workers are ready before, the customers recorded",
        "floor: one process writes the same run's messages and transitions, one batch a"
        " transaction",
        f"per message: the same pipeline, batch size 1, {sizes.single:,} messages, one run",
        f"judging, loading: {figures[0].judging.candidates:,} candidates of a campaign for which"
        " every check has something to look at, both steps, one process",
        "without recording: --no-record, taking turns with the pipeline; figures and page: exact"
        " percentiles of the largest run and its report.html, in a process that has drawn nothing;",
        "  command: all of `sendtrace simulate`, from its start to its end",
        "without sweep: --no-sweep, taking turns with the pipeline; flushed: half-way, whole"
        " commands",
        f"viewers: {viewers.VIEWER_COUNT} streams of the campaign and its charts, taking turns with the"
        " pipeline; slowest page: of "
        f"{len(viewers.PAGE_PATHS)} pages and calls on the largest run, {viewers.CALLS_PER_PATH} times each",
        f"report, GROUP BY: medians of {reports.TIMING_COUNT} timings; memory: one run, each process's"
        " own peak, largest pool child",
        f"receipts: {receipts.DUPLICATE_SHARE:.0%} twice; moves: the compare-and-set and the transitions"
        " alone; in turns, one process",
        f"rollup: {rollups.TIMING_COUNT} timings each; a GROUP BY over the new events by kind and day;"
        f" recorded: {rollups.EVENTS_PER_ENTRY} events at a time, one process",
        f"all of it took {seconds:.0f} s",
    ]
    if sizes != FULL_SIZES:
        notes.append("not the full sizes: these figures say little")
    return "\n".join([table.as_text(lines), "", *notes])


def _format_pairs(said: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in said.items())


def as_json(
    figures: Sequence[DatabaseFigures],
    described: dict[str, str],
    sizes: BenchmarkSizes,
    seconds: float,
) -> dict[str, Any]:
    return {
        "version": 1,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": described,
        "workers": WORKER_COUNT,
        "batch_size": DEFAULT_BATCH_SIZE,
        "sizes": asdict(sizes),
        "databases": [
            {**asdict(each), "lines": [asdict(line) for line in each.lines]} for each in figures
        ],
    }
