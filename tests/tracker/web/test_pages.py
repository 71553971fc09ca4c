"""The live page and its API, asked as programs and browsers ask."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from markupsafe import escape
from pydantic import SecretStr

from simulator.schema import open_database
from tests.support.factory import Plan, make_busy_batch, make_campaign
from tests.support.web import HOSTILE, TOKEN, served
from tracker.monitoring import FailedTask, WorkerActivity, WorkerInfo
from tracker.output.report_lines import all_report_lines
from tracker.queries.report import make_reports
from tracker.queries.timeline import read_timeline
from tracker.record.catalog import Batch
from tracker.settings import Settings
from tracker.status import Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.web.context import format_value
from tracker.web.masking import mask_contacts
from tracker.web.queries import LINE_QUERIES
from workers.queues import QUEUES

Ask = Callable[..., Any]


@pytest.fixture
def client(database: Database, settings: Settings) -> Iterator[TestClient]:
    with served(database, settings) as made:
        yield made


@pytest.fixture
def batch(database: Database) -> Batch:
    return make_busy_batch(database)


def test_an_empty_record_says_what_to_do(client: TestClient) -> None:
    assert "sendtrace simulate" in client.get("/").text
    assert client.get("/api/campaigns").json()["campaigns"] == []
    assert "sendtrace simulate" in client.get("/runs").text
    assert "nothing is recorded yet" in client.get("/campaigns/1").text


def test_the_api_has_the_report(batch: Batch, client: TestClient, database: Database) -> None:
    [listed] = client.get("/api/campaigns").json()["campaigns"]
    assert (listed["name"], listed["audience"]) == ("spring", 22)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    answer = client.get(f"/api/campaigns/{batch.campaign.id}/report")
    assert answer.json() == report.as_json()


def test_each_number_of_the_report_leads_to_so_many_messages(
    batch: Batch, client: TestClient, database: Database
) -> None:
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    page = client.get(f"/campaigns/{batch.campaign.id}").text
    for line in all_report_lines(report):
        address = f"/campaigns/{batch.campaign.id}/messages?{LINE_QUERIES[line.path]}"
        assert address.replace("&", "&amp;") in page, line.path
        found = client.get(f"/api{address}").json()
        assert len(found["messages"]) == line.count, line.path
        assert client.get(address).status_code == 200


def test_pages_of_messages(batch: Batch, client: TestClient) -> None:
    address = f"/campaigns/{batch.campaign.id}/messages"
    first = client.get(f"/api{address}", params={"limit": 20}).json()
    assert (first["total"], first["next"], len(first["messages"])) == (22, 19, 20)
    second = client.get(f"/api{address}", params={"limit": 20, "after": 19}).json()
    assert [each["number"] for each in second["messages"]] == [20, 21]
    assert second["next"] is None
    assert 'rel="next" href="?limit=20&amp;after=19"' in client.get(f"{address}?limit=20").text


def test_a_message_has_its_story_and_its_checks(
    batch: Batch, database: Database, settings: Settings
) -> None:
    address = f"/campaigns/{batch.campaign.id}/messages/17"
    with database.read() as connection:
        story = read_timeline(connection, batch.campaign, 17)
    with served(database, settings, flower_url="http://flower:5555/") as client:
        assert client.get(f"/api{address}").json() == story.as_json()
        page = client.get(address).text
        checks = client.get(f"/api{address}/checks").json()
    assert Reason.UNSUBSCRIBED.meaning in page
    for event in story.events:
        assert event.task_id is None or f"http://flower:5555/task/{event.task_id}" in page
    assert {"unsubscribed", "email_missing"} <= {each["check"] for each in checks}


@pytest.mark.parametrize(
    ("address", "status", "told"),
    [
        ("/campaigns/99", 404, "the latest are 1 (spring, run 1)"),
        ("/campaigns/99999999999999999999", 404, "there is no campaign"),
        ("/campaigns/1/messages/22", 404, "expected 0 to 21"),
        ("/campaigns/1/messages/99999999999999999999", 404, "expected 0 to 21"),
        ("/campaigns/1/messages?status=sent", 422, "expected one of queued"),
        ("/campaigns/1/messages?reason=none", 422, "expected one of organization_disabled"),
        ("/campaigns/1/messages?colour=red", 422, "colour"),
        ("/campaigns/1/messages?after=22", 422, "behind the last message"),
        ("/campaigns/1/messages?after=-2", 422, "after"),
        ("/campaigns/1/messages?limit=501", 422, "limit"),
        ("/runs/7", 404, "run 7 does not exist"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_what_can_not_be_asked(
    batch: Batch, client: TestClient, address: str, status: int, told: str
) -> None:
    for each in (address, f"/api{address}"):
        answer = client.get(each)
        assert answer.status_code == status, each
        assert told in answer.text.replace("&#39;", "'"), each


def test_a_wrong_parameter_is_named(batch: Batch, client: TestClient) -> None:
    answer = client.get("/api/campaigns/1/messages?after=22")
    assert [each["loc"] for each in answer.json()["detail"]] == [["query", "after"]]


def test_what_customers_typed_is_text(database: Database, settings: Settings) -> None:
    people = {0: {"customer_id": HOSTILE, "email": f"{HOSTILE}@example.com"}}
    campaign = make_campaign(database, Plan(name=HOSTILE, size=1), people)
    from tests.support.factory import AUTHOR
    from tracker.record.journal import enqueue_batch

    enqueue_batch(database, campaign, batch=0, first=0, size=1, author=AUTHOR)
    with served(database, settings, show_contacts=True) as client:
        for address in (
            "/",
            f"/campaigns/{campaign.id}",
            f"/campaigns/{campaign.id}/messages?contacts=shown",
            f"/campaigns/{campaign.id}/messages?customer=%3Cscript%3E",
            f"/campaigns/{campaign.id}/messages/0?contacts=shown",
            "/campaigns/99",
            "/campaigns/1/messages?status=%3Cscript%3E",
        ):
            page = client.get(address).text
            assert "<script>alert" not in page
            assert "<script>\n" not in page
            assert "%3Cscript" not in page or "&lt;script" in page


def test_contact_data_is_masked_unless_the_viewer_asks_and_may(
    batch: Batch, database: Database, settings: Settings
) -> None:
    addresses = [
        f"{prefix}/campaigns/{batch.campaign.id}/messages{rest}"
        for prefix in ("", "/api")
        for rest in ("", "/19/checks" if prefix else "/6")
    ]
    for may in (False, True):
        with served(database, settings, show_contacts=may) as client:
            for each in addresses:
                assert "customer6@example.com" not in client.get(each).text
                asked = client.get(each, params={"contacts": "shown"}).text
                if "/19" not in each:
                    assert ("customer6@example.com" in asked) is may, each
            assert "c•••@example.com" in client.get(addresses[0]).text


def test_a_token_is_asked_for_everywhere(
    batch: Batch, database: Database, settings: Settings
) -> None:
    with served(database, settings, token=SecretStr(TOKEN)) as client:
        for address in (
            "/",
            "/campaigns/1",
            "/api",
            "/api/campaigns",
            "/api/openapi.json",
            "/runs",
        ):
            assert client.get(address).status_code == 401
            assert client.get(address, auth=("anyone", TOKEN[:-1])).status_code == 401
            assert client.get(address, auth=("anyone", TOKEN)).status_code == 200
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            assert client.get(address, headers=bearer).status_code == 200
        for wrong in ("Basic", "Basic ?", "Bearer", "Bearer é", "Digest x", "Basic w6k="):
            told = {b"Authorization": wrong.encode()}
            assert client.get("/", headers=told).status_code == 401, wrong
        assert client.get("/health").status_code == 200


def test_other_sites_may_not_ask(batch: Batch, client: TestClient) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/api/campaigns", headers=cross).status_code == 403
    link = {**cross, "Sec-Fetch-Mode": "navigate"}
    assert client.get("/campaigns/1", headers=link).status_code == 200
    assert client.post("/api/campaigns", headers=link).status_code == 403
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"Host": "[::1]:8080"}).status_code == 200


def test_every_answer_says_what_a_browser_may_do(batch: Batch, client: TestClient) -> None:
    for address in ("/", "/campaigns/1", "/nowhere", "/static/live.js", "/api/campaigns"):
        policy = client.get(address).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert client.get(address).headers["X-Content-Type-Options"] == "nosniff"


def test_the_api_describes_itself(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()
    page = client.get("/api").text
    for path, methods in described["paths"].items():
        assert path in page
        for said in methods.values():
            assert said["summary"]
            assert said["description"], path
    statuses = json.dumps(described)
    assert all(each.slug in statuses for each in Status)


@pytest.fixture
def movable(settings: Settings) -> Iterator[Database]:
    opened = open_database(settings)
    yield opened
    opened.close()


def test_numbers_are_kept_and_marked_while_the_database_is_away(
    movable: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_busy_batch(movable)
    with served(movable, settings) as client:
        live = cast("FastAPI", client.app).state.live
        assert client.portal is not None
        look = partial(client.portal.call, live.look)

        def refuse(*_: object, **__: object) -> None:
            raise sa.exc.OperationalError("", {}, Exception("no such server"))

        with monkeypatch.context() as patch:
            patch.setattr("tracker.store.database.Database.read", refuse)
            look()
            away = client.get("/api/campaigns").json()
            assert away["trouble"] == "no such server"
            assert [each["audience"] for each in away["campaigns"]] == [22]
            look()
            later = client.get("/api/campaigns").json()
            assert later["at"] == away["at"], "as old as the numbers are"
            page = client.get("/campaigns/1")
            assert page.status_code == 200
            assert "The database is away: no such server" in page.text
            lost = client.get("/campaigns/1/messages")
            assert lost.status_code == 503
            assert "no such server" in lost.text
        look()
        assert client.get("/api/campaigns").json()["trouble"] is None
        assert client.get("/campaigns/1/messages").status_code == 200


def test_what_stands_still_is_shown_with_what_helps(
    batch: Batch, database: Database, settings: Settings
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(batches).values(touched_at=0))
    now = datetime.now(UTC)
    seen = WorkerActivity(
        workers=[WorkerInfo(name="gateway@here", heard_at=now, is_online=True, queues=["gateway"])],
        failed=[
            FailedTask(
                task="workers.submit",
                campaign=batch.campaign.id,
                batch=0,
                error=f"ValueError({HOSTILE!r})",
                worker="gateway@here",
                at=now,
                task_id="1-2-3",
                will_retry=False,
            )
        ],
    )
    with served(database, settings, {"presence": lambda: seen}) as client:
        page = client.get("/standstill").text
        found = client.get("/api/standstill").json()
        overview = client.get("/api/campaigns").json()
    [standing] = found["batches"]
    assert (standing["name"], standing["batch"], standing["step"]) == ("spring", 0, "suppress")
    command = (
        "celery -A workers.app call workers.suppress"
        f' --kwargs=\'{{"campaign": {batch.campaign.id}, "batch": 0}}\''
    )
    assert standing["command"] == command
    assert escape(command) in page
    assert "gateway" not in found["unserved"]
    assert set(found["unserved"]) == set(QUEUES) - {"gateway"}
    assert "celery -A workers.app worker -Q about_to_be_sent" in page
    assert "<script>alert" not in page
    assert "was given up" in page
    assert overview["campaigns"][0]["attention"][0] == "1 batch stands still"


def test_nobody_listens_without_a_broker(batch: Batch, client: TestClient) -> None:
    found = client.get("/api/standstill").json()
    assert (found["workers"], found["failed"], found["unserved"]) == (None, None, [])
    assert "no broker is configured" in client.get("/standstill").text
    assert "No batch stands still" in client.get("/standstill").text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "none"),
        ((), "none"),
        (frozenset(), "none"),
        (True, "yes"),
        (0, "0"),
        ("", ""),
        (("coupon", "last_store"), "coupon, last_store"),
    ],
)
def test_what_a_check_looked_at_is_shown_as_people_write_it(value: object, shown: str) -> None:
    assert format_value(value) == shown


def test_an_address_within_a_value_is_hidden() -> None:
    contact = "asha@example.com"
    shown = mask_contacts(
        {"recent": (contact,), "customer.email": contact, "requires": ("coupon",)}
    )
    assert shown == {
        "recent": "•••",
        "customer.email": "a•••@example.com",
        "requires": ("coupon",),
    }
