"""Expected outcomes of a campaign's messages, recorded so that they outlive their file."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.scenario.expected_file import read_expected_outcomes
from simulator.schema import expected_outcomes
from tracker.errors import UsageError
from tracker.queries.message_lookup import find_numbers_by_customer
from tracker.text import pluralize


@dataclass(frozen=True)
class ExpectedOutcomes:
    """The outcomes that some messages of a campaign must have, as arrays of one length.

    Attributes:
        numbers: numbers of the messages, ascending.
        reasons: codes of their reasons; `NO_REASON` for a message that is sent.
    """

    numbers: NDArray[np.int64]
    reasons: NDArray[np.int8]


def record_expected_outcomes(
    connection: Connection, campaign_id: int, audience_id: int, file: Path
) -> ExpectedOutcomes:
    """Read a file of expected outcomes, and record them for a campaign.

    Raises:
        UsageError: the file can't be read, or names a customer that the audience doesn't have.
    """
    expected = read_expected_outcomes(file)
    numbers_by_customer = find_numbers_by_customer(connection, audience_id, list(expected))
    unknown = [customer for customer in expected if customer not in numbers_by_customer]
    if unknown:
        raise UsageError(
            f"{file}: {pluralize(len(unknown), 'customer')} not in the campaign's audience;"
            f" the first is {unknown[0]!r}"
        )
    rows = sorted((numbers_by_customer[customer], code) for customer, code in expected.items())
    numbers, reasons = zip(*rows, strict=True)
    outcomes = ExpectedOutcomes(np.array(numbers, np.int64), np.array(reasons, np.int8))
    content = io.BytesIO()
    np.savez_compressed(content, numbers=outcomes.numbers, reasons=outcomes.reasons)
    connection.execute(
        sa.insert(expected_outcomes).values(campaign_id=campaign_id, content=content.getvalue())
    )
    return outcomes


def load_expected_outcomes(connection: Connection, campaign_id: int) -> ExpectedOutcomes | None:
    """Return the recorded expected outcomes of a campaign, if it has any."""
    query = sa.select(expected_outcomes.c.content).where(
        expected_outcomes.c.campaign_id == campaign_id
    )
    content = connection.scalar(query)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return ExpectedOutcomes(arrays["numbers"], arrays["reasons"])
