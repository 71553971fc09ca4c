"""The metadata that all tables of the tracker belong to, and SQL literals for their constraints.

Statuses, reasons and categories are stored as the codes of `tracker.status`, times as instants
(`tracker.clock`). The comments on the tables are part of the database.
"""

from collections.abc import Iterable

from sqlalchemy import MetaData

NAMING_CONVENTION = {
    "pk": "%(table_name)s_pkey",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
}

metadata = MetaData(naming_convention=NAMING_CONVENTION)


def sql_code_list(codes: Iterable[int]) -> str:
    """Return codes as a SQL list, in ascending order."""
    return ", ".join(str(int(code)) for code in sorted(codes))


def sql_string_list(words: Iterable[str]) -> str:
    """Return words as a SQL list of string literals."""
    return ", ".join(f"'{word}'" for word in words)
