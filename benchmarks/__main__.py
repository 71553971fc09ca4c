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
from benchmarks.databases import KINDS, Kind, read_durability, start
from benchmarks.figures import (
    FULL,
    QUICK,
    WORKER_COUNT,
    BenchmarkSizes,
    Figures,
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

    def __init__(self, kind: Kind, folder: Path, sizes: BenchmarkSizes) -> None:
        self._kind = kind
        self._folder = folder
        self._sizes = sizes

    def measure(self, rounds: int) -> Figures:
        with self._kind.fresh() as url:
            settings = read_durability(url)
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
        self._say(
            f"{new:,} new events, {old:,} old: rollup {timed.rollup * 1e3:.2f} ms,"
            f" GROUP BY {timed.group_by * 1e3:.2f} ms"
        )
        return timed

    def _time_receipts(self) -> receipts.Timed:
        with self._kind.fresh() as url:
            timed = receipts.time_receipts(url, self._folder, self._sizes.receipts)
        self._say(f"receipts: {timed.applied:,.0f}/s, moves: {timed.floor:,.0f}/s")
        return timed

    def _round(self, name: str) -> RoundThroughputs:
        with self._kind.fresh() as url:
            moved = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE)
            self._say(f"{name}: pipeline {moved.throughput:,.0f}/s")
            with closing(open_database(load_settings(database_url=url))) as database:
                rows = floor.read_rows(database, DEFAULT_BATCH_SIZE)
        with self._kind.fresh() as url:
            bare = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, should_record=False)
            self._say(f"{name}: without recording {bare.throughput:,.0f}/s")
        with self._kind.fresh() as url:
            unswept = self._run(url, self._sizes.pipeline, DEFAULT_BATCH_SIZE, sweeping=False)
            self._say(f"{name}: without sweep {unswept.throughput:,.0f}/s")
        with (
            self._kind.fresh() as url,
            viewers.serve_live_page(url, self._folder) as address,
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
        return RoundThroughputs(
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
        should_record: bool = True,
        sweeping: bool = True,
        faults: str = "",
    ) -> pipeline.Measured:
        return pipeline.run(
            url,
            self._folder,
            messages=size,
            batch_size=batch_size,
            workers=WORKER_COUNT,
            watched=watched,
            should_record=should_record,
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
                figures.append(Benchmark(started, folder, sizes).measure(options.rounds))
    seconds = time.monotonic() - began
    print(as_text(figures, described, sizes, options.rounds, seconds))
    written = as_json(figures, described, sizes, seconds)
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


if __name__ == "__main__":
    try:
        main()
    except pipeline.RunFailed as failure:
        sys.exit(f"benchmarks: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
