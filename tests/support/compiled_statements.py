"""Compiled SQL that the engines of all tests share."""

from typing import Any

from tracker.store.database import Database


class CompiledStatements(dict[Any, Any]):
    """A cache of SQLAlchemy for engines whose dialects are set up alike.

    SQLAlchemy's keys begin with the dialect of one engine. Each test has its own engine, and would
    compile each statement again, which took a good part of the tests' time.
    """

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


_BY_BACKEND = {"sqlite": CompiledStatements(), "postgresql": CompiledStatements()}


def share_compiled_statements(database: Database) -> None:
    """Let a database use the statements that were compiled for others of its backend."""
    engine = database.engine
    engine.update_execution_options(compiled_cache=_BY_BACKEND[engine.dialect.name])
