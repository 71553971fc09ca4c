"""Details of transitions: what their statuses and reasons don't say.

Only exceptional messages have details. A batch without any costs nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.store.database import Database
from tracker.store.schema.messages import transition_details

MAX_DETAIL_LENGTH = 500
"""Characters of a text that are kept."""


class TransitionDetail(NamedTuple):
    """The text and the check that are recorded beside a transition.

    Attributes:
        check_name: the check that blocked the message, unless it is named like its reason.
        text: the error, the check's text, or what the gateway reported.
    """

    check_name: str | None = None
    text: str | None = None


NO_DETAIL = TransitionDetail()


def insert_details(
    database: Database,
    connection: Connection,
    transition: Mapping[str, int],
    details: Mapping[int, TransitionDetail],
) -> None:
    """Record the details of transitions, by the numbers of their messages.

    Args:
        transition: the campaign's id, status and attempt that all of them have.
    """
    rows = database.table_from_columns(
        number=[*details],
        check_name=[clean_text(detail.check_name) for detail in details.values()],
        detail=[clean_text(detail.text) for detail in details.values()],
    )
    key = [sa.literal(value, sa.Integer).label(name) for name, value in transition.items()]
    connection.execute(
        sa.insert(transition_details).from_select(
            [*transition, *rows.c.keys()], sa.select(*key, *rows.c)
        )
    )


def clean_text(text: str | None) -> str | None:
    """Return a text that every database can hold; others may come from rules and gateways."""
    if text is None:
        return None
    return text[:MAX_DETAIL_LENGTH].replace("\0", "").encode(errors="replace").decode()
