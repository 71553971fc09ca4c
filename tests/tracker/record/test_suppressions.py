"""Suppression lists: what runs add to them, what a run begins with, and what people change."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    in_gateway,
    make_batch,
    make_campaign,
    move,
    run_concurrently,
)
from tests.support.statements import executed
from tracker.record import receipts
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent, record_engagement
from tracker.record.journal import open_entry
from tracker.record.receipts import Receipt
from tracker.record.suppressions.entries import (
    Recipient,
    Selection,
    Suppression,
    add_entries,
    list_organizations,
    read_entries,
    remove_entries,
)
from tracker.record.suppressions.snapshot import (
    apply_copy,
    copy_list,
    keep_imported_facts,
    record_summary,
    summarize_copy,
)
from tracker.status import Channel, Engagement, Status, Step, SuppressionReason
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.suppressions import suppressions

EMAIL, SMS = Channel.EMAIL, Channel.SMS
UNSUBSCRIBED, SPAM, NDNC, HARD, SOFT = SuppressionReason

KEEPING = Plan(size=4, attempts=1, keeps_suppressions=True)
PEOPLE = {
    number: {"email_key": f"{name}@shop.test", "mobile_key": f"+44770090000{number}"}
    for number, name in enumerate(["ana", "bo", "cy"])
}
"""The fourth customer has no key, as generated ones and those who force an outcome."""


def entry(address: str, reason: SuppressionReason = UNSUBSCRIBED, **changes: Any) -> Suppression:
    channel = EMAIL if "@" in address else SMS
    plain = Suppression(Recipient(channel, address), reason, 1, "cli", 100, None)
    return replace(plain, **changes)


def add(database: Database, *entries: Suppression, now: int = 0) -> int:
    with database.write() as connection:
        return add_entries(database, connection, "Acme", entries, now)


def read_list(database: Database, **selection: Any) -> list[Suppression]:
    with database.read() as connection:
        return [*read_entries(connection, Selection(organization="Acme", **selection))]


def read_facts(database: Database) -> list[tuple[str, str, int]]:
    return [
        (entry.recipient.address, entry.reason.value, entry.count) for entry in read_list(database)
    ]


def deliver(database: Database, batch: Batch, outcomes: Sequence[Status]) -> None:
    """Report the outcomes of the first messages, which are in the gateway."""
    now = batch.campaign.clock.now()
    reported = [Receipt(number, 1, status, now) for number, status in enumerate(outcomes)]
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as written:
        receipts.apply_receipts(written, reported)


def bounce(
    database: Database, batch: Batch, numbers: Sequence[int], *, fails: bool = False
) -> None:
    """Report hard bounces one after the other, within one step, which may fail at its end."""
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as written:
        for number in numbers:
            receipts.apply_receipts(written, [Receipt(number, 1, Status.HARD_BOUNCED, now)])
        if fails:
            raise ZeroDivisionError


def make_sent_batch(database: Database, plan: Plan = KEEPING) -> Batch:
    batch = make_batch(database, plan, PEOPLE)
    move(database, batch, range(4), READY, in_gateway(1))
    return batch


def test_bounces_are_listed_for_recipients_who_are_compared(database: Database) -> None:
    batch = make_sent_batch(database)
    deliver(
        database,
        batch,
        [Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.DELIVERED, Status.HARD_BOUNCED],
    )
    assert read_facts(database) == [
        ("ana@shop.test", "hard_bounced", 1),
        ("bo@shop.test", "soft_bounced", 1),
    ]
    [ana, _] = read_list(database)
    assert ana.source == f"run {batch.campaign.run_id}, campaign spring"
    assert ana.expires_at is None


def test_bounces_of_runs_add_up_and_a_delivery_resets_the_soft_ones(database: Database) -> None:
    for outcomes, counts in [
        ([Status.HARD_BOUNCED, Status.SOFT_BOUNCED], {"hard_bounced": 1, "soft_bounced": 1}),
        ([Status.HARD_BOUNCED, Status.SOFT_BOUNCED], {"hard_bounced": 2, "soft_bounced": 2}),
        ([Status.DELIVERED, Status.DELIVERED], {"hard_bounced": 2}),
    ]:
        deliver(database, make_sent_batch(database), outcomes)
        assert {reason: count for _, reason, count in read_facts(database)} == counts


OUTCOMES = st.sampled_from([Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.DELIVERED])


@given(st.lists(st.tuples(OUTCOMES, OUTCOMES, OUTCOMES), min_size=1, max_size=4))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_list_has_the_bounces_of_all_runs(
    database: Database, runs: list[tuple[Status, ...]]
) -> None:
    with database.write() as connection:
        remove_entries(connection, Selection(organization="Acme"))
    for outcomes in runs:
        deliver(database, make_sent_batch(database), outcomes)
    expected = []
    for name, own in zip(["ana", "bo", "cy"], zip(*runs, strict=True), strict=True):
        since = own[::-1].index(Status.DELIVERED) if Status.DELIVERED in own else len(own)
        counts = {
            "hard_bounced": own.count(Status.HARD_BOUNCED),
            "soft_bounced": own[len(own) - since :].count(Status.SOFT_BOUNCED),
        }
        expected += [(f"{name}@shop.test", *count) for count in counts.items() if count[1]]
    assert sorted(read_facts(database)) == sorted(expected)


def test_a_soft_bounce_counts_on_the_last_attempt_only(database: Database) -> None:
    deliver(
        database, make_sent_batch(database, replace(KEEPING, attempts=2)), [Status.SOFT_BOUNCED]
    )
    assert read_list(database) == []


def test_customers_with_one_address_make_one_entry(database: Database) -> None:
    same = {number: {"email_key": "ana@shop.test"} for number in range(3)}
    batch = make_batch(database, KEEPING, same)
    move(database, batch, range(4), READY, in_gateway(1))
    deliver(database, batch, [Status.HARD_BOUNCED] * 3)
    assert read_facts(database) == [("ana@shop.test", "hard_bounced", 3)]


def test_opt_outs_are_listed_by_their_kind_and_channel(database: Database) -> None:
    batch = make_sent_batch(database, replace(KEEPING, channel=SMS))
    now = batch.campaign.clock.now()
    kinds = [Engagement.UNSUBSCRIBED, Engagement.SPAM, Engagement.CLICKED, Engagement.SPAM]
    events = [EngagementEvent(number, kind, now) for number, kind in enumerate(kinds)]
    for _ in range(2):
        with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=now) as written:
            record_engagement(written, events)
    assert read_facts(database) == [
        ("+447700900001", "spam", 1),
        ("+447700900000", "unsubscribed", 1),
    ]


def test_without_keep_no_statement_is_added(database: Database) -> None:
    statements = []
    for plan in (replace(KEEPING, keeps_suppressions=False), KEEPING):
        batch = make_sent_batch(database, plan)
        with executed(database) as texts:
            deliver(database, batch, [Status.HARD_BOUNCED, Status.DELIVERED])
        statements.append([text for text, _ in texts if re.search(r"\bsuppressions\b", text)])
    assert not statements[0]
    assert statements[1]


def test_a_rolled_back_step_lists_nothing(database: Database) -> None:
    batch = make_sent_batch(database)
    with pytest.raises(ZeroDivisionError):
        bounce(database, batch, [0, 1], fails=True)
    assert read_list(database) == []


def test_runs_of_one_organization_at_the_same_time_lose_no_entry(database: Database) -> None:
    batches = [make_sent_batch(database) for _ in range(4)]
    orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]]

    pairs = zip(batches, orders, strict=True)
    run_concurrently(*(partial(bounce, database, batch, order) for batch, order in pairs))
    assert [count for _, _, count in read_facts(database)] == [4, 4, 4]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param({}, {"source": "b", "since": 7}, {}, id="the first source and date stay"),
        pytest.param({"count": 2}, {}, {"count": 2}, id="the larger count stays"),
        pytest.param({}, {"count": 3}, {"count": 3}, id="the larger count replaces"),
        pytest.param({"expires_at": 90}, {}, {"expires_at": None}, id="never is the latest"),
        pytest.param({}, {"expires_at": 90}, {"expires_at": None}, id="never stays"),
        pytest.param(
            {"expires_at": 60}, {"expires_at": 90}, {"expires_at": 90}, id="the later time counts"
        ),
        pytest.param(
            {"expires_at": 90}, {"expires_at": 60}, {"expires_at": 90}, id="the later time stays"
        ),
    ],
)
def test_an_entry_that_is_added_again(
    database: Database, old: dict[str, Any], new: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert add(database, entry("ana@shop.test", HARD, **old), now=50) == 1
    assert add(database, entry("ana@shop.test", HARD, **new), now=50) == 0
    assert read_list(database) == [entry("ana@shop.test", HARD, **expected)]


def test_an_expired_entry_is_replaced(database: Database) -> None:
    add(database, entry("ana@shop.test", HARD, count=5, expires_at=60))
    renewed = entry("ana@shop.test", HARD, source="b", since=70, expires_at=90)
    assert add(database, renewed, now=60) == 1
    assert read_list(database) == [renewed]


def test_a_bounce_of_a_run_begins_again_after_the_expiry(database: Database) -> None:
    add(database, entry("ana@shop.test", HARD, count=5, expires_at=60))
    deliver(database, make_sent_batch(database), [Status.HARD_BOUNCED])
    assert read_facts(database) == [("ana@shop.test", "hard_bounced", 1)]


def test_entries_are_selected_and_removed(database: Database) -> None:
    ana, bo = entry("ana@shop.test"), entry("bo@shop.test", SPAM)
    number = entry("+447700900000", NDNC)
    assert add(database, ana, bo, number) == 3
    assert read_list(database) == [bo, ana, number]
    assert read_list(database, channel=SMS) == [number]
    assert read_list(database, reason=SPAM) == [bo]
    assert read_list(database, recipients=[ana.recipient, number.recipient]) == [ana, number]
    assert read_list(database, recipients=[Recipient(SMS, "ana@shop.test")]) == []
    with database.write() as connection:
        selection = Selection(organization="Acme", recipients=[bo.recipient])
        assert remove_entries(connection, selection) == 1
        assert remove_entries(connection, selection) == 0
        other = Selection(organization="Other")
        assert remove_entries(connection, other) == 0
    assert read_list(database) == [ana, number]


def begin_run(database: Database, now: int = 0, **people: Any) -> tuple[int, Any]:
    """Copy the list for a new run, apply it, and return the run's audience and the summary."""
    campaign = make_campaign(database, KEEPING, PEOPLE)
    with database.write() as connection:
        for number, values in people.items():
            connection.execute(
                sa.update(customers)
                .where(
                    customers.c.audience_id == campaign.audience_id,
                    customers.c.email_key == f"{number}@shop.test",
                )
                .values(values)
            )
        copy_list(connection, campaign.run_id, "Acme", now)
        summary = summarize_copy(connection, campaign.run_id, "Acme")
        record_summary(connection, campaign.organization.id, summary)
    keep_imported_facts(database, "Acme", campaign.audience_id, "customers.csv", now)
    with database.write() as connection:
        apply_copy(connection, campaign.run_id, "Acme", campaign.audience_id)
    return campaign.audience_id, summary


def read_customers(database: Database, audience_id: int, *names: str) -> list[tuple[Any, ...]]:
    query = (
        sa.select(*(customers.c[name] for name in names))
        .where(customers.c.audience_id == audience_id)
        .order_by(customers.c.number)
    )
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_a_run_begins_with_the_list_as_it_stands(database: Database) -> None:
    add(
        database,
        entry("ana@shop.test"),
        entry("bo@shop.test", SPAM),
        entry("+447700900002", NDNC),
        entry("bo@shop.test", HARD, count=2),
        entry("cy@shop.test", HARD, count=2),
        entry("nobody@shop.test"),
    )
    audience_id, summary = begin_run(database, cy={"hard_bounces_email": 3})
    assert summary.entries == 6
    columns = ("unsubscribed_email", "marked_spam_email", "unsubscribed_sms", "ndnc")
    assert read_customers(database, audience_id, *columns, "hard_bounces_email") == [
        (True, False, False, False, 0),
        (True, True, False, False, 2),
        (False, False, False, True, 3),
        (False, False, False, False, 0),
    ]


def test_expired_entries_do_not_count_for_a_run(database: Database) -> None:
    add(database, entry("ana@shop.test", expires_at=50), entry("bo@shop.test", expires_at=51))
    audience_id, summary = begin_run(database, now=50)
    assert summary.entries == 1
    assert read_customers(database, audience_id, "unsubscribed_email") == [
        (False,), (True,), (False,), (False,)
    ]  # fmt: skip


def test_the_digest_is_that_of_what_the_list_says(database: Database) -> None:
    ana, zoe = entry("ana@shop.test"), entry("Ä@shop.test", HARD, count=2)
    add(database, ana, zoe)
    _, summary = begin_run(database)
    with database.write() as connection:
        connection.execute(sa.update(suppressions).values(source="elsewhere", since=1))
    assert begin_run(database)[1] == summary
    add(database, replace(zoe, count=3))
    changed = begin_run(database)[1]
    assert (changed.entries, changed.digest != summary.digest) == (2, True)
    lines = "email\thard_bounced\tÄ@shop.test\t2\nemail\tunsubscribed\tana@shop.test\t1\n"
    assert summary.digest == hashlib.sha256(lines.encode()).hexdigest()


def test_what_a_file_says_of_its_customers_is_kept(database: Database) -> None:
    add(database, entry("bo@shop.test", expires_at=90))
    facts: dict[str, Any] = {
        "ana": {"unsubscribed_email": True, "ndnc": True},
        "cy": {"hard_bounces_email": 2, "hard_bounces_sms": 2},
    }
    _, summary = begin_run(database, **facts)
    assert summary.entries == 1
    assert read_facts(database) == [
        ("cy@shop.test", "hard_bounced", 2),
        ("ana@shop.test", "unsubscribed", 1),
        ("bo@shop.test", "unsubscribed", 1),
        ("+447700900002", "hard_bounced", 2),
        ("+447700900000", "ndnc", 1),
    ]
    [bo] = read_list(database, recipients=[Recipient(EMAIL, "bo@shop.test")])
    assert bo.expires_at == 90, "that the list suppresses a customer isn't a fact of the file"


def test_organizations_are_those_with_a_list_or_with_a_run_that_keeps(database: Database) -> None:
    make_campaign(database)
    with database.read() as connection:
        assert list_organizations(connection) == []
    begin_run(database)
    with database.write() as connection:
        add_entries(database, connection, "Zeta", [entry("ana@shop.test")], 0)
        assert list_organizations(connection) == ["Acme", "Zeta"]
