"""Collect the statements that a database executes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from tracker.store.database import Database

Statements = list[tuple[str, Any]]

_collectors: WeakKeyDictionary[sa.Engine, list[Statements]] = WeakKeyDictionary()


def observe_statements(database: Database) -> None:
    """Let `executed` collect the statements of a database, before other threads use it.

    SQLAlchemy fails in a thread that executes a statement while another one adds a listener.
    """
    collectors = _collectors.setdefault(database.engine, [])

    def note(_: object, __: object, statement: str, parameters: Any, *rest: object) -> None:
        for statements in tuple(collectors):
            statements.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)


@contextmanager
def executed(database: Database) -> Iterator[Statements]:
    """Collect the statements that are executed within the block, with their parameters."""
    seen: Statements = []
    collectors = _collectors[database.engine]
    collectors.append(seen)
    try:
        yield seen
    finally:
        collectors[:] = [statements for statements in collectors if statements is not seen]
