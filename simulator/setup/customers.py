"""Generate the customers of an audience from a seed, or import them from a file."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import sqlalchemy as sa

from simulator.audience.formats import AudienceFile
from simulator.audience.problems import ProblemCounts
from simulator.audience.reader import read_customers
from simulator.audience.rejects import RejectFile
from simulator.audience.row_parser import CustomerRecord
from simulator.setup.census import AudienceScanner
from simulator.world.defects import DEFECT_FIELDS, NO_DEFECT, draw_defects
from tracker.status import Reason
from tracker.store.database import Database
from tracker.store.schema.catalog import customers

CHUNK_CUSTOMERS = 10_000
"""Customers that are recorded in one transaction."""

ProgressCallback = Callable[[int], None]
"""Called with the number of customers that were just recorded."""


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
    """Record customers who have everything that their campaigns require, except for their defects.

    The addresses lie in a reserved domain (RFC 2606), and the mobile numbers in Ofcom's range for
    drama, so no person has them.

    Args:
        campaign: campaign that owns the audience; it seeds the draws.
        requires: requirements of all campaigns that use the audience.
        defects: share of the customers to plant each defect in, by the slug of its reason.
    """
    for first in range(0, size, CHUNK_CUSTOMERS):
        count = min(CHUNK_CUSTOMERS, size - first)
        drawn = draw_defects(seed, campaign, defects, first, count)
        with database.write() as connection:
            for defect in sorted(set(drawn.tolist())):  # np.unique would load numpy.ma
                numbers = (np.flatnonzero(drawn == defect) + first).tolist()
                connection.execute(_build_insert(database, audience_id, numbers, defect, requires))
        progress(count)


def _build_insert(
    database: Database,
    audience_id: int,
    numbers: Sequence[int],
    defect: int,
    requires: Sequence[str],
) -> sa.Insert:
    """Return the statement that inserts customers who have the same defect."""
    rows = database.table_from_columns(number=numbers)
    number = rows.c.number
    text = sa.cast(number, sa.Text)
    mobile = sa.literal("+447700") + sa.cast(900_000 + number % 1_000, sa.Text)
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
        "custom": _make_custom_values(requires),
    }
    if defect != NO_DEFECT:
        columns |= DEFECT_FIELDS[Reason(defect)]
    values = [
        value if isinstance(value, sa.ColumnElement) else sa.literal(value, customers.c[name].type)
        for name, value in columns.items()
    ]
    return sa.insert(customers).from_select([*columns], sa.select(*values).select_from(rows))


def make_generated_record(number: int, defect: int, requires: Sequence[str]) -> dict[str, object]:
    """Return the columns of a generated customer that a message may have, as they are recorded."""
    record: dict[str, object] = {
        "customer_id": f"c{number}",
        "email": f"customer{number}@example.com",
        "mobile_e164": f"+447700{900_000 + number % 1_000}",
        "last_store": f"Store {number % 40 + 1}",
        "profile": "standard",
        "coupon_id": f"CPN-{number}",
        "custom": _make_custom_values(requires),
    }
    if defect == NO_DEFECT:
        return record
    fields = DEFECT_FIELDS[Reason(defect)]
    return {name: fields.get(name, value) for name, value in record.items()}


def _make_custom_values(requires: Sequence[str]) -> str:
    """Return the tags and fields of a generated customer, as they are recorded."""
    return json.dumps({key: "yes" for key in requires if key.startswith(("tag:", "field:"))})


def import_customers(
    database: Database,
    audience_id: int,
    file: AudienceFile,
    *,
    scanner: AudienceScanner,
    rejects: RejectFile,
    progress: ProgressCallback,
) -> ProblemCounts:
    """Record the customers of an audience file and return the counts of its rows.

    The scanner sees every customer on the way into the database. Rows that can't be read go to
    `rejects`.
    """
    recorded = 0
    counts = ProblemCounts()
    scanned = scanner.scan(_read_valid_customers(file, counts, rejects))
    while records := list(islice(scanned, CHUNK_CUSTOMERS)):
        rows = [
            {"audience_id": audience_id, "number": number, **record._asdict()}
            for number, record in enumerate(records, recorded)
        ]
        with database.write() as connection:
            connection.execute(sa.insert(customers), rows)
        recorded += len(rows)
        progress(len(rows))
    return counts


def _read_valid_customers(
    file: AudienceFile, counts: ProblemCounts, rejects: RejectFile
) -> Iterator[CustomerRecord]:
    for row in read_customers(file, counts):
        if isinstance(row, CustomerRecord):
            yield row
        else:
            rejects.add(row)
