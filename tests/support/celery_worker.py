"""A Celery worker in a process of its own, with a small program of a test."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRAM = """
from celery import Celery
app = Celery("test", broker={broker!r})
app.conf.worker_send_task_events = True
app.conf.task_send_sent_event = True

@app.task(name="workers.fails")
def fails(campaign, batch):
    raise ValueError("for a customer" * 100)

@app.task(name="workers.tries", bind=True, max_retries=1)
def tries(self, campaign, batch):
    raise self.retry(exc=OSError("unavailable"), countdown=0)
"""


@contextmanager
def start_worker(
    folder: Path,
    broker: str,
    *,
    program: str = PROGRAM,
    queue: str = "celery",
    options: Sequence[str] = (),
) -> Iterator["subprocess.Popen[bytes]"]:
    (folder / "program.py").write_text(program.format(broker=broker))
    command = [
        *(sys.executable, "-m", "celery", "--app", "program", "worker", "--concurrency", "1"),
        *("--hostname", "one@here", "--without-gossip", "--without-mingle", "--queues", queue),
        *options,
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
