"""The space of a SQLite file: bytes by table, and free pages that are cut off its end."""

import time
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

STEP_PAGES = 1_000
"""Free pages that one step cuts off: 4 MB, and some hundredths of a second."""

INCREMENTAL = 2
"""Value of the pragma `auto_vacuum` for a file that can be cut in steps."""


def release_free_pages(engine: Engine) -> Iterator[int]:
    """Cut the free pages off a file; yield the bytes of each step.

    Each step is a short transaction, and a pause as long follows it. A file that was made without
    `auto_vacuum` stays as it is: its free pages are used again.
    """
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()

        def read(pragma: str) -> int:
            [value] = cursor.execute(f"PRAGMA {pragma}").fetchone()
            return int(value)

        if read("auto_vacuum") != INCREMENTAL:
            return
        page_size, free = read("page_size"), read("freelist_count")
        while free:
            started = time.monotonic()
            # Each row that is fetched is a page.
            cursor.execute(f"PRAGMA incremental_vacuum({STEP_PAGES})").fetchall()
            before, free = free, read("freelist_count")
            if free >= before:  # others free pages as fast
                break
            yield (before - free) * page_size
            time.sleep(time.monotonic() - started)
        # The file shrinks when the log is written back. A reader may prevent that now; then the
        # next checkpoint does it.
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


def rewrite_file(engine: Engine) -> None:
    """Rewrite a file without free space, and empty its log."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        for statement in ("auto_vacuum = INCREMENTAL", "wal_checkpoint(TRUNCATE)"):
            cursor.execute(f"PRAGMA {statement}").fetchall()
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


def measure_pages(connection: Connection) -> dict[str, int]:
    """Return the bytes of each table with its indexes.

    Where SQLite can't tell them apart, they share the file by their rows: its bytes are under an
    empty name.
    """
    query = sa.text(
        "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name)"
        " WHERE aggregate = 1 GROUP BY tbl_name"
    )
    has_dbstat = sa.text("SELECT sqlite_compileoption_used('ENABLE_DBSTAT_VTAB')")
    if connection.scalar(has_dbstat):
        return {name: int(size) for name, size in connection.execute(query)}
    pages, page_size = (
        connection.scalar(sa.text(f"PRAGMA {name}")) for name in ("page_count", "page_size")
    )
    return {"": int(pages or 0) * int(page_size or 0)}
