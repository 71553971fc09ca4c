"""The chain of the steps before the gateway, with a real worker and a real broker."""

import json
import time
from pathlib import Path

import pytest
from redis import Redis

from tests.support.celery_worker import start_worker
from tests.support.factory import Plan, make_campaign
from tracker.status import Step
from tracker.store.database import Database
from workers.celery_app import make_celery_app
from workers.chains import StepArguments, enqueue_step
from workers.queues import QUEUES

PROGRAM = """
import json
import os
from pathlib import Path
from celery import Celery
from workers.chains import StepArguments
from workers.services.base import ServiceUnavailable
from workers.step_task import StepTask

app = Celery("test", config_source="celeryconfig")
app.conf.broker_url = {broker!r}
StepTask.retry_backoff_max = 1

def note(task, **fields):
    fields |= dict(task=task.name, id=task.request.id, retries=task.request.retries)
    fields |= dict(shown=task.request.get("kwargsrepr"))
    with Path("ran").open("a") as file:
        file.write(json.dumps(fields) + "\\n")

@app.task(name="workers.suppress", base=StepTask, bind=True)
def suppress(self, **kwargs):
    note(self, **kwargs)

@app.task(name="workers.validate", base=StepTask, bind=True)
def validate(self, **kwargs):
    note(self, **kwargs)
    if self.request.retries == 0 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), 9)
    if self.request.retries == 1:
        raise ServiceUnavailable("for a moment")
    if not kwargs.get("is_retry"):
        arguments = StepArguments(**kwargs, is_retry=True)
        raise self.restart(arguments, ValueError("segments are left"))

@app.task(name="workers.dispatch", base=StepTask, bind=True)
def dispatch(self, **kwargs):
    note(self, **kwargs)
"""

LIMIT_SECONDS = 150.0


def read_runs(folder: Path) -> list[dict[str, object]]:
    """Return the runs of the tasks so far, in their order."""
    file = folder / "ran"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_chain_continues_after_its_step_was_killed_failed_and_restarted(
    client: Redis, broker_url: str, database: Database, tmp_path: Path
) -> None:
    campaign = make_campaign(database, Plan(name="diwali"))
    with make_celery_app("test", broker_url) as app:
        enqueue_step(app, Step.SUPPRESS, StepArguments(campaign=3, batch=12), campaign)
    with start_worker(tmp_path, broker_url, program=PROGRAM, queue=QUEUES[0]):
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (runs := read_runs(tmp_path)) or runs[-1]["task"] != "workers.dispatch":
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.02)
    assert [(run["task"], run["retries"], run.get("is_retry", False)) for run in runs] == [
        ("workers.suppress", 0, False),
        ("workers.validate", 0, False),  # its process is killed
        ("workers.validate", 1, False),  # a service is unavailable
        ("workers.validate", 2, False),  # segments are left
        ("workers.validate", 0, True),
        ("workers.dispatch", 0, False),
    ]
    assert {run["shown"] for run in runs} == {
        "{'campaign': 3, 'batch': 12, 'name': 'diwali', 'run': 1}"
    }
    assert len({run["id"] for run in runs}) == 3, "one task a step"
    assert client.llen(QUEUES[0]) == 0
