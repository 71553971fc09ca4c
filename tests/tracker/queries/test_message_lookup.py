"""A message is found by its number, its customer's id, or its recipient's address."""

import pytest
import sqlalchemy as sa

from tests.support.factory import Plan, make_batch
from tracker.errors import NotFound
from tracker.queries.message_lookup import (
    MAX_EXAMPLES,
    find_message_number,
    find_number_by_recipient,
)
from tracker.record.catalog import Batch
from tracker.store.database import Database
from tracker.store.schema.catalog import customers


@pytest.fixture
def batch(database: Database) -> Batch:
    return make_batch(database, Plan(size=10))


def set_customer(database: Database, number: int, **values: str) -> None:
    with database.write() as connection:
        connection.execute(
            sa.update(customers).where(customers.c.number == number).values(**values)
        )


def find(database: Database, batch: Batch, text: str) -> int:
    with database.read() as connection:
        return find_message_number(connection, batch.campaign, text)


def test_digits_are_a_message_number_first_and_a_customer_id_otherwise(
    database: Database, batch: Batch
) -> None:
    set_customer(database, 3, customer_id="7")
    set_customer(database, 4, customer_id="4711")
    assert find(database, batch, "7") == 7
    assert find(database, batch, "4711") == 4
    for number in ("99", "-1"):
        with pytest.raises(NotFound, match=f"has no message {number}; expected 0 to 9"):
            find(database, batch, number)


def test_a_message_is_found_by_customer_id_and_by_address(database: Database, batch: Batch) -> None:
    set_customer(
        database,
        5,
        email="Asha@Example.com",
        mobile="07700 900432",
        mobile_e164="+447700900432",
    )
    assert find(database, batch, "c5") == 5
    for address in ("asha@example.com", "Asha@Example.com", "07700 900432", "+447700900432"):
        assert find(database, batch, address) == 5


def test_an_address_with_letters_beyond_ascii_is_found_as_recorded(
    database: Database, batch: Batch
) -> None:
    set_customer(database, 5, email="Ärnå@Example.com")
    assert find(database, batch, "Ärnå@Example.com") == 5


def test_more_digits_than_a_number_has_are_a_mobile_number(
    database: Database, batch: Batch
) -> None:
    set_customer(database, 5, mobile="447700900432")
    assert find(database, batch, "447700900432") == 5


def test_ten_digits_are_a_mobile_number_too(database: Database, batch: Batch) -> None:
    set_customer(database, 5, mobile="7700900432")
    assert find(database, batch, "7700900432") == 5
    with pytest.raises(NotFound, match="has no message 7700900433; expected 0 to 9"):
        find(database, batch, "7700900433")


def test_an_address_of_several_customers_is_refused_with_their_messages(
    database: Database, batch: Batch
) -> None:
    for number in (2, 6):
        set_customer(database, number, email="family@example.com")
    with pytest.raises(NotFound, match=r"messages to family@example\.com: 2, 6; expected"):
        find(database, batch, "family@example.com")
    for number in range(10):
        set_customer(database, number, email="family@example.com")
    with pytest.raises(NotFound, match=f"{MAX_EXAMPLES - 1} and others;"):
        find(database, batch, "family@example.com")


@pytest.mark.parametrize("text", ["nobody@example.com", "", "c99", "1-", "²", "9" * 5_000])
def test_an_unknown_text_is_refused(database: Database, batch: Batch, text: str) -> None:
    with pytest.raises(NotFound, match="expected a message number, a customer id, an email"):
        find(database, batch, text)


def test_an_unknown_customer_is_refused_with_similar_ids(database: Database, batch: Batch) -> None:
    set_customer(database, 7, email="seven@example.com")
    with database.read() as connection:
        assert find_number_by_recipient(connection, batch.campaign, "c7") == 7
        assert find_number_by_recipient(connection, batch.campaign, "seven@example.com") == 7
        with pytest.raises(NotFound, match=r"no customer 'c77'; did you mean .*c7"):
            find_number_by_recipient(connection, batch.campaign, "c77")


def test_another_audience_is_not_searched(database: Database, batch: Batch) -> None:
    other = make_batch(database, Plan(name="other"))
    with database.write() as connection:
        connection.execute(
            sa.update(customers)
            .where(customers.c.audience_id == other.campaign.audience_id)
            .values(customer_id=sa.literal("x") + customers.c.customer_id)
        )
    assert find(database, other, "xc3") == 3
    with pytest.raises(NotFound):
        find(database, batch, "xc3")
