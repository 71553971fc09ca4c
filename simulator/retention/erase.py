"""Erase a customer's contact data from the database and from the files of the state folder."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from simulator.retention.selection import LIVING_STATES
from simulator.schema import metadata
from simulator.setup.census import hash_key, replace_keys
from simulator.suppressions.erasure_key import create_key, load_key
from tracker.clock import SystemClock
from tracker.errors import NotFound, UsageError
from tracker.queries.campaign_state import run_state
from tracker.record.retention.erased import (
    ContactData,
    erase_contact_data,
    find_customer,
    replace_texts,
)
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.schema.catalog import customers, runs
from tracker.store.schema.suppressions import run_suppressions, suppressions
from tracker.store.schema.tables import TRACKER_TABLES
from tracker.text import suggest_similar

OTHER_TABLES = tuple(
    table
    for table in (*TRACKER_TABLES, *metadata.sorted_tables)
    if table not in (customers, suppressions, run_suppressions)
)
"""Tables whose texts may have an address, such as the reply of a gateway."""


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """The counts of what an erasure has changed.

    Attributes:
        audiences: audiences in which the customer is.
        rows: rows of other tables in which an address was masked.
        files: files in which an address was masked.
    """

    audiences: int
    rows: int
    files: int


def erase_customer(
    database: Database, settings: Settings, customer_id: str, organization: str | None
) -> Erasure:
    """Erase the contact data of a customer of an organization. It may be repeated.

    Raises:
        NotFound: no audience has this customer.
        UsageError: a run may have a driver, or several organizations have such a customer.
    """
    with database.read() as connection:
        _require_no_driver(connection)
        contact = _find_contact(connection, customer_id, organization)
    settings.prepare_home()
    create_key(settings.home)
    protect = load_key(settings.home)
    forms = _list_forms(contact.texts)
    # `customers` has the addresses until the end, so an interrupted erasure can be repeated.
    files = sum(_mask_file(file, forms) for file in _list_files(settings))
    rows = 0
    for table in OTHER_TABLES:
        with database.write() as connection:
            rows += replace_texts(connection, table, forms, _mask)
    with database.write() as connection:
        for row in contact.rows:
            hashes = {
                recipient.channel: (
                    hash_key(recipient.address),
                    hash_key(protect(recipient).address),
                )
                for recipient in ContactData([row]).recipients
            }
            replace_keys(connection, row.audience_id, hashes)
        erase_contact_data(database, connection, contact, protect, SystemClock().now())
    database.rewrite()
    return Erasure(audiences=len(contact.rows), rows=rows, files=files)


def _require_no_driver(connection: Connection) -> None:
    state = run_state(connection)
    query = sa.select(runs.c.id).where(state.in_([living.value for living in LIVING_STATES]))
    run_id = connection.scalar(query.order_by(runs.c.id))
    if run_id is not None:
        raise UsageError(f"run {run_id} may have a living driver; erase after its end")


def _find_contact(
    connection: Connection, customer_id: str, organization: str | None
) -> ContactData:
    rows = find_customer(connection, customer_id)
    names = sorted({row.organization for row in rows})
    if organization is None and len(names) > 1:
        raise UsageError(f"--organization: missing; expected one of {', '.join(names)}")
    chosen = [row for row in rows if organization in (None, row.organization)]
    if not chosen:
        hint = "" if organization is None else suggest_similar(organization, names)
        raise NotFound(f"no audience has a customer {customer_id!r}{hint}")
    return ContactData(chosen)


def _list_forms(texts: Sequence[str]) -> list[str]:
    """Return texts, and how JSON has them."""
    return [*dict.fromkeys(form for text in texts for form in (text, json.dumps(text)[1:-1]))]


def _list_files(settings: Settings) -> Iterator[Path]:
    """Yield the files of results, rejected rows and logs."""
    for folder in (settings.home / "runs", settings.logs):
        yield from (file for file in sorted(folder.rglob("*")) if file.is_file())


def _mask(text: str) -> str:
    """Return as many characters as a text has bytes: a file keeps its length."""
    return "x" * len(text.encode())


def _mask_file(file: Path, forms: Sequence[str]) -> bool:
    """Overwrite texts in a file, to which a process may append; return whether it had any."""
    content = file.read_bytes()
    masked = content
    for form in forms:
        masked = masked.replace(form.encode(), _mask(form).encode())
    if masked == content:
        return False
    with file.open("r+b") as stream:
        stream.write(masked)
    return True
