"""A client of the live page."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi.testclient import TestClient

from simulator.web.check_process import evaluate_checks
from simulator.web.runs import RUNS_SECTION
from simulator.web.serve import open_monitoring
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.web.app import make_app

TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105  # a token of tests only

HOSTILE = "<script>alert(1)</script>\"'&"
"""A name that must arrive as text wherever it is shown."""


@contextmanager
def live_page_client(
    database: Database,
    settings: Settings,
    monitoring_changes: Mapping[str, Any] = {},
    **settings_changes: object,
) -> Iterator[TestClient]:
    """Yield a client of the live page, with changes of the monitoring and of the settings.

    Checks are evaluated in this process, which is faster than in one of their own.
    """
    changed = settings.model_copy(update=settings_changes)
    with open_monitoring(database, changed) as monitoring:
        in_process = {"explain_checks": partial(evaluate_checks, database)}
        changed_monitoring = replace(monitoring, **{**in_process, **monitoring_changes})
        app = make_app(database, changed, changed_monitoring, (RUNS_SECTION,))
        with TestClient(app, base_url="http://127.0.0.1:8080") as client:
            yield client
