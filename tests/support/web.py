"""A client of the live page."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fastapi.testclient import TestClient

from simulator.web.serve import RUNS, outside
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.web.app import make_app

TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105  # nobody's


@contextmanager
def served(
    database: Database, settings: Settings, beside: Mapping[str, Any] = {}, **different: object
) -> Iterator[TestClient]:
    """A client of the live page; ``different`` are settings, ``beside`` is what others show."""
    made = settings.model_copy(update=different)
    with outside(database, made) as shown:
        app = make_app(database, made, replace(shown, **beside), (RUNS,))
        with TestClient(app, base_url="http://127.0.0.1:8080") as client:
            yield client


HOSTILE = "<script>alert(1)</script>\"'&"
