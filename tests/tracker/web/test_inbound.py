"""The inbound API: reports of gateways are stored, and the workers' steps apply them."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tests.support.bounce_messages import make_bounce
from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    find_violations,
    in_gateway,
    make_batch,
    make_campaign,
    make_sibling,
    move,
    read_states,
    run_concurrently,
    step_context,
)
from tests.support.statements import executed
from tests.support.web import TOKEN, live_page_client
from tracker.clock import Instant, from_seconds, to_datetime
from tracker.message_ids import MessageId
from tracker.queries import acceptances
from tracker.queries.report import make_reports
from tracker.queries.timeline import read_timeline
from tracker.record import inbound
from tracker.record.catalog import Batch
from tracker.record.customers.shared_addresses import record_shared_addresses
from tracker.record.due import DueKind
from tracker.record.engagement import EngagementEvent, read_engagement_counts
from tracker.record.journal import Move, enqueue_batch, open_entry
from tracker.record.rollup import roll_up_engagement
from tracker.record.suppressions.entries import Selection, read_entries
from tracker.settings import Settings
from tracker.status import Channel, Engagement, ReceiptVerdict, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, customers
from tracker.store.schema.work import reports
from tracker.web.inbound.reports import MAX_REPORT_ITEMS
from tracker.web.inbound.routes import MAX_BOUNCE_BYTES, MAX_REPORT_BYTES, RateLimiter
from workers.gateways.base import PollResult
from workers.steps import at_gateway

BEARER = {"Authorization": f"Bearer {TOKEN}"}


class SilentGateway:
    """A gateway whose polls return nothing: it reports instead."""

    def submit(self, *_: object) -> Any:
        raise NotImplementedError

    def receipts(self, *_: object) -> PollResult[Any]:
        return PollResult([], None)

    def engagement(self, *_: object) -> PollResult[Any]:
        return PollResult([], None)


Notifications = list[tuple[int, int, DueKind, bool]]
"""Campaign, batch, kind and whether the task is a one-off, of each task that was enqueued."""


@pytest.fixture
def notifications() -> Notifications:
    return []


@pytest.fixture
def client(
    database: Database, settings: Settings, notifications: Notifications
) -> Iterator[TestClient]:
    def notify(campaign_id: int, batch: int, kind: DueKind, *, is_one_off: bool) -> None:
        notifications.append((campaign_id, batch, kind, is_one_off))

    changes = {"notify_workers": notify}
    with live_page_client(database, settings, changes, token=SecretStr(TOKEN)) as client:
        yield client


@pytest.fixture
def batch(database: Database) -> Batch:
    """Ten messages; 0 to 7 are in the gateway."""
    batch = make_batch(database, Plan(tracks_engagement=True))
    move(database, batch, list(range(8)), READY, in_gateway(1))
    return batch


def receipt(batch: Batch, number: int, status: str = "delivered", **changes: Any) -> Any:
    return {
        "campaign": batch.campaign.id,
        "number": number,
        "attempt": 1,
        "status": status,
        "at": now(batch),
    } | changes


def event(batch: Batch, number: int, kind: str) -> Any:
    return {"campaign": batch.campaign.id, "number": number, "kind": kind, "at": now(batch)}


def now(batch: Batch) -> str:
    return to_datetime(batch.campaign.clock.now()).isoformat()


def deliver(database: Database, batch: Batch) -> None:
    at_gateway.deliver(step_context(database, batch), SilentGateway())


def count_stored(database: Database) -> int:
    """Return how many reported items wait for a step."""
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(reports)) or 0


def test_the_step_applies_reported_receipts(
    batch: Batch, client: TestClient, database: Database, notifications: Notifications
) -> None:
    items = [
        *(receipt(batch, number) for number in (0, 1, 2)),
        receipt(batch, 3, "hard_bounced", detail="5.1.1 no such user"),
        receipt(batch, 4, "soft_bounced"),
        receipt(batch, 5, "not_delivered"),
    ]
    response = client.post("/api/receipts", json=items, headers=BEARER)
    assert response.status_code == 202, response.text
    assert response.json() == {"taken": 6, "batches": 1, "queued": True, "refused": []}
    assert read_states(database, batch)[0] == in_gateway(1)
    assert notifications == [(batch.campaign.id, 0, DueKind.RECEIPTS, True)]
    deliver(database, batch)
    statuses = [state.status for state in read_states(database, batch).values()]
    assert statuses[:7] == [
        *[Status.DELIVERED] * 3,
        Status.HARD_BOUNCED,
        Status.SOFT_BOUNCED,
        Status.NOT_DELIVERED,
        Status.IN_GATEWAY,
    ]
    assert count_stored(database) == 0
    assert find_violations(database, batch.campaign) == []


def test_a_repeated_report_changes_nothing(
    batch: Batch, client: TestClient, database: Database
) -> None:
    items = [receipt(batch, number) for number in range(4)]
    statuses = run_concurrently(
        *[lambda: client.post("/api/receipts", json=items, headers=BEARER).status_code] * 4
    )
    assert statuses == [202] * 4
    deliver(database, batch)
    client.post("/api/receipts", json=items, headers=BEARER)
    deliver(database, batch)
    assert [state.status for state in read_states(database, batch).values()][:5] == [
        *[Status.DELIVERED] * 4,
        Status.IN_GATEWAY,
    ]
    with database.read() as connection:
        assert not acceptances.count_refused_receipts(connection, [batch.campaign.id])[
            batch.campaign.id
        ]
    assert find_violations(database, batch.campaign) == []


def test_a_report_is_due_for_its_batch_even_if_its_task_is_lost(
    batch: Batch, client: TestClient, database: Database
) -> None:
    client.post("/api/receipts", json=[receipt(batch, 0)], headers=BEARER)
    with database.read() as connection:
        due = connection.scalar(sa.select(batches.c.receipts_due_at))
    assert due is not None
    assert due <= batch.campaign.clock.now()
    deliver(database, batch)
    with database.read() as connection:
        assert connection.scalar(sa.select(batches.c.receipts_due_at)) is None


def test_only_an_idle_batch_gets_a_task_that_continues_its_chain(
    database: Database, client: TestClient, notifications: Notifications
) -> None:
    made = make_batch(database)
    move(database, made, list(range(10)), READY, in_gateway(1))
    client.post("/api/receipts", json=[receipt(made, 0)], headers=BEARER)
    client.post("/api/receipts", json=[receipt(made, 1)], headers=BEARER)
    assert [is_one_off for *_, is_one_off in notifications] == [False, True]


def test_receipts_that_do_not_apply_are_counted(
    batch: Batch, client: TestClient, database: Database
) -> None:
    client.post("/api/receipts", json=[receipt(batch, 0)], headers=BEARER)
    deliver(database, batch)
    items = [
        receipt(batch, 0, "soft_bounced"),
        receipt(batch, 10),
        receipt(batch, 2**62),
        receipt(batch, 1, attempt=3),
    ]
    assert client.post("/api/receipts", json=items, headers=BEARER).status_code == 202
    deliver(database, batch)
    with database.read() as connection:
        refused = acceptances.count_refused_receipts(connection, [batch.campaign.id])
    assert refused[batch.campaign.id] == {ReceiptVerdict.DUPLICATE: 1, ReceiptVerdict.UNKNOWN: 3}


def test_a_receipt_that_precedes_the_recorded_handover_waits(
    batch: Batch, client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(database, batch, [8, 9], READY)
    client.post("/api/receipts", json=[receipt(batch, 8), receipt(batch, 0)], headers=BEARER)
    deliver(database, batch)
    assert read_states(database, batch)[0].status is Status.DELIVERED
    assert count_stored(database) == 1
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=now) as written:
        written.move(Move(numbers=[8], source=READY, target=in_gateway(1), at=now))
    deliver(database, batch)
    assert read_states(database, batch)[8].status is Status.DELIVERED
    client.post("/api/receipts", json=[receipt(batch, 9)], headers=BEARER)
    monkeypatch.setattr(inbound, "MAX_REPORT_WAIT", -inbound.MAX_REPORT_WAIT)
    deliver(database, batch)
    assert count_stored(database) == 0, "it waits for MAX_REPORT_WAIT at most"
    with database.read() as connection:
        refused = acceptances.count_refused_receipts(connection, [batch.campaign.id])
    assert refused[batch.campaign.id] == {ReceiptVerdict.UNKNOWN: 1}


def test_items_are_stored_with_their_own_batches(
    database: Database, client: TestClient, notifications: Notifications
) -> None:
    campaign = make_campaign(database, Plan(size=30))
    campaign_batches = [
        enqueue_batch(database, campaign, batch=number, first=10 * number, size=10, author=AUTHOR)
        for number in range(3)
    ]
    for batch in campaign_batches:
        move(database, batch, list(range(batch.first, batch.first + 10)), READY, in_gateway(1))
    items = [receipt(campaign_batches[0], number) for number in (0, 9, 10, 29)]
    response = client.post("/api/receipts", json=items, headers=BEARER)
    assert response.json()["batches"] == 3
    for batch in campaign_batches:
        deliver(database, batch)
    delivered = [
        number
        for batch in campaign_batches
        for number, state in read_states(database, batch).items()
        if state.status is Status.DELIVERED
    ]
    assert delivered == [0, 9, 10, 29]


def test_engagement_of_delivered_messages_is_recorded(
    batch: Batch, client: TestClient, database: Database
) -> None:
    client.post("/api/receipts", json=[receipt(batch, n) for n in (0, 1)], headers=BEARER)
    deliver(database, batch)
    items = [event(batch, 0, "clicked"), event(batch, 1, "unsubscribed"), event(batch, 7, "opened")]
    assert client.post("/api/engagement", json=items, headers=BEARER).status_code == 202
    at_gateway.engage(step_context(database, batch), SilentGateway())
    at_gateway.engage(step_context(database, batch), SilentGateway())
    roll_up_engagement(database, UTC)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
        counts = read_engagement_counts(connection, [batch.campaign.id])[batch.campaign.id]
    assert counts.recipients[Engagement.OPENED] == 2
    assert counts.recipients[Engagement.CLICKED] == 2
    assert report.engagement[Engagement.UNSUBSCRIBED] == 1
    assert count_stored(database) == 1, "the event of a message that may still be delivered waits"


UNUSABLE: Sequence[tuple[dict[str, Any], str]] = [
    ({"status": "opened"}, "status"),
    ({"status": "in_gateway"}, "status"),
    ({"attempt": 0}, "attempt"),
    ({"attempt": "0"}, "attempt"),
    ({"attempt": True}, "attempt"),
    ({"number": -1}, "number"),
    ({"number": 1.5}, "number"),
    ({"number": "one"}, "number"),
    ({"number": " 1"}, "number"),
    ({"number": 10**30}, "number"),
    ({"number": "9" * 5_000}, "number"),
    ({"at": "2026-11-24T12:00:00"}, "at"),
    ({"at": "yesterday"}, "at"),
    ({"at": "0001-01-01T00:00:00Z"}, "at"),
    ({"at": "9999-12-31T23:59:59-14:00"}, "at"),
    ({"at": "1969-12-31T23:59:59Z"}, "at"),
    ({"at": "2101-01-01T00:00:00Z"}, "at"),
    ({"at": "2100-01-01T00:00:00Z"}, "at"),
    ({"at": 1_764_500_000}, "at"),
    ({"at": 10**400}, "at"),
    ({"at": 1_764_500_000.5}, "at"),
    ({"at": "1764500000"}, "at"),
    ({"at": None}, "at"),
    ({"colour": "red"}, "colour"),
    ({"campaign": 99}, "campaign"),
    ({"campaign": "99"}, "campaign"),
    ({"detail": 5}, "detail"),
    ({"detail": "\ud800"}, "detail"),
]
"""Changes of a receipt after which it can't be used, and the field that is named as the cause."""


def test_an_item_that_cannot_be_used_does_not_refuse_the_others(
    batch: Batch, client: TestClient, database: Database
) -> None:
    unusable = [receipt(batch, 1) | change for change, _ in UNUSABLE]
    items = [*unusable, "no object", receipt(batch, 0)]
    places = [["body", place, field] for place, (_, field) in enumerate(UNUSABLE)]
    places.append(["body", len(UNUSABLE)])
    body = json.dumps(items)
    headers = {**BEARER, "Content-Type": "application/json"}

    strict = client.post("/api/receipts?strict=1", content=body, headers=headers)
    assert strict.status_code == 422
    assert [problem["loc"] for problem in strict.json()["detail"]] == places
    assert count_stored(database) == 0

    response = client.post("/api/receipts", content=body, headers=headers)
    assert response.status_code == 207
    result = response.json()
    assert (result["taken"], result["batches"], result["queued"]) == (1, 1, True)
    assert [problem["loc"] for problem in result["refused"]] == places
    assert all(problem["msg"] for problem in result["refused"])
    deliver(database, batch)
    assert read_states(database, batch)[0].status is Status.DELIVERED
    assert read_states(database, batch)[1] == in_gateway(1)

    nothing_usable = client.post("/api/receipts", json=unusable[:1], headers=BEARER)
    assert nothing_usable.status_code == 422
    assert nothing_usable.json()["detail"][0]["loc"] == places[0]


def test_numbers_may_be_texts_and_json_may_be_sent_as_text(
    batch: Batch, client: TestClient, database: Database
) -> None:
    texts = {"campaign": str(batch.campaign.id), "number": "0", "attempt": "1"}
    headers = {**BEARER, "Content-Type": "text/plain; charset=UTF-8"}
    body = json.dumps([receipt(batch, 0) | texts])
    assert client.post("/api/receipts", content=body, headers=headers).status_code == 202
    deliver(database, batch)
    assert read_states(database, batch)[0].status is Status.DELIVERED


def test_a_time_that_is_somewhat_ahead_counts_as_now(
    batch: Batch, database: Database, settings: Settings
) -> None:
    ahead = to_datetime(batch.campaign.clock.now() + from_seconds(600)).isoformat()
    opt_out = event(batch, 0, "unsubscribed") | {"at": ahead}
    with live_page_client(database, settings, token=SecretStr(TOKEN)) as client:
        items = [receipt(batch, 0, at=ahead)]
        assert client.post("/api/receipts", json=items, headers=BEARER).status_code == 202
        assert client.post("/api/engagement", json=[opt_out], headers=BEARER).status_code == 202
    deliver(database, batch)
    at_gateway.engage(step_context(database, batch), SilentGateway())
    now = to_datetime(batch.campaign.clock.now())
    with database.read() as connection:
        timeline = read_timeline(connection, batch.campaign, 0)
    assert timeline.events[-1].status is Status.DELIVERED
    entries = timeline.entries()
    assert len(entries) == 7
    assert all(entry.at is not None and entry.at <= now for entry in entries)
    with live_page_client(
        database, settings, token=SecretStr(TOKEN), clock_tolerance=60.0
    ) as client:
        response = client.post("/api/receipts", json=[receipt(batch, 1, at=ahead)], headers=BEARER)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", 0, "at"]


def read_opted_out(database: Database, channel: Channel) -> list[int]:
    """Return the numbers of the customers who get no more messages on a channel."""
    query = sa.select(customers.c.number).where(customers.c[f"unsubscribed_{channel}"])
    with database.read() as connection:
        return list(connection.scalars(query.order_by(customers.c.number)))


def test_an_opt_out_counts_at_once_whether_the_message_arrived_or_not(
    batch: Batch, client: TestClient, database: Database
) -> None:
    kinds = ("unsubscribed", "spam", "opened")
    items = [event(batch, number, kind) for number, kind in enumerate(kinds)]
    assert client.post("/api/engagement", json=items, headers=BEARER).status_code == 202
    assert read_opted_out(database, Channel.EMAIL) == [0, 1], "before any step"
    at_gateway.engage(step_context(database, batch), SilentGateway())
    assert count_stored(database) == 1, "the open waits for the delivery, the opt-outs don't"
    client.post("/api/receipts", json=[receipt(batch, number) for number in (0, 1)], headers=BEARER)
    deliver(database, batch)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    assert report.engagement == {Engagement.UNSUBSCRIBED: 1, Engagement.SPAM: 1}
    assert find_violations(database, batch.campaign) == []


def test_opt_outs_lock_the_organizations_of_shared_addresses_in_one_order(
    database: Database, client: TestClient
) -> None:
    """Otherwise two reports about campaigns of several organizations could deadlock."""
    address = {number: {"email_key": "ana@shop.example"} for number in range(2)}
    one, two = (make_campaign(database, Plan(size=2), address) for _ in range(2))
    organization_ids = [one.organization.id, two.organization.id]
    with database.write() as connection:
        for organization_id in organization_ids:
            record_shared_addresses(connection, organization_id, ())
    campaigns = [one, two, make_sibling(database, one, "later")]
    batches = [
        enqueue_batch(database, campaign, batch=0, first=0, size=2, author=AUTHOR)
        for campaign in campaigns
    ]
    events = [event(batch, 0, "unsubscribed") for batch in batches]
    with executed(database) as statements:
        response = client.post("/api/engagement", headers=BEARER, json=events)
    assert response.status_code == 202, response.text
    locked = [
        next(iter(parameters.values() if isinstance(parameters, dict) else parameters))
        for statement, parameters in statements
        if re.match(r"SELECT organizations\.credit\w*\s+FROM organizations", statement)
    ]
    assert locked == [organization_ids[0], organization_ids[0], organization_ids[1]]


def test_an_opt_out_is_listed_at_once_where_the_organization_keeps_a_list(
    client: TestClient, database: Database
) -> None:
    people = {0: {"email_key": "ana@shop.test"}, 1: {"email_key": "bo@shop.test"}}
    batch = make_batch(database, Plan(keeps_suppressions=True), people)
    move(database, batch, list(range(8)), READY, in_gateway(1))
    items = [event(batch, 0, "unsubscribed"), event(batch, 1, "spam"), event(batch, 2, "spam")]
    assert client.post("/api/engagement", json=items, headers=BEARER).status_code == 202
    with database.read() as connection:
        entries = [*read_entries(connection, Selection(organization="Acme"))]
    assert [(entry.recipient.address, entry.reason.value) for entry in entries] == [
        ("bo@shop.test", "spam"),
        ("ana@shop.test", "unsubscribed"),
    ]


class EagerGateway(SilentGateway):
    """A gateway whose polls return an open of message 0, whatever the record says of it."""

    def __init__(self, opened_at: Instant) -> None:
        self._opened_at = opened_at

    def engagement(self, *_: object) -> PollResult[Any]:
        return PollResult([EngagementEvent(0, Engagement.OPENED, self._opened_at)], None)


def test_polled_engagement_that_precedes_the_delivery_waits_for_it(
    batch: Batch, client: TestClient, database: Database
) -> None:
    client.post("/api/receipts", json=[receipt(batch, 1)], headers=BEARER)
    deliver(database, batch)
    opened_at = batch.campaign.clock.now()
    at_gateway.engage(step_context(database, batch), EagerGateway(opened_at))
    client.post("/api/receipts", json=[receipt(batch, 0)], headers=BEARER)
    deliver(database, batch)
    at_gateway.engage(step_context(database, batch), SilentGateway())
    roll_up_engagement(database, UTC)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    assert report.engagement == {Engagement.OPENED: 1}
    assert find_violations(database, batch.campaign) == []


def test_an_sms_can_be_unsubscribed_from_but_not_opened(
    client: TestClient, database: Database
) -> None:
    batch = make_batch(database, Plan(channel=Channel.SMS))
    move(database, batch, range(3), READY, in_gateway(1))
    opened = client.post("/api/engagement", json=[event(batch, 0, "opened")], headers=BEARER)
    assert opened.status_code == 422
    assert opened.json()["detail"][0]["loc"] == ["body", 0, "kind"]
    stop = client.post("/api/engagement", json=[event(batch, 0, "unsubscribed")], headers=BEARER)
    assert stop.status_code == 202
    assert read_opted_out(database, Channel.SMS) == [0]
    assert read_opted_out(database, Channel.EMAIL) == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "{}",
        "null",
        "[]",
        "[null]",
        "[[[[[[]]]]]]",
        "[NaN]",
        "[1e999]",
        "[" * 100_000,
        '[{"\\ud800": 1}]',
    ],
)
def test_an_invalid_body_is_refused(batch: Batch, client: TestClient, body: str) -> None:
    headers = {**BEARER, "Content-Type": "application/json"}
    response = client.post("/api/receipts", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["detail"]


def test_a_detail_is_stored_without_unstorable_characters(
    batch: Batch, client: TestClient, database: Database
) -> None:
    headers = {**BEARER, "Content-Type": "application/json"}
    for detail, status in (("a\\u0000b<script>", 202), ("\\ud800", 422)):
        body = json.dumps([receipt(batch, 0)])[:-2] + f', "detail": "{detail}"}}]'
        response = client.post("/api/receipts", content=body, headers=headers)
        assert response.status_code == status, response.text
    deliver(database, batch)
    with database.read() as connection:
        assert read_timeline(connection, batch.campaign, 0).events[-1].detail == "ab<script>"


def test_too_many_items_too_many_bytes_and_other_media_types_are_refused(
    batch: Batch, client: TestClient
) -> None:
    many = [receipt(batch, 0)] * (MAX_REPORT_ITEMS + 1)
    assert client.post("/api/receipts", json=many, headers=BEARER).status_code == 413
    headers = {**BEARER, "Content-Type": "application/json"}
    large = b"[" + b" " * MAX_REPORT_BYTES + b"]"
    assert client.post("/api/receipts", content=large, headers=headers).status_code == 413
    form = {**BEARER, "Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/api/receipts", content="[]", headers=form).status_code == 415


def test_reports_need_the_bearer_token(batch: Batch, client: TestClient) -> None:
    items = [receipt(batch, 0)]
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        response = client.post("/api/receipts", json=items, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    basic = client.post("/api/receipts", json=items, auth=("anyone", TOKEN))
    assert basic.status_code == 401, "browsers send passwords with every request"


def test_reports_are_refused_where_no_token_is_set(
    batch: Batch, database: Database, settings: Settings
) -> None:
    with live_page_client(database, settings) as client:
        response = client.post("/api/receipts", json=[receipt(batch, 0)])
    assert response.status_code == 401
    assert "SENDTRACE_TOKEN" in response.json()["detail"]


def test_reports_beyond_the_rate_limit_are_refused(
    batch: Batch, database: Database, settings: Settings
) -> None:
    with live_page_client(
        database, settings, token=SecretStr(TOKEN), reports_per_second=0.001
    ) as client:
        responses = [client.post("/api/receipts", json=[], headers=BEARER) for _ in range(2)]
    assert [response.status_code for response in responses] == [422, 429]
    assert 1 <= int(responses[-1].headers["Retry-After"]) <= 1_000


def test_the_rate_limiter_refills_at_its_rate_up_to_its_burst() -> None:
    now = [0.0]
    limiter = RateLimiter(2, lambda: now[0])
    assert [limiter.acquire() for _ in range(5)] == [0, 0, 0, 0, 0.5]
    now[0] += 0.5
    assert [limiter.acquire() for _ in range(2)] == [0, 0.5]
    now[0] += 60
    assert [limiter.acquire() for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_a_report_is_stored_while_the_broker_is_unavailable(
    batch: Batch, database: Database, settings: Settings
) -> None:
    broker_url = "redis://127.0.0.1:1/0"
    with live_page_client(
        database, settings, token=SecretStr(TOKEN), broker_url=broker_url
    ) as client:
        response = client.post("/api/receipts", json=[receipt(batch, 0)], headers=BEARER)
    assert response.status_code == 202
    assert response.json() == {"taken": 1, "batches": 1, "queued": False, "refused": []}
    deliver(database, batch)
    assert read_states(database, batch)[0].status is Status.DELIVERED


def make_bounce_of(batch: Batch, number: int, **changes: Any) -> bytes:
    """Return a bounce message about an email of a batch."""
    return make_bounce(batch.campaign.message_id(number), **changes)


def post_bounce(client: TestClient, content: bytes) -> Any:
    headers = BEARER | {"Content-Type": "message/rfc822"}
    return client.post("/api/bounces", content=content, headers=headers)


def test_bounce_messages_are_applied_as_receipts(
    batch: Batch, client: TestClient, database: Database, notifications: Notifications
) -> None:
    move(database, batch, [8], READY)
    bounces = {
        0: make_bounce_of(batch, 0),
        1: make_bounce_of(batch, 1, status="5.2.2", diagnostic=""),
        2: make_bounce_of(batch, 2, diagnostic="smtp; 554 5.7.1 relaying denied"),
        3: make_bounce_of(batch, 3, action="delivered"),
    }
    for content in bounces.values():
        response = post_bounce(client, content)
        assert (response.status_code, response.json()["taken"]) == (202, 1), response.text
    assert notifications[0] == (batch.campaign.id, 0, DueKind.RECEIPTS, True)
    delayed = post_bounce(client, make_bounce_of(batch, 4, action="delayed"))
    assert delayed.json() == {"taken": 0, "batches": 0, "queued": False, "refused": []}
    deliver(database, batch)
    assert [state.status for state in read_states(database, batch).values()][:5] == [
        Status.HARD_BOUNCED,
        Status.SOFT_BOUNCED,
        Status.NOT_DELIVERED,
        Status.DELIVERED,
        Status.IN_GATEWAY,
    ]
    post_bounce(client, bounces[0])
    deliver(database, batch)
    assert count_stored(database) == 0
    assert find_violations(database, batch.campaign) == []


def test_an_email_that_was_delivered_may_bounce_later(
    batch: Batch, client: TestClient, database: Database
) -> None:
    client.post("/api/receipts", json=[receipt(batch, 0)], headers=BEARER)
    deliver(database, batch)
    post_bounce(client, make_bounce_of(batch, 0))
    deliver(database, batch)
    assert read_states(database, batch)[0].status is Status.HARD_BOUNCED


@pytest.mark.parametrize("kind", ["none", "foreign", "unsent", "other campaign", "no message"])
def test_bounce_messages_about_other_emails_are_refused(
    batch: Batch, client: TestClient, database: Database, kind: str
) -> None:
    campaign = batch.campaign
    contents = {
        "none": b"Subject: away\n\nI am away.\n",
        "foreign": make_bounce(MessageId(0, campaign.id, "0" * 12)),
        "unsent": make_bounce_of(batch, 9),
        "other campaign": make_bounce(campaign.message_id(0)._replace(campaign_id=9_999_999_999)),
        "no message": make_bounce_of(batch, 9_999_999_999),
    }
    response = post_bounce(client, contents[kind])
    assert response.status_code == (404 if kind == "no message" else 422), response.text
    assert count_stored(database) == 0


def test_bounce_messages_need_the_token_and_are_limited_in_size(
    batch: Batch, client: TestClient
) -> None:
    content = make_bounce_of(batch, 0)
    assert client.post("/api/bounces", content=content).status_code == 401
    assert post_bounce(client, content.ljust(MAX_BOUNCE_BYTES)).status_code == 202
    assert post_bounce(client, content.ljust(MAX_BOUNCE_BYTES + 1)).status_code == 413
