"""The commands of the benchmark: their options, and their exit codes."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.results import InvalidResult
from simulator.cli.signals import EXIT_INTERRUPTED, set_shutdown_handler

EXIT_INVALID_RESULT = 2


class BenchmarkRunFailed(Exception):
    """A run failed or differs from its prediction, so there is nothing to measure."""


def run_command(main: Callable[[], None], name: str) -> None:
    """Run a command, and exit with its code and one sentence if it fails.

    Args:
        name: what the sentence calls the command.
    """
    set_shutdown_handler(signal.default_int_handler)  # `kill` stops it as Ctrl-C does
    try:
        main()
    except BenchmarkRunFailed as failure:
        sys.exit(f"{name}: {failure}")
    except InvalidResult as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(EXIT_INVALID_RESULT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a command without its options; `description` is printed as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_run_options(
    parser: argparse.ArgumentParser, *, file: str, rounds: int, messages: int
) -> None:
    """Add the options of a command that measures, with their defaults."""
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="small sizes, in about a minute: shows that every part works, not how fast it is",
    )
    add(
        "--json",
        type=Path,
        metavar="FILE",
        default=Path(file),
        help=f"where to write the figures ({file})",
    )
    add(
        "--rounds",
        type=parse_positive_int,
        metavar="N",
        help=f"rounds whose medians are shown ({rounds}; 1 with --quick)",
    )
    add(
        "--messages",
        type=parse_positive_int,
        metavar="N",
        help=f"messages of a run in batches ({messages:,}; fewer with --quick)",
    )


def parse_positive_int(text: str) -> int:
    """Return a number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}; expected a number above 0")
    return number
