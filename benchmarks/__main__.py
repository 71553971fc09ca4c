"""Measure the pipeline against its floor: ``python -m benchmarks``.

Everything in one run, on each kind of database. A pipeline and its floor take turns, so that
whatever else slows the machine slows both. A time that was missed is no error.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import (
    floor,
    judging,
    pipeline,
    receipts,
    reports,
    results,
    rollups,
    table,
    viewers,
)
from benchmarks.databases import KINDS, Kind, settings_of, start
from benchmarks.table import Line
from simulator import environment
from simulator.commands import DEFAULT_BATCH_SIZE
from simulator.run import open_database
from tracker.settings import load_settings

WORKERS = 2
"""Worker processes."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many messages each measurement is made with."""

    pipeline: int
    single: int
    reports: tuple[int, int]
    rollups: tuple[tuple[int, int], ...]
    """Events that are new, and that are old."""
    receipts: int


FULL = Sizes(
    pipeline=200_000,
    single=2_000,
    reports=(100_000, 1_000_000),
    rollups=((1_000_000, 1_000_000), (1_000_000, 10_000_000)),
    receipts=1_000_000,
)
QUICK = Sizes(
    pipeline=20_000,
    single=100,
    reports=(10_000, 50_000),
    rollups=((50_000, 50_000), (50_000, 500_000)),
    receipts=50_000,
)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Messages a second: through the pipeline, the same without a recorded result, with people at
    its live page, without a sweep, and written plainly."""

    pipeline: float
    unrecorded: float
    watched: float
    unswept: float
    floor: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All that was measured on a kind of database."""

    database: str
    settings: dict[str, str]
    rounds: list[Round]
    single: pipeline.Measured
    reports: list[reports.Timed]
    judging: judging.Timed
    rollups: list[rollups.Timed]
    receipts: receipts.Timed
    largest: pipeline.Measured
    result: results.Timed
    waited: viewers.Waited
    undisturbed: pipeline.Measured
    flushed: pipeline.Measured
    """The same run, with a broker that forgets everything in the middle of it."""
    went_on_after: float | None

    @property
    def lines(self) -> list[Line]:
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
            table.throughput_line(name, "pipeline ÷ floor", ours, plain, table.WANTED_OF_FLOOR),
            table.throughput_line(
                name, "pipeline ÷ without recording", ours, bare, table.WANTED_OF_UNRECORDED
            ),
            table.throughput_line(
                name,
                f"pipeline with {viewers.VIEWERS} viewers ÷ without",
                watched,
                ours,
                table.WANTED_OF_UNWATCHED,
            ),
            table.throughput_line(
                name, "pipeline ÷ without sweep", ours, unswept, table.WANTED_OF_UNSWEPT
            ),
            table.flush_line(
                name, self.flushed.command, self.undisturbed.command, self.went_on_after
            ),
            table.answer_line(name, size, self.waited.address, self.waited.seconds),
            table.throughput_line(
                name, "pipeline ÷ per message", ours, single, table.WANTED_OF_SINGLE
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
                table.WANTED_OF_LOADING,
            ),
            table.report_line(name, small.messages, small.report, small.group_by, None),
            table.report_line(
                name, large.messages, large.report, large.group_by, table.WANTED_OF_GROUP_BY
            ),
            table.throughput_line(
                name,
                f"receipts ÷ moves, {self.receipts.messages:,}",
                self.receipts.applied,
                self.receipts.floor,
                table.WANTED_OF_MOVES,
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


class Bench:
    """The measurements on one kind of database, one after the other."""

    def __init__(self, kind: Kind, folder: Path, sizes: Sizes) -> None:
        self._kind = kind
        self._folder = folder
        self._sizes = sizes

    def measure(self, rounds: int) -> Figures:
        with self._kind.fresh() as url:
            settings = settings_of(url)
        taken = [self._round(f"round {number} of {rounds}") for number in range(1, rounds + 1)]
        with self._kind.fresh() as url:
            single = self._run(url, self._sizes.single, 1)
        self._say(f"per message: {single.throughput:,.0f}/s")
        with self._kind.fresh() as url:
            undisturbed = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE)
        middle = f'{{ at = "{undisturbed.seconds / 2:.1f}s", flush = "broker" }}'
        with self._kind.fresh() as url:
            flushed = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, faults=middle)
            went_on_after = pipeline.went_on_after(url, flushed)
        self._say(
            f"broker flushed at {undisturbed.seconds / 2:.1f} s: {flushed.seconds:.1f} s instead of"
            f" {undisturbed.seconds:.1f} s"
        )
        timed = list[reports.Timed]()
        judged, largest, result, waited = None, None, None, None
        for size in self._sizes.reports:
            with self._kind.fresh() as url:
                largest = self._run(url, size, DEFAULT_BATCH_SIZE, watched=True)
                timed.append(reports.time_report(url))
                judged = judged or judging.time_judging(url, size)
                result = results.time_result(url, largest.scenario)
                waited = viewers.time_pages(url, self._folder, size)
            self._say(
                f"{size:,} messages: report {timed[-1].report * 1e3:.2f} ms,"
                f" GROUP BY {timed[-1].group_by * 1e3:.2f} ms"
            )
        assert judged is not None
        assert largest is not None
        assert result is not None
        assert waited is not None
        return Figures(
            database=self._kind.name,
            settings=settings,
            rounds=taken,
            single=single,
            reports=timed,
            judging=judged,
            rollups=[self._roll_up(new, old) for new, old in self._sizes.rollups],
            receipts=self._receipts(),
            largest=largest,
            result=result,
            waited=waited,
            undisturbed=undisturbed,
            flushed=flushed,
            went_on_after=went_on_after,
        )

    def _roll_up(self, new: int, old: int) -> rollups.Timed:
        with self._kind.fresh() as url:
            timed = rollups.time_rollup(url, new, old)
        self._say(
            f"{new:,} new events, {old:,} old: rollup {timed.rollup * 1e3:.2f} ms,"
            f" GROUP BY {timed.group_by * 1e3:.2f} ms"
        )
        return timed

    def _receipts(self) -> receipts.Timed:
        with self._kind.fresh() as url:
            timed = receipts.time_receipts(url, self._folder, self._sizes.receipts)
        self._say(f"receipts: {timed.applied:,.0f}/s, moves: {timed.floor:,.0f}/s")
        return timed

    def _round(self, name: str) -> Round:
        with self._kind.fresh() as url:
            moved = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE)
            self._say(f"{name}: pipeline {moved.throughput:,.0f}/s")
            with closing(open_database(load_settings(database_url=url))) as database:
                rows = floor.left_behind(database, DEFAULT_BATCH_SIZE)
        with self._kind.fresh() as url:
            bare = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, recording=False)
            self._say(f"{name}: without recording {bare.throughput:,.0f}/s")
        with self._kind.fresh() as url:
            unswept = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, sweeping=False)
            self._say(f"{name}: without sweep {unswept.throughput:,.0f}/s")
        with (
            self._kind.fresh() as url,
            viewers.live_page(url, self._folder) as address,
            viewers.viewers(address),
        ):
            watched = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE)
            self._say(f"{name}: with viewers {watched.throughput:,.0f}/s")
        with (
            self._kind.fresh() as url,
            closing(open_database(load_settings(database_url=url))) as database,
        ):
            plain = self._sizes.pipeline / floor.write(database, rows)
            self._say(f"{name}: floor {plain:,.0f}/s, ratio {moved.throughput / plain:.2f}")
        return Round(
            pipeline=moved.throughput,
            unrecorded=bare.throughput,
            watched=watched.throughput,
            unswept=unswept.throughput,
            floor=plain,
        )

    def _run(
        self,
        url: str,
        size: int,
        batch_size: int,
        *,
        watched: bool = False,
        recording: bool = True,
        sweeping: bool = True,
        faults: str = "",
    ) -> pipeline.Measured:
        return pipeline.run(
            url,
            self._folder,
            messages=size,
            batch_size=batch_size,
            workers=WORKERS,
            watched=watched,
            recording=recording,
            sweeping=sweeping,
            faults=faults,
        )

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self._kind.name} {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the table, write the file."""
    options = _options()
    # Whoever ends us wants our server and our run ended too: the same way out as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sizes = QUICK if options.quick else FULL
    if options.messages:
        sizes = replace(sizes, pipeline=options.messages)
    began = time.monotonic()
    figures = list[Figures]()
    with tempfile.TemporaryDirectory(prefix="sendtrace-bench-") as name:
        folder = Path(name)
        described = environment.machine(folder) | environment.versions()
        for kind in [options.only] if options.only else KINDS:
            with start(kind, folder) as started:
                figures.append(Bench(started, folder, sizes).measure(options.rounds))
    seconds = time.monotonic() - began
    print(_as_text(figures, described, sizes, options.rounds, seconds))
    written = _as_json(figures, described, sizes, seconds)
    options.json.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    rounds, size = "of which medians are taken (3)", "through pipeline and floor (200,000)"
    parser.add_argument("--rounds", type=_count, metavar="N", default=3, help=rounds)
    parser.add_argument("--messages", type=_count, metavar="N", help=size)
    parser.add_argument("--only", choices=KINDS, help="measure on one kind of database")
    parser.add_argument("--json", type=Path, metavar="FILE", default=Path("bench.json"))
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return number


def _as_text(
    figures: Sequence[Figures],
    described: dict[str, str],
    sizes: Sizes,
    rounds: int,
    seconds: float,
) -> str:
    lines = [line for each in figures for line in each.lines]
    notes = [
        *(f"{each.database}: {_pairs(each.settings)}" for each in figures),
        f"machine: {_pairs(described)}",
        f"batch size {DEFAULT_BATCH_SIZE:,}, {WORKERS} worker processes; throughputs: medians of"
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
        f"viewers: {viewers.VIEWERS} streams of the campaign and its charts, taking turns with the"
        " pipeline; slowest page: of "
        f"{len(viewers.ADDRESSES)} pages and calls on the largest run, {viewers.CALLS} times each",
        f"report, GROUP BY: medians of {reports.TIMINGS} timings; memory: one run, each process's"
        " own peak, largest pool child",
        f"receipts: {receipts.DUPLICATES:.0%} twice; moves: the compare-and-set and the transitions"
        " alone; in turns, one process",
        f"rollup: {rollups.TIMINGS} timings each; a GROUP BY over the new events by kind and day;"
        f" recorded: {rollups.REPORTED} events at a time, one process",
        f"all of it took {seconds:.0f} s",
    ]
    if sizes != FULL:
        notes.append("not the full sizes: these figures say little")
    return "\n".join([table.as_text(lines), "", *notes])


def _pairs(said: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in said.items())


def _as_json(
    figures: Sequence[Figures], described: dict[str, str], sizes: Sizes, seconds: float
) -> dict[str, Any]:
    return {
        "version": 1,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": described,
        "workers": WORKERS,
        "batch_size": DEFAULT_BATCH_SIZE,
        "sizes": asdict(sizes),
        "databases": [
            {**asdict(each), "lines": [asdict(line) for line in each.lines]} for each in figures
        ],
    }


if __name__ == "__main__":
    try:
        main()
    except pipeline.RunFailed as failure:
        sys.exit(f"benchmarks: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
