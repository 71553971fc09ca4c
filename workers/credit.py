"""An organization's credit: one for each message that is handed over, taken atomically."""

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.schema import organizations


def take(connection: Connection, organization_id: int, wanted: int) -> int:
    """Take up to ``wanted`` from the credit; how much there was to take.

    Call it in the transaction that moves the messages. Until that ends, others who want credit
    of the organization wait.
    """
    of_it = organizations.c.id == organization_id
    left = connection.execute(
        sa.select(organizations.c.credit).where(of_it).with_for_update()
    ).scalar_one()
    if left is None:
        return wanted
    taken = min(int(left), wanted)
    if taken:
        connection.execute(
            sa.update(organizations).where(of_it).values(credit=organizations.c.credit - taken)
        )
    return taken
