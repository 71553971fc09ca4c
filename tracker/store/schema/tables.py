"""All tables of the tracker: a table belongs to the metadata once its module is loaded."""

from tracker.store.schema import (  # noqa: F401
    applied_migrations,
    catalog,
    engagement,
    messages,
    retention,
    suppressions,
    work,
)
from tracker.store.schema.metadata import metadata

TRACKER_TABLES = tuple(metadata.sorted_tables)
"""Each comes after the tables that it refers to."""
