"""Fixtures for the tests of the live page."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.support.factory import make_busy_batch
from tests.support.web import live_page_client
from tracker.record.catalog import Batch
from tracker.settings import Settings
from tracker.store.database import Database


@pytest.fixture
def batch(database: Database) -> Batch:
    """Return a batch with messages in every status."""
    return make_busy_batch(database)


@pytest.fixture
def client(database: Database, settings: Settings) -> Iterator[TestClient]:
    """Return a client of the live page on the test's database."""
    with live_page_client(database, settings) as client:
        yield client
