"""Audiences: customers made from a seed, or imported from a file."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from simulator.scenario.audience_file import CustomerRecord, RejectFile, read_customers
from simulator.setup.census import AudienceScanner
from simulator.world.defects import DEFECT_FIELDS, NO_DEFECT, draw_defects
from tracker.status import Reason
from tracker.store.database import Database
from tracker.store.schema import customers

CHUNK_CUSTOMERS = 10_000
"""Customers that are recorded in one transaction."""

ProgressCallback = Callable[[int], None]
"""Told of customers as they are recorded: how many more."""


def generate_customers(
    database: Database,
    audience_id: int,
    size: int,
    *,
    seed: int,
    campaign: str,
    requires: Sequence[str],
    defects: Mapping[str, float],
    progress: ProgressCallback,
) -> None:
    """Record ``size`` customers who have all that the campaign needs, but for those with a defect.

    Their addresses lie in a domain, and their numbers in a range, that belong to nobody
    (RFC 2606; Ofcom's numbers for drama).
    """
    for first in range(0, size, CHUNK_CUSTOMERS):
        count = min(CHUNK_CUSTOMERS, size - first)
        labels = draw_defects(seed, campaign, defects, first, count)
        with database.write() as connection:
            for label in np.unique(labels):
                numbers = (np.flatnonzero(labels == label) + first).tolist()
                connection.execute(_build_insert(database, audience_id, numbers, label, requires))
        progress(count)


def _build_insert(
    database: Database,
    audience_id: int,
    numbers: Sequence[int],
    label: int,
    requires: Sequence[str],
) -> sa.Insert:
    """Customers who differ by nothing but their number."""
    made = database.table_from_columns(number=numbers)
    number = made.c.number
    text = sa.cast(number, sa.Text)
    mobile = sa.literal("+447700") + sa.cast(900_000 + number % 1_000, sa.Text)
    custom = {key: "yes" for key in requires if key.startswith(("tag:", "field:"))}
    columns: dict[str, object] = {
        "audience_id": audience_id,
        "number": number,
        "customer_id": sa.literal("c") + text,
        "email": sa.literal("customer") + text + "@example.com",
        "mobile": mobile,
        "mobile_e164": mobile,
        "loyalty_member": True,
        "last_store": sa.literal("Store ") + sa.cast(number % 40 + 1, sa.Text),
        "profile": "standard",
        "coupon_id": sa.literal("CPN-") + text,
        "coupon_expires": "2099-12-31",
        "custom": json.dumps(custom),
    }
    if label != NO_DEFECT:
        columns |= DEFECT_FIELDS[Reason(label)]
    values = [
        value if isinstance(value, sa.ColumnElement) else sa.literal(value, customers.c[name].type)
        for name, value in columns.items()
    ]
    return sa.insert(customers).from_select([*columns], sa.select(*values).select_from(made))


def import_customers(
    database: Database,
    audience_id: int,
    file: Path,
    *,
    census: AudienceScanner,
    rejects: RejectFile,
    progress: ProgressCallback,
) -> int:
    """Record the customers of a file; how many. Rows that can't be read go to ``rejects``."""
    recorded = 0
    for records in _split_into_chunks(census.scan(_read_valid_customers(file, rejects))):
        rows = [
            {"audience_id": audience_id, "number": number, **asdict(record)}
            for number, record in enumerate(records, recorded)
        ]
        with database.write() as connection:
            connection.execute(sa.insert(customers), rows)
        recorded += len(rows)
        progress(len(rows))
    return recorded


def _read_valid_customers(file: Path, rejects: RejectFile) -> Iterator[CustomerRecord]:
    for read in read_customers(file):
        if isinstance(read, CustomerRecord):
            yield read
        else:
            rejects.add(read)


def _split_into_chunks(records: Iterator[CustomerRecord]) -> Iterator[list[CustomerRecord]]:
    while chunk := list(islice(records, CHUNK_CUSTOMERS)):
        yield chunk
