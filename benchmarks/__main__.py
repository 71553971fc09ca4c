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
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks import floor, judging, pipeline, receipts, reports, results, rollups, viewers
from benchmarks.databases import DATABASE_KINDS, DatabaseKind, read_durability, start_database
from benchmarks.figures import (
    FULL_SIZES,
    QUICK_SIZES,
    WORKER_COUNT,
    BenchmarkSizes,
    DatabaseFigures,
    RoundThroughputs,
    as_json,
    as_text,
)
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.run import environment
from simulator.schema import open_database
from tracker.settings import load_settings


class Benchmark:
    """The measurements on one kind of database, one after the other."""

    def __init__(self, kind: DatabaseKind, folder: Path, sizes: BenchmarkSizes) -> None:
        self._kind = kind
        self._folder = folder
        self._sizes = sizes

    def measure(self, rounds: int) -> DatabaseFigures:
        with self._kind.fresh() as url:
            settings = read_durability(url)
        taken = [
            self._measure_round(f"round {number} of {rounds}") for number in range(1, rounds + 1)
        ]
        with self._kind.fresh() as url:
            single = self._run_pipeline(url, self._sizes.single, 1)
        self._print_progress(f"per message: {single.throughput:,.0f}/s")
        with self._kind.fresh() as url:
            undisturbed = self._run_pipeline(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE)
        middle = f'{{ at = "{undisturbed.seconds / 2:.1f}s", flush = "broker" }}'
        with self._kind.fresh() as url:
            flushed = self._run_pipeline(
                url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, faults=middle
            )
            went_on_after = pipeline.went_on_after(url, flushed)
        self._print_progress(
            f"broker flushed at {undisturbed.seconds / 2:.1f} s: {flushed.seconds:.1f} s instead of"
            f" {undisturbed.seconds:.1f} s"
        )
        timed = list[reports.Timed]()
        judged, largest, result, waited = None, None, None, None
        for size in self._sizes.reports:
            with self._kind.fresh() as url:
                largest = self._run_pipeline(url, size, DEFAULT_BATCH_SIZE, watched=True)
                timed.append(reports.time_report(url))
                judged = judged or judging.time_judging(url, size)
                result = results.time_result(url, largest.scenario)
                waited = viewers.time_pages(url, self._folder, size)
            self._print_progress(
                f"{size:,} messages: report {timed[-1].report * 1e3:.2f} ms,"
                f" GROUP BY {timed[-1].group_by * 1e3:.2f} ms"
            )
        assert judged is not None
        assert largest is not None
        assert result is not None
        assert waited is not None
        return DatabaseFigures(
            database=self._kind.name,
            settings=settings,
            rounds=taken,
            single=single,
            reports=timed,
            judging=judged,
            rollups=[self._time_rollup(new, old) for new, old in self._sizes.rollups],
            receipts=self._time_receipts(),
            largest=largest,
            result=result,
            waited=waited,
            undisturbed=undisturbed,
            flushed=flushed,
            went_on_after=went_on_after,
        )

    def _time_rollup(self, new: int, old: int) -> rollups.Timed:
        with self._kind.fresh() as url:
            timed = rollups.time_rollup(url, new, old)
        self._print_progress(
            f"{new:,} new events, {old:,} old: rollup {timed.rollup * 1e3:.2f} ms,"
            f" GROUP BY {timed.group_by * 1e3:.2f} ms"
        )
        return timed

    def _time_receipts(self) -> receipts.Timed:
        with self._kind.fresh() as url:
            timed = receipts.time_receipts(url, self._folder, self._sizes.receipts)
        self._print_progress(f"receipts: {timed.applied:,.0f}/s, moves: {timed.floor:,.0f}/s")
        return timed

    def _measure_round(self, name: str) -> RoundThroughputs:
        with self._kind.fresh() as url:
            moved = self._run_pipeline(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE)
            self._print_progress(f"{name}: pipeline {moved.throughput:,.0f}/s")
            with closing(open_database(load_settings(database_url=url))) as database:
                rows = floor.read_rows(database, DEFAULT_BATCH_SIZE)
        with self._kind.fresh() as url:
            bare = self._run_pipeline(
                url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, should_record=False
            )
            self._print_progress(f"{name}: without recording {bare.throughput:,.0f}/s")
        with self._kind.fresh() as url:
            unswept = self._run_pipeline(
                url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, should_sweep=False
            )
            self._print_progress(f"{name}: without sweep {unswept.throughput:,.0f}/s")
        with (
            self._kind.fresh() as url,
            viewers.serve_live_page(url, self._folder) as address,
            viewers.viewers(address),
        ):
            watched = self._run_pipeline(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE)
            self._print_progress(f"{name}: with viewers {watched.throughput:,.0f}/s")
        with (
            self._kind.fresh() as url,
            closing(open_database(load_settings(database_url=url))) as database,
        ):
            plain = self._sizes.pipeline / floor.write(database, rows)
            self._print_progress(
                f"{name}: floor {plain:,.0f}/s, ratio {moved.throughput / plain:.2f}"
            )
        return RoundThroughputs(
            pipeline=moved.throughput,
            unrecorded=bare.throughput,
            watched=watched.throughput,
            unswept=unswept.throughput,
            floor=plain,
        )

    def _run_pipeline(
        self,
        url: str,
        size: int,
        batch_size: int,
        *,
        watched: bool = False,
        should_record: bool = True,
        should_sweep: bool = True,
        faults: str = "",
    ) -> pipeline.PipelineMeasurement:
        return pipeline.run(
            url,
            self._folder,
            messages=size,
            batch_size=batch_size,
            workers=WORKER_COUNT,
            watched=watched,
            should_record=should_record,
            should_sweep=should_sweep,
            faults=faults,
        )

    def _print_progress(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self._kind.name} {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the table, write the file."""
    options = _parse_options()
    # Whoever ends us wants our server and our run ended too: the same way out as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sizes = QUICK_SIZES if options.quick else FULL_SIZES
    if options.messages:
        sizes = replace(sizes, pipeline=options.messages)
    began = time.monotonic()
    figures = list[DatabaseFigures]()
    with tempfile.TemporaryDirectory(prefix="sendtrace-bench-") as name:
        folder = Path(name)
        described = environment.describe_machine(folder) | environment.read_versions()
        for kind in [options.only] if options.only else DATABASE_KINDS:
            with start_database(kind, folder) as started:
                figures.append(Benchmark(started, folder, sizes).measure(options.rounds))
    seconds = time.monotonic() - began
    print(as_text(figures, described, sizes, options.rounds, seconds))
    written = as_json(figures, described, sizes, seconds)
    options.json.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    rounds, size = "of which medians are taken (3)", "through pipeline and floor (200,000)"
    parser.add_argument("--rounds", type=_parse_positive_int, metavar="N", default=3, help=rounds)
    parser.add_argument("--messages", type=_parse_positive_int, metavar="N", help=size)
    parser.add_argument("--only", choices=DATABASE_KINDS, help="measure on one kind of database")
    parser.add_argument("--json", type=Path, metavar="FILE", default=Path("bench.json"))
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    return parser.parse_args()


def _parse_positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return number


if __name__ == "__main__":
    try:
        main()
    except pipeline.BenchmarkRunFailed as failure:
        sys.exit(f"benchmarks: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
