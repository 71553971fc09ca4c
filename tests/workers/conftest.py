"""Fixtures for the tests of the workers."""

from collections.abc import Iterator

import pytest

from tests.support.task_loop import ScriptedResources, TaskLoop
from tracker.store.database import Database
from workers import runtime
from workers.app import app


@pytest.fixture
def loop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskLoop]:
    """Return a loop that runs the tasks of the shipped app on the test's database."""
    app.loader.import_default_modules()
    loop = TaskLoop(app, ScriptedResources(database))
    monkeypatch.setattr(app, "send_task", loop.send_task)
    previous = runtime.resources()
    runtime.replace_resources(loop.resources)
    yield loop
    runtime.replace_resources(previous)
