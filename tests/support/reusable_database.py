"""A PostgreSQL database that tests use one after the other, emptied after each of them."""

from dataclasses import dataclass
from uuid import uuid4

import psycopg

from simulator import schema as simulator_schema
from tests.support.postgresql import PostgresqlServer
from tracker.store.schema.applied_migrations import applied_migrations
from tracker.store.schema.tables import TRACKER_TABLES

TABLES = tuple(
    table.name
    for tables in (simulator_schema.metadata.sorted_tables, TRACKER_TABLES)
    for table in reversed(tables)
    if table is not applied_migrations
)
"""The tables of both layers that tests fill; each comes before the tables that it refers to."""

MAX_DELETE_BYTES = 10 * 8192
"""Size up to which DELETE empties a table.

DELETE costs a fraction of TRUNCATE, but it leaves the table's pages. PostgreSQL plans queries on
tables of up to ten pages as if they had ten.
"""

END_OTHER_SESSIONS = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

_CATALOGS = {
    "tracker_version": "true",
    "simulator_version": "true",
    "applied_migrations": "true",
    "pg_namespace": "true",
    "pg_db_role_setting": "true",
    "pg_statistic": "starelid >= 16384",  # autovacuum may analyze the catalogs at any time
    "pg_attribute": "attrelid >= 16384",  # the first object that a user makes
    "pg_constraint": "oid >= 16384",
    "pg_trigger": "oid >= 16384",
    "pg_proc": "oid >= 16384",
    "pg_rewrite": "oid >= 16384",
}

DESCRIBE_SCHEMA = "\nUNION ALL ".join(
    [
        *(
            f"SELECT (count(*), max(xmin::text::bigint))::text FROM {name} WHERE {condition}"
            for name, condition in _CATALOGS.items()
        ),
        "SELECT string_agg((oid, relname, reloptions, relkind = 'r' AND reltuples >= 0)::text, ''"
        " ORDER BY oid) FROM pg_class WHERE oid >= 16384",
    ]
)
"""Query whose rows change with the schema, its revision and the planner's statistics.

Transaction numbers only grow. So an added or changed row is newer than all others, and a removed
row lowers the count. The number of rows that the planner assumes is negative until a table is
vacuumed or analyzed, and again after TRUNCATE.
"""

FIND_ROWS = "\nUNION ALL ".join(
    f"SELECT '{name}', pg_relation_size('{name}') WHERE EXISTS (SELECT FROM {name})"
    for name in TABLES
)

RESTART_SEQUENCES = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"


@dataclass
class ReusableDatabase:
    """A copy of a template database. It is replaced when a test has changed its schema."""

    server: PostgresqlServer
    template: str
    _name: str | None = None

    def prepare(self) -> str:
        """Return the URL of the database, which has all tables and no rows."""
        if self._name is None:
            self._name = f"test_{uuid4().hex[:12]}"
            self.server.execute(f"CREATE DATABASE {self._name} TEMPLATE {self.template}")
            self._session = psycopg.connect(self.server.database_url(self._name), autocommit=True)
            self._schema = self._session.execute(DESCRIBE_SCHEMA).fetchall()
        return self.server.database_url(self._name)

    def clean(self) -> None:
        """End all other sessions, and remove all rows, or the database if its schema changed."""
        self._session.execute(END_OTHER_SESSIONS)
        if self._has_schema_of_template():
            filled = self._session.execute(FIND_ROWS).fetchall()
            self._session.execute(
                "; ".join(
                    f"DELETE FROM {name}"
                    if size <= MAX_DELETE_BYTES
                    else f"TRUNCATE {name} CASCADE"
                    for name, size in filled
                )
            )
            self._session.execute(RESTART_SEQUENCES)
        else:
            self.drop()

    def _has_schema_of_template(self) -> bool:
        try:
            return self._session.execute(DESCRIBE_SCHEMA).fetchall() == self._schema
        except psycopg.errors.UndefinedTable:
            return False

    def drop(self) -> None:
        """Drop the database, if it exists."""
        if self._name is not None:
            self._session.close()
            self.server.execute(f"DROP DATABASE {self._name} WITH (FORCE)")
            self._name = None
