"""The doors in: what gateways report is kept, and applied by the workers' steps."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from pydantic import SecretStr

from simulator.web.serve import outside
from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    at_once,
    broken,
    in_gateway,
    make_batch,
    make_campaign,
    move,
    states,
)
from tracker.clock import to_datetime
from tracker.queries.report import make_reports
from tracker.queries.timeline import read_timeline
from tracker.record import inbound, receipts
from tracker.record.catalog import Batch
from tracker.record.due import DueKind
from tracker.record.engagement import read_engagement_counts
from tracker.record.journal import Move, enqueue_batch, open_entry
from tracker.record.rollup import roll_up_engagement
from tracker.settings import Settings
from tracker.status import Engagement, ReceiptVerdict, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.work import reports
from tracker.web.app import make_app
from tracker.web.inbound import MAX_REPORT_BYTES, MAX_REPORT_ITEMS, REPORT_BURST, RateLimiter
from workers.gateways.base import PollResult
from workers.steps import at_gateway

TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105  # nobody's
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Silent:
    """A gateway that never says by itself what became of messages."""

    def submit(self, *_: object) -> Any:
        raise NotImplementedError

    def receipts(self, *_: object) -> PollResult[Any]:
        return PollResult([], None)

    def engagement(self, *_: object) -> PollResult[Any]:
        return PollResult([], None)


Reminded = list[tuple[int, int, DueKind, bool]]


@pytest.fixture
def reminded() -> Reminded:
    return []


@pytest.fixture
def client(database: Database, settings: Settings, reminded: Reminded) -> Iterator[TestClient]:
    made = settings.model_copy(update={"token": SecretStr(TOKEN)})

    def remind(campaign_id: int, batch: int, what: DueKind, *, alone: bool) -> None:
        reminded.append((campaign_id, batch, what, alone))

    with outside(database, made) as shown:
        app = make_app(database, made, replace(shown, remind=remind))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            yield client


@pytest.fixture
def batch(database: Database) -> Batch:
    """Ten messages, of which 0 to 7 are in the gateway."""
    made = make_batch(database, Plan(tracks_engagement=True))
    move(database, made, list(range(8)), READY, in_gateway(1))
    return made


def receipt(batch: Batch, number: int, status: str = "delivered", **different: Any) -> Any:
    at = to_datetime(batch.campaign.clock.now()).isoformat()
    made = {"campaign": batch.campaign.id, "number": number, "attempt": 1, "status": status}
    return made | {"at": at} | different


def event(batch: Batch, number: int, kind: str) -> Any:
    at = to_datetime(batch.campaign.clock.now()).isoformat()
    return {"campaign": batch.campaign.id, "number": number, "kind": kind, "at": at}


def deliver(database: Database, batch: Batch) -> object:
    return at_gateway.deliver(database, batch, Silent(), AUTHOR)


def left(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(reports)) or 0


def test_what_is_reported_is_applied_by_the_step(
    batch: Batch, client: TestClient, database: Database, reminded: Reminded
) -> None:
    told = [
        *(receipt(batch, number) for number in (0, 1, 2)),
        receipt(batch, 3, "hard_bounced", detail="5.1.1 no such user"),
        receipt(batch, 4, "soft_bounced"),
        receipt(batch, 5, "not_delivered"),
    ]
    answer = client.post("/api/receipts", json=told, headers=BEARER)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"taken": 6, "batches": 1, "queued": True}
    assert states(database, batch)[0] == in_gateway(1), "nothing moves before the step"
    assert reminded == [(batch.campaign.id, 0, DueKind.RECEIPTS, True)]
    deliver(database, batch)
    found = [state.status for state in states(database, batch).values()]
    assert found[:7] == [
        *[Status.DELIVERED] * 3,
        *(Status.HARD_BOUNCED, Status.SOFT_BOUNCED, Status.NOT_DELIVERED, Status.IN_GATEWAY),
    ]
    assert left(database) == 0
    assert broken(database, batch.campaign) == []


def test_the_same_report_changes_nothing_again(
    batch: Batch, client: TestClient, database: Database
) -> None:
    told = [receipt(batch, number) for number in range(4)]
    answers = at_once(
        *[lambda: client.post("/api/receipts", json=told, headers=BEARER).status_code] * 4
    )
    assert answers == [202] * 4
    deliver(database, batch)
    client.post("/api/receipts", json=told, headers=BEARER)
    deliver(database, batch)
    assert [state.status for state in states(database, batch).values()][:5] == [
        *[Status.DELIVERED] * 4,
        Status.IN_GATEWAY,
    ]
    with database.read() as connection:
        assert not receipts.count_refused_receipts(connection, [batch.campaign.id])[
            batch.campaign.id
        ]
    assert broken(database, batch.campaign) == []


def test_a_batch_knows_that_something_was_reported_though_the_task_is_lost(
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


def test_a_batch_without_a_task_gets_one_that_goes_on(
    database: Database, client: TestClient, reminded: Reminded
) -> None:
    made = make_batch(database)
    move(database, made, list(range(10)), READY, in_gateway(1))
    client.post("/api/receipts", json=[receipt(made, 0)], headers=BEARER)
    client.post("/api/receipts", json=[receipt(made, 1)], headers=BEARER)
    assert [alone for *_, alone in reminded] == [False, True], "a second one would never end"


def test_receipts_that_do_not_count_are_put_down(
    batch: Batch, client: TestClient, database: Database
) -> None:
    client.post("/api/receipts", json=[receipt(batch, 0)], headers=BEARER)
    deliver(database, batch)
    told = [
        receipt(batch, 0, "soft_bounced"),
        receipt(batch, 10),
        receipt(batch, 2**62),
        receipt(batch, 1, attempt=3),
    ]
    assert client.post("/api/receipts", json=told, headers=BEARER).status_code == 202
    deliver(database, batch)
    with database.read() as connection:
        found = receipts.count_refused_receipts(connection, [batch.campaign.id])[batch.campaign.id]
    assert found == {ReceiptVerdict.DUPLICATE: 1, ReceiptVerdict.UNKNOWN: 3}


def test_a_receipt_that_comes_before_the_handover_is_on_record_waits(
    batch: Batch, client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(database, batch, [8, 9], READY)
    client.post("/api/receipts", json=[receipt(batch, 8), receipt(batch, 0)], headers=BEARER)
    deliver(database, batch)
    assert states(database, batch)[0].status is Status.DELIVERED
    assert left(database) == 1
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=now) as written:
        written.move(Move(numbers=[8], source=READY, target=in_gateway(1), at=now))
    deliver(database, batch)
    assert states(database, batch)[8].status is Status.DELIVERED
    client.post("/api/receipts", json=[receipt(batch, 9)], headers=BEARER)
    monkeypatch.setattr(inbound, "MAX_REPORT_WAIT", -inbound.MAX_REPORT_WAIT)
    deliver(database, batch)
    assert left(database) == 0, "it does not wait for ever"
    with database.read() as connection:
        found = receipts.count_refused_receipts(connection, [batch.campaign.id])[batch.campaign.id]
    assert found == {ReceiptVerdict.UNKNOWN: 1}


def test_each_message_is_told_to_its_own_batch(
    database: Database, client: TestClient, reminded: Reminded
) -> None:
    campaign = make_campaign(database, Plan(size=30))
    made = [
        enqueue_batch(database, campaign, batch=number, first=10 * number, size=10, author=AUTHOR)
        for number in range(3)
    ]
    for each in made:
        move(database, each, list(range(each.first, each.first + 10)), READY, in_gateway(1))
    told = [receipt(made[0], number) for number in (0, 9, 10, 29)]
    answer = client.post("/api/receipts", json=told, headers=BEARER)
    assert answer.json()["batches"] == 3
    for each in made:
        deliver(database, each)
    delivered = [
        number
        for each in made
        for number, state in states(database, each).items()
        if state.status is Status.DELIVERED
    ]
    assert delivered == [0, 9, 10, 29]


def test_engagement_is_recorded_of_what_arrived(
    batch: Batch, client: TestClient, database: Database
) -> None:
    client.post("/api/receipts", json=[receipt(batch, n) for n in (0, 1)], headers=BEARER)
    deliver(database, batch)
    told = [event(batch, 0, "clicked"), event(batch, 1, "unsubscribed"), event(batch, 7, "opened")]
    assert client.post("/api/engagement", json=told, headers=BEARER).status_code == 202
    at_gateway.engage(database, batch, Silent(), AUTHOR)
    at_gateway.engage(database, batch, Silent(), AUTHOR)
    roll_up_engagement(database, UTC)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
        counted, _ = read_engagement_counts(connection, [batch.campaign.id])[batch.campaign.id]
    assert counted[Engagement.OPENED] == 2
    assert counted[Engagement.CLICKED] == 2
    assert report.engagement[Engagement.UNSUBSCRIBED] == 1
    assert left(database) == 1, "who has not got it yet may have it soon"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"status": "opened"}, "status"),
        ({"status": "in_gateway"}, "status"),
        ({"attempt": 0}, "attempt"),
        ({"attempt": True}, "attempt"),
        ({"number": -1}, "number"),
        ({"number": 1.5}, "number"),
        ({"number": "1"}, "number"),
        ({"number": 10**30}, "number"),
        ({"at": "2026-11-24T12:00:00"}, "at"),
        ({"at": "yesterday"}, "at"),
        ({"colour": "red"}, "colour"),
        ({"campaign": 99}, "campaign"),
        ({"detail": 5}, "detail"),
    ],
)
def test_an_item_that_can_not_be_read_is_named_and_nothing_is_taken(
    batch: Batch, client: TestClient, database: Database, change: dict[str, Any], place: str
) -> None:
    told = [receipt(batch, 0), receipt(batch, 1) | change]
    answer = client.post("/api/receipts", json=told, headers=BEARER)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", 1, place]
    assert left(database) == 0


@pytest.mark.parametrize(
    "body",
    ["", "{", "{}", "null", "[]", "[null]", "[[[[[[]]]]]]", "[NaN]", "[1e999]", "[" * 100_000],
)
def test_a_body_that_is_no_report(batch: Batch, client: TestClient, body: str) -> None:
    headers = {**BEARER, "Content-Type": "application/json"}
    answer = client.post("/api/receipts", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_hostile_text_is_kept_as_far_as_it_can_be(
    batch: Batch, client: TestClient, database: Database
) -> None:
    headers = {**BEARER, "Content-Type": "application/json"}
    for said, code in (("a\\u0000b<script>", 202), ("\\ud800", 422)):
        body = json.dumps([receipt(batch, 0)])[:-2] + f', "detail": "{said}"}}]'
        answer = client.post("/api/receipts", content=body, headers=headers)
        assert answer.status_code == code, answer.text
    deliver(database, batch)
    with database.read() as connection:
        assert read_timeline(connection, batch.campaign, 0).events[-1].detail == "ab<script>"


def test_limits(batch: Batch, client: TestClient) -> None:
    many = [receipt(batch, 0)] * (MAX_REPORT_ITEMS + 1)
    assert client.post("/api/receipts", json=many, headers=BEARER).status_code == 413
    headers = {**BEARER, "Content-Type": "application/json"}
    large = b"[" + b" " * MAX_REPORT_BYTES + b"]"
    assert client.post("/api/receipts", content=large, headers=headers).status_code == 413
    plain = {**BEARER, "Content-Type": "text/plain"}
    assert client.post("/api/receipts", content="[]", headers=plain).status_code == 415


def test_only_who_has_the_token_may_report(batch: Batch, client: TestClient) -> None:
    told = [receipt(batch, 0)]
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = client.post("/api/receipts", json=told, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    basic = client.post("/api/receipts", json=told, auth=("anyone", TOKEN))
    assert basic.status_code == 401, "browsers give that by themselves"


def test_nobody_may_report_where_there_is_no_token(
    batch: Batch, database: Database, settings: Settings
) -> None:
    with (
        outside(database, settings) as shown,
        TestClient(make_app(database, settings, shown), base_url="http://127.0.0.1") as client,
    ):
        answer = client.post("/api/receipts", json=[receipt(batch, 0)])
        assert answer.status_code == 401
        assert "SENDTRACE_TOKEN" in answer.json()["detail"]


def test_who_reports_too_often_is_told_to_wait(batch: Batch, client: TestClient) -> None:
    answers = [
        client.post("/api/receipts", json=[], headers=BEARER) for _ in range(3 * REPORT_BURST)
    ]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].headers["Retry-After"] == "1"


def test_an_allowance_fills_up_again() -> None:
    now = [0.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    allowance = RateLimiter(2, 3, clock)
    assert [allowance.take() for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] += 0.5
    assert [allowance.take() for _ in range(2)] == [0, 0.5]
    now[0] += 60
    assert [allowance.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_report_is_taken_while_the_broker_is_away(
    batch: Batch, database: Database, settings: Settings
) -> None:
    away = settings.model_copy(
        update={"token": SecretStr(TOKEN), "broker_url": "redis://127.0.0.1:1/0"}
    )
    with (
        outside(database, away) as shown,
        TestClient(make_app(database, away, shown), base_url="http://127.0.0.1") as client,
    ):
        answer = client.post("/api/receipts", json=[receipt(batch, 0)], headers=BEARER)
    assert answer.status_code == 202
    assert answer.json() == {"taken": 1, "batches": 1, "queued": False}
    deliver(database, batch)
    assert states(database, batch)[0].status is Status.DELIVERED
