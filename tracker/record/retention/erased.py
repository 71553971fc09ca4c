"""Erase the contact data of a customer from the tables, and keep their suppression as a hash."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from tracker.clock import Instant
from tracker.record.suppressions.changes import KEY_COLUMNS
from tracker.record.suppressions.entries import (
    READ_ROWS,
    Recipient,
    Selection,
    add_entries,
    read_entries,
    remove_entries,
)
from tracker.store.database import Database
from tracker.store.schema.catalog import audiences, customers, organizations
from tracker.store.schema.suppressions import run_suppressions, suppressions

ERASED_PREFIX = "erased:"
"""Beginning of the text that stands for the address of an erased customer in lists."""

MIN_TEXT_CHARACTERS = 6
"""Shorter texts aren't looked for in other texts, where they may mean anything."""

Protect = Callable[[Recipient], Recipient]
"""A function that returns what stands for a recipient in lists after their erasure."""


class CustomerRow(NamedTuple):
    """A customer in one audience, with their addresses as they were imported and are compared."""

    audience_id: int
    number: int
    organization: str
    email: str | None
    mobile: str | None
    mobile_e164: str | None
    email_key: str | None
    mobile_key: str | None


@dataclass(frozen=True)
class ContactData:
    """All addresses that rows of a customer have."""

    rows: Sequence[CustomerRow]

    @property
    def recipients(self) -> list[Recipient]:
        """The addresses as they are compared."""
        keys = {
            Recipient(channel, key)
            for row in self.rows
            for channel, column in KEY_COLUMNS.items()
            if (key := getattr(row, column.name)) is not None
        }
        return sorted(keys)

    @property
    def texts(self) -> list[str]:
        """The addresses in each way in which they are written, the longest first."""
        texts = {text for row in self.rows for text in row[3:] if text}
        return sorted(
            (text for text in texts if len(text) >= MIN_TEXT_CHARACTERS), key=len, reverse=True
        )


def find_customer(connection: Connection, customer_id: str) -> list[CustomerRow]:
    """Return the rows of a customer in all audiences."""
    columns = (customers.c[name] for name in CustomerRow._fields[3:])
    query = (
        sa.select(customers.c.audience_id, customers.c.number, organizations.c.name, *columns)
        .join(audiences, audiences.c.id == customers.c.audience_id)
        .join(organizations, organizations.c.id == audiences.c.organization_id)
        .where(customers.c.customer_id == customer_id)
        .order_by(customers.c.audience_id)
    )
    return [CustomerRow(*row) for row in connection.execute(query)]


def erase_contact_data(
    database: Database,
    connection: Connection,
    contact: ContactData,
    protect: Protect,
    now: Instant,
) -> None:
    """Remove a customer's contact data from `customers`, and hash it in the suppression lists."""
    for row in contact.rows:
        erased = dict.fromkeys((*CustomerRow._fields[3:], "last_store", "profile", "coupon_id"))
        connection.execute(
            sa.update(customers)
            .where(customers.c.audience_id == row.audience_id, customers.c.number == row.number)
            .values(**erased, custom="{}")
        )
    database.lock_table(connection, suppressions)
    for name in sorted({row.organization for row in contact.rows}):
        selection = Selection(organization=name, recipients=contact.recipients)
        entries = [*read_entries(connection, selection)]
        remove_entries(connection, selection)
        if entries:
            hashed = [replace(entry, recipient=protect(entry.recipient)) for entry in entries]
            add_entries(database, connection, name, hashed, now)
        for recipient in contact.recipients:
            _replace_copies(database, connection, name, recipient, protect(recipient))


def replace_texts(
    connection: Connection, table: Table, texts: Iterable[str], mask: Callable[[str], str]
) -> int:
    """Mask texts wherever a table's columns of text have them; return the number of rows."""
    changed = 0
    for column in table.c:
        if not isinstance(column.type, sa.Text):
            continue
        for text in texts:
            update = sa.update(table).where(column.contains(text, autoescape=True))
            masked = sa.func.replace(column, text, mask(text))
            changed += connection.execute(update.values({column: masked})).rowcount
    return changed


def reveal_erased(
    database: Database,
    connection: Connection,
    run_id: int,
    organization: str,
    audience_ids: Sequence[int],
    load_protect: Callable[[], Protect],
) -> None:
    """Let a run's copy of a list name erased customers again who are in its audiences.

    Their addresses are in the run's own audience file. So all that follows compares addresses.

    Args:
        load_protect: called if the copy has erased customers.
    """
    copied = run_suppressions.c
    is_erased = sa.and_(
        copied.run_id == run_id,
        copied.organization == organization,
        copied.address.startswith(ERASED_PREFIX),
    )
    hashes = {*connection.scalars(sa.select(copied.address).where(is_erased))}
    if not hashes:
        return
    protect = load_protect()
    for recipient in _read_recipients(connection, audience_ids):
        protected = protect(recipient)
        if protected.address in hashes:
            _replace_copies(database, connection, organization, protected, recipient, run_id)


def _read_recipients(connection: Connection, audience_ids: Sequence[int]) -> Iterator[Recipient]:
    for channel, key in KEY_COLUMNS.items():
        query = sa.select(key).where(customers.c.audience_id.in_(audience_ids), key.is_not(None))
        for address in [*connection.scalars(query.execution_options(yield_per=READ_ROWS))]:
            yield Recipient(channel, address)


def _replace_copies(
    database: Database,
    connection: Connection,
    organization: str,
    old: Recipient,
    new: Recipient,
    run_id: int | None = None,
) -> None:
    """Replace a recipient in the copy of one run, or of all; an entry that is there stays."""
    copied = run_suppressions.c
    is_old = sa.and_(
        copied.organization == organization,
        copied.channel == old.channel,
        copied.address == old.address,
        sa.true() if run_id is None else copied.run_id == run_id,
    )
    rows: list[dict[str, Any]] = [
        {**row, "address": new.address}
        for row in connection.execute(sa.select(run_suppressions).where(is_old)).mappings()
    ]
    connection.execute(sa.delete(run_suppressions).where(is_old))
    if rows:
        connection.execute(database.insert_missing(run_suppressions), rows)
