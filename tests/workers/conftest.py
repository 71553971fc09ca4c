"""Fixtures for the tests of the workers."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from tests.support.plugins import plugin_installer
from tests.support.task_loop import ScriptedResources, TaskLoop
from tracker.store.database import Database
from workers import runtime
from workers.app import app as shipped_app
from workers.celery_app import make_celery_app
from workers.upkeep.broker import make_broker_client


@pytest.fixture
def loop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskLoop]:
    """Return a loop that runs the tasks of the shipped app on the test's database."""
    shipped_app.loader.import_default_modules()
    loop = TaskLoop(shipped_app, ScriptedResources(database))
    monkeypatch.setattr(shipped_app, "send_task", loop.send_task)
    previous = runtime.resources()
    runtime.replace_resources(loop.resources)
    yield loop
    runtime.replace_resources(previous)


@pytest.fixture
def client(broker_url: str) -> Iterator[Redis]:
    """Return a client of an empty broker."""
    with closing(make_broker_client(broker_url, timeout=5)) as client:
        client.flushall()
        yield client
        client.flushall()  # other tests share the broker


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    """Return an app with the shipped settings on the tests' broker."""
    with make_celery_app("test", broker_url) as app:
        yield app


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that installs a package with plugins for one test."""
    with plugin_installer(tmp_path, monkeypatch) as install:
        yield install
