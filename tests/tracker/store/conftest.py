"""A database without tables, on each backend."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from tracker.settings import Settings
from tracker.store.database import Database, connect


@pytest.fixture
def empty_settings(settings: Settings) -> Settings:
    """Return settings whose database has no table."""
    with closing(connect(settings.resolved_database_url)) as database:
        if database.is_postgresql:
            with database.write() as connection:
                connection.execute(sa.text("DROP SCHEMA public CASCADE"))
                connection.execute(sa.text("CREATE SCHEMA public"))
        else:
            (settings.home / "sendtrace.db").unlink()
    return settings


@pytest.fixture
def empty_database(empty_settings: Settings) -> Iterator[Database]:
    """Open a database without tables."""
    with closing(connect(empty_settings.resolved_database_url)) as database:
        yield database
