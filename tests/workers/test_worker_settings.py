"""Settings of `celeryconfig`, each shown by a real worker."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery import Celery
from redis import Redis

from tests.support.celery_worker import start_worker
from workers.queues import QUEUES
from workers.upkeep.broker import UNACKED_KEY

PROGRAM = """
import time
from pathlib import Path
from celery import Celery
app = Celery("test", config_source="celeryconfig")
app.conf.broker_url = {broker!r}

@app.task(name="workers.suppress")
def suppress():
    Path("begun").touch()
    time.sleep(600)
"""

LIMIT_SECONDS = 150.0
"""Seconds to wait for any event here."""


def wait_until(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.02)


def send(app: Celery, number: int, eta: datetime | None = None) -> None:
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for _ in range(number):
            app.send_task("workers.suppress", queue=QUEUES[0], eta=eta, producer=producer)


def look_again(app: Celery) -> None:
    """Return when the worker has taken all tasks that it would take by now."""
    for _ in range(2):
        assert app.control.ping(timeout=LIMIT_SECONDS, limit=1)


def test_a_worker_takes_one_task_at_a_time_and_leaves_the_rest_to_others(
    app: Celery, client: Redis, tmp_path: Path, broker_url: str
) -> None:
    send(app, 6)
    with start_worker(tmp_path, broker_url, program=PROGRAM, queue=QUEUES[0]):
        wait_until((tmp_path / "begun").exists, tmp_path)
        look_again(app)
        assert (client.hlen(UNACKED_KEY), client.llen(QUEUES[0])) == (1, 5)


def test_a_worker_holds_only_so_many_tasks_that_wait_for_their_time(
    app: Celery, client: Redis, tmp_path: Path, broker_url: str
) -> None:
    assert app.conf.worker_eta_task_limit == 10_000
    limit = 100  # sending ten thousand would take a minute
    send(app, limit + 50, datetime.now(UTC) + timedelta(hours=1))
    program = f"{PROGRAM}\napp.conf.worker_eta_task_limit = {limit}\n"
    with start_worker(tmp_path, broker_url, program=program, queue=QUEUES[0]):
        wait_until(lambda: client.hlen(UNACKED_KEY) >= limit, tmp_path)
        look_again(app)
        assert (client.hlen(UNACKED_KEY), client.llen(QUEUES[0])) == (limit, 50)
