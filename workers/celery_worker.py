"""Start a Celery worker: `python -m workers.celery_worker --queues=QUEUE,… --hostname=NAME@HOST`.

It is the worker of `celery -A workers.app worker`. Loading that command takes a quarter of a
second more, for Celery's interactive shell and Flower.
"""

import argparse
import gc

from workers.celery_environment import ignore_foreign_settings

STARTUP_GC_THRESHOLD = 100_000
"""New objects between two runs of the garbage collector while modules are loaded; they all stay."""


def main() -> int:
    """Run a worker until it is stopped; return its exit code."""
    options = _parse_options()
    ignore_foreign_settings()
    thresholds = gc.get_threshold()
    gc.set_threshold(STARTUP_GC_THRESHOLD)
    from workers.app import app

    worker = app.Worker(
        hostname=options.hostname,
        queues=options.queues,
        concurrency=options.concurrency,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    gc.set_threshold(*thresholds)
    worker.start()
    exit_code: int = worker.exitcode
    return exit_code


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.celery_worker", description=__doc__)
    parser.add_argument("--queues", required=True, help="queues to serve, separated by commas")
    parser.add_argument("--concurrency", required=True, type=int, help="size of the pool")
    parser.add_argument("--hostname", required=True, help="the worker's name, as NAME@HOST")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
