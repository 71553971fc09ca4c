"""Fixtures for the tests of the workers."""

from collections.abc import Iterator

import pytest

from tests.support.task_loop import ScriptedResources, TaskLoop
from tracker.store.database import Database
from workers import runtime
from workers.app import app


@pytest.fixture
def loop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskLoop]:
    """A loop that the shipped app's tasks go to; they work on the test's database."""
    app.loader.import_default_modules()
    made = TaskLoop(app, ScriptedResources(database))
    monkeypatch.setattr(app, "send_task", made.send_task)
    previous = runtime.resources()
    runtime.replace_resources(made.resources)
    yield made
    runtime.replace_resources(previous)
