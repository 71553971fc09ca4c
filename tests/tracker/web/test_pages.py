"""The live page and its API, requested as browsers and programs do."""

import json
import operator
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial, reduce
from typing import cast

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from markupsafe import escape

from tests.support.engagement import OPENED, record_events
from tests.support.factory import (
    AUTHOR,
    Plan,
    make_batch,
    make_busy_batch,
    make_campaign,
    not_sent_for,
    read_states,
)
from tests.support.states import finish_run_of, old_server, silence_driver
from tests.support.web import HOSTILE, live_page_client
from tracker.clock import from_datetime
from tracker.errors import UsageError
from tracker.monitoring import CheckVerdict, FailedTask, WorkerActivity, WorkerInfo
from tracker.output.report_lines import LineKind, all_report_lines, describe_rollup
from tracker.queries.report import make_reports
from tracker.queries.timeline import read_timeline
from tracker.record.catalog import Batch, Campaign
from tracker.record.deferrals import Deferral, replace_deferrals, update_deferred_batch
from tracker.record.details import TransitionDetail
from tracker.record.engagement import EngagementEvent
from tracker.record.journal import QUEUED_STATE, Move, enqueue_batch, open_entry
from tracker.record.rollup import roll_up_engagement
from tracker.settings import Settings
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import audiences, batches, campaigns, organizations
from tracker.web import live as live_module
from tracker.web.context import format_value
from tracker.web.masking import mask_contacts
from tracker.web.queries import LINE_QUERIES
from workers.queues import QUEUES


def test_an_empty_database_shows_how_to_start_a_run(client: TestClient) -> None:
    assert "-m simulator simulate" in client.get("/").text
    assert client.get("/api/campaigns").json()["campaigns"] == []
    assert "-m simulator simulate" in client.get("/runs").text
    assert "no campaign is recorded yet" in client.get("/campaigns/1").text


def test_the_api_returns_the_report(batch: Batch, client: TestClient, database: Database) -> None:
    [campaign] = client.get("/api/campaigns").json()["campaigns"]
    assert (campaign["name"], campaign["audience"]) == ("spring", 22)
    assert (campaign["run"], campaign["seed"], campaign["state"]) == (1, 1, "running")
    assert datetime.fromisoformat(campaign["as_of"]).tzinfo is not None
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    response = client.get(f"/api/campaigns/{batch.campaign.id}/report")
    assert response.json() == report.as_json() | {"as_of": response.json()["as_of"]}


def test_every_number_of_the_report_links_to_as_many_messages(
    batch: Batch, client: TestClient, database: Database
) -> None:
    states = read_states(database, batch).items()
    queued = next(number for number, state in states if state.status is Status.QUEUED)
    deferral = Deferral("quiet_hours", until=0, first_deferred_at=0)
    with database.write() as connection:
        replace_deferrals(database, connection, batch, {queued: deferral})
        update_deferred_batch(connection, batch)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    assert report.deferred == 1
    assert client.portal is not None
    client.portal.call(cast("FastAPI", client.app).state.context.live.refresh)
    page = client.get(f"/campaigns/{batch.campaign.id}").text
    for line in all_report_lines(report):
        if line.path not in LINE_QUERIES:
            assert line.kind is LineKind.CAUSE or line.path == "scheduled", "no list of messages"
            continue
        path = f"/campaigns/{batch.campaign.id}/messages?{LINE_QUERIES[line.path]}"
        assert path.replace("&", "&amp;") in page, line.path
        messages = client.get(f"/api{path}").json()["messages"]
        assert len(messages) == line.count, line.path
        assert client.get(path).status_code == 200


def test_a_campaign_has_its_engagement_by_day(
    batch: Batch, database: Database, settings: Settings
) -> None:
    noon = from_datetime(datetime(2026, 11, 24, 12, tzinfo=UTC))
    record_events(
        database, batch, [EngagementEvent(number, OPENED, noon) for number in range(6, 9)]
    )
    path = f"/campaigns/{batch.campaign.id}"
    with live_page_client(database, settings) as client:
        assert "no rollup yet" in client.get(path).text
        assert "No chart: no rollup yet" in client.get(f"{path}/charts").text
    roll_up_engagement(database, UTC)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    with live_page_client(database, settings) as client:
        page = client.get(path).text
        charts = client.get(f"{path}/charts").text
        days = client.get(f"/api{path}/days").json()
        [opened] = client.get(f"/api{path}/messages?{LINE_QUERIES['sent.opened']}&limit=1").json()[
            "messages"
        ]
    row = re.compile(r'<th scope="row">2026-11-24</th><td [^>]*>3</td>')
    assert "Engagement by day" not in page, "only what is refreshed shows it"
    assert row.search(charts)
    chart = charts[charts.index("Engagement by day") :]
    assert "<svg" in chart
    assert describe_rollup(report, settings.zone).startswith("as of ")
    assert describe_rollup(report, settings.zone) in chart
    assert days["days"] == report.days_as_json()["days"]
    assert days["days"][0]["opened"] == 3
    assert opened["number"] == 6


@pytest.mark.parametrize("path", ["", "/messages", "/messages/17"])
def test_a_page_names_run_seed_state_and_time(batch: Batch, client: TestClient, path: str) -> None:
    page = client.get(f"/campaigns/{batch.campaign.id}{path}").text
    metadata = page[page.index('class="metadata"') : page.index("</header>")]
    for part in (
        f"run {batch.campaign.run_id}",
        "seed 1",
        '<span class="state" data-state="running">running</span>',
        "as of <span data-as-of><time",
    ):
        assert part in metadata


def test_the_overview_names_run_seed_state_and_time(batch: Batch, client: TestClient) -> None:
    page = client.get("/").text
    header, row = page[: page.index("</header>")], page[page.index("<tr data-campaign") :]
    assert "as of <span data-read-at><time" in header
    assert f"<td>{batch.campaign.run_id}</td>" in row
    assert '<td class="numeric">1</td>\n<td>email</td>' in row
    assert '<span class="state" data-state="running">running</span>' in row


@pytest.mark.parametrize("path", ["/report", "/days", "/messages", "/messages/17"])
def test_the_api_names_run_seed_state_and_time(batch: Batch, client: TestClient, path: str) -> None:
    response = client.get(f"/api/campaigns/{batch.campaign.id}{path}").json()
    as_of = datetime.fromisoformat(response.pop("as_of"))
    assert as_of.tzinfo is not None
    names = ("campaign", "channel", "run", "seed", "state")
    assert tuple(response[name] for name in names) == ("spring", "email", 1, 1, "running")


def test_engaged_then_bounced_messages_are_not_behind_a_number(
    batch: Batch, client: TestClient, database: Database
) -> None:
    noon = from_datetime(datetime(2026, 11, 24, 12, tzinfo=UTC))
    record_events(database, batch, [EngagementEvent(number, OPENED, noon) for number in (6, 11)])
    path = f"/api/campaigns/{batch.campaign.id}/messages"
    shown = client.get(f"{path}?{LINE_QUERIES['sent.opened']}").json()["messages"]
    assert [message["number"] for message in shown] == [6], "11 bounced late"
    every = client.get(f"{path}?engagement=opened").json()["messages"]
    assert [message["number"] for message in every] == [6, 11]


def test_messages_are_listed_page_by_page(batch: Batch, client: TestClient) -> None:
    path = f"/campaigns/{batch.campaign.id}/messages"
    first = client.get(f"/api{path}", params={"limit": 20}).json()
    assert (first["total"], first["next"], len(first["messages"])) == (22, 19, 20)
    second = client.get(f"/api{path}", params={"limit": 20, "after": 19}).json()
    assert [message["number"] for message in second["messages"]] == [20, 21]
    assert second["next"] is None
    assert 'rel="next" href="?limit=20&amp;after=19"' in client.get(f"{path}?limit=20").text


def test_a_message_has_its_timeline_and_its_checks(
    batch: Batch, database: Database, settings: Settings
) -> None:
    path = f"/campaigns/{batch.campaign.id}/messages/17"
    with database.read() as connection:
        timeline = read_timeline(connection, batch.campaign, 17)
    with live_page_client(database, settings, flower_url="http://flower:5555/") as client:
        response = client.get(f"/api{path}").json()
        assert response == timeline.as_json() | {"as_of": response["as_of"]}
        page = client.get(path).text
        verdicts = client.get(f"/api{path}/checks").json()
    assert Reason.UNSUBSCRIBED.meaning in page
    for event in timeline.events:
        assert event.task_id is None or f"http://flower:5555/task/{event.task_id}" in page
    assert {"unsubscribed", "email_missing"} <= {verdict["check"] for verdict in verdicts}


def test_a_check_that_defers_a_message_does_not_count_as_passed(
    batch: Batch, database: Database, settings: Settings
) -> None:
    until = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    verdict = CheckVerdict(
        step=Step.SUPPRESS,
        order=1,
        check="quiet_hours",
        reason=None,
        looked_at={},
        deferred_until=until,
    )
    path = f"/campaigns/{batch.campaign.id}/messages/17"
    changes = {"explain_checks": lambda _campaign, _number: [verdict]}
    with live_page_client(database, settings, changes) as client:
        page = client.get(path).text
        [answer] = client.get(f"/api{path}/checks").json()
    assert "<td>deferred until <time" in page
    assert "2030-01-02 03:04:00 UTC" in page
    assert "passed" not in page
    assert datetime.fromisoformat(answer["deferred_until"]) == until


def test_a_timeline_is_shown_although_the_machine_lacks_a_plugin(
    batch: Batch, database: Database, settings: Settings
) -> None:
    def explain(_campaign: Campaign, _number: int) -> Sequence[CheckVerdict]:
        raise UsageError("unknown gateway 'acme'")

    path = f"/campaigns/{batch.campaign.id}/messages/17"
    with live_page_client(database, settings, {"explain_checks": explain}) as client:
        page = client.get(path)
    assert page.status_code == 200
    assert "can't be evaluated on this machine: unknown gateway &#39;acme&#39;" in page.text


def test_a_deferred_message_names_its_check_and_its_time(
    batch: Batch, client: TestClient, database: Database
) -> None:
    until = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    deferral = Deferral("quiet_hours", until=from_datetime(until), first_deferred_at=0)
    with database.write() as connection:
        replace_deferrals(database, connection, batch, {0: deferral})
    path = f"/campaigns/{batch.campaign.id}/messages/0"
    page = client.get(path).text
    assert "2030-01-02 03:04:00 UTC</time> by check <code>quiet_hours</code>" in page
    assert client.get(f"/api{path}").json()["deferred"]["check"] == "quiet_hours"


def test_failed_checks_are_named_with_their_error_and_need_attention(
    database: Database, settings: Settings
) -> None:
    batch = make_batch(database, Plan(size=2))
    request = Move(
        numbers=[1],
        source=QUEUED_STATE,
        target=not_sent_for(Reason.RULE_FAILED),
        at=batch.campaign.clock.now(),
        details={1: TransitionDetail("night", HOSTILE)},
    )
    with open_entry(database, batch, Step.SUPPRESS, AUTHOR, started_at=0) as written:
        written.move(request)
    with live_page_client(database, settings) as client:
        page = client.get(f"/campaigns/{batch.campaign.id}/messages/1").text
        [campaign] = client.get("/api/campaigns").json()["campaigns"]
    assert f"check night: {escape(HOSTILE)}" in page
    assert campaign["attention"] == ["1 message Not Sent: rule failed"]


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        ("/campaigns/99", 404, "the latest are 1 (spring, run 1)"),
        ("/campaigns/99999999999999999999", 404, "unknown campaign"),
        ("/campaigns/1/messages/22", 404, "expected 0 to 21"),
        ("/campaigns/1/messages/99999999999999999999", 404, "expected 0 to 21"),
        ("/campaigns/1/messages?status=sent", 422, "expected one of queued"),
        ("/campaigns/1/messages?reason=none", 422, "expected one of organization_disabled"),
        ("/campaigns/1/messages?colour=red", 422, "colour"),
        ("/campaigns/1/messages?after=22", 422, "after the last message"),
        ("/campaigns/1/messages?after=-2", 422, "after"),
        ("/campaigns/1/messages?limit=501", 422, "limit"),
        ("/runs/7", 404, "run 7 does not exist"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_an_invalid_request_is_answered_with_its_problem(
    batch: Batch, client: TestClient, path: str, status: int, problem: str
) -> None:
    for address in (path, f"/api{path}"):
        response = client.get(address)
        assert response.status_code == status, address
        assert problem in response.text.replace("&#39;", "'"), address


def test_the_checks_of_an_unknown_message_are_not_found(batch: Batch, client: TestClient) -> None:
    response = client.get("/api/campaigns/1/messages/22/checks")
    assert response.status_code == 404
    assert "expected 0 to 21" in response.json()["detail"]


def test_the_response_names_an_invalid_parameter(batch: Batch, client: TestClient) -> None:
    response = client.get("/api/campaigns/1/messages?after=22")
    assert [problem["loc"] for problem in response.json()["detail"]] == [["query", "after"]]


def test_the_former_address_of_the_operations_page_redirects(client: TestClient) -> None:
    response = client.get("/standstill", follow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (301, "/operations")


def test_names_and_contact_data_are_escaped(database: Database, settings: Settings) -> None:
    people = {0: {"customer_id": HOSTILE, "email": f"{HOSTILE}@example.com"}}
    campaign = make_campaign(database, Plan(name=HOSTILE, size=1), people)
    with database.write() as connection:
        for table in (campaigns, organizations, audiences):
            connection.execute(sa.update(table).values(title=f"{HOSTILE} Title"))
    enqueue_batch(database, campaign, batch=0, first=0, size=1, author=AUTHOR)
    with live_page_client(database, settings, show_contacts=True) as client:
        for path in (
            "/",
            f"/campaigns/{campaign.id}",
            f"/campaigns/{campaign.id}/messages?contacts=shown",
            f"/campaigns/{campaign.id}/messages?customer=%3Cscript%3E",
            f"/campaigns/{campaign.id}/messages/0?contacts=shown",
            "/campaigns/99",
            "/campaigns/1/messages?status=%3Cscript%3E",
        ):
            page = client.get(path).text
            assert "<script>alert" not in page
            assert "<script>\n" not in page
            assert "%3Cscript" not in page or "&lt;script" in page
        page = client.get(f"/campaigns/{campaign.id}").text
        assert page.count(f"{escape(HOSTILE)} Title") == 3


def test_contact_data_is_masked_unless_requested_and_allowed(
    batch: Batch, database: Database, settings: Settings
) -> None:
    messages = f"/campaigns/{batch.campaign.id}/messages"
    paths_with_contact = [messages, f"{messages}/6", f"/api{messages}"]
    paths = [*paths_with_contact, f"/api{messages}/19/checks"]
    for is_allowed in (False, True):
        with live_page_client(database, settings, show_contacts=is_allowed) as client:
            for path in paths:
                assert "customer6@example.com" not in client.get(path).text
            for path in paths_with_contact:
                page = client.get(path, params={"contacts": "shown"}).text
                assert ("customer6@example.com" in page) is is_allowed, path
            assert "c•••@example.com" in client.get(messages).text


def test_the_api_describes_itself(client: TestClient) -> None:
    schema = client.get("/api/openapi.json").json()
    page = client.get("/api").text
    for path, operations in schema["paths"].items():
        assert path in page
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"], path
    schema_text = json.dumps(schema)
    assert all(status.slug in schema_text for status in Status)
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', schema_text))
    for reference in references:
        reduce(operator.getitem, reference.split("/"), schema)  # raises KeyError
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links - set(re.findall(r'id="([^"]+)"', page)) == set()
    assert '<a href="#CampaignModel">CampaignModel</a>' in page


def test_the_reference_has_parameters_bodies_and_allowed_values(client: TestClient) -> None:
    page = client.get("/api").text
    rows = [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>.*?</tr>", page)]
    cells = [[cell for cell in row.split("|") if cell.strip(" ,")] for row in rows]
    outcomes = ["delivered", "hard_bounced", "soft_bounced", "not_delivered"]
    assert ["status", "body, required", *outcomes, "outcome of the attempt"] in cells
    assert ["attempt", "body, required", "integer or string"] in [row[:3] for row in cells]
    assert ["before", "query, required", "integer", "The run&#39;s number."] in cells
    assert "a list of objects as <code>application/json</code> or" in page
    assert "Body: <code>message/rfc822</code>" in page


def test_numbers_are_kept_and_marked_while_the_database_is_unavailable(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_busy_batch(database)
    with live_page_client(database, settings) as client:
        context = cast("FastAPI", client.app).state.context
        assert client.portal is not None
        refresh = partial(client.portal.call, context.live.refresh)

        def refuse(*_: object, **__: object) -> None:
            raise sa.exc.OperationalError("", {}, Exception("no such server"))

        with monkeypatch.context() as patch:
            patch.setattr("tracker.store.database.Database.read", refuse)
            refresh()
            overview = client.get("/api/campaigns").json()
            assert overview["trouble"] == "no such server"
            assert [campaign["audience"] for campaign in overview["campaigns"]] == [22]
            refresh()
            later = client.get("/api/campaigns").json()
            assert later["at"] == overview["at"], "the time at which the numbers were read"
            page = client.get("/campaigns/1")
            assert page.status_code == 200
            assert "Database unavailable: no such server" in page.text
            messages = client.get("/campaigns/1/messages")
            assert messages.status_code == 503
            assert "no such server" in messages.text
        refresh()
        assert client.get("/api/campaigns").json()["trouble"] is None
        assert client.get("/campaigns/1/messages").status_code == 200


def test_a_healthy_trickle_is_running_with_the_rest_scheduled(
    database: Database, settings: Settings
) -> None:
    campaign = make_campaign(database, Plan(size=60))
    enqueue_batch(database, campaign, batch=0, first=0, size=5, author=AUTHOR)
    with live_page_client(database, settings) as client:
        [shown] = client.get("/api/campaigns").json()["campaigns"]
        page = client.get(f"/campaigns/{campaign.id}").text
        overview = client.get("/").text
    assert (shown["state"], shown["audience"], shown["scheduled"]) == ("running", 60, 55)
    assert shown["attention"] == []
    for text in (page, overview):
        assert '<span class="state" data-state="running">running</span>' in text
    assert '<span class="number" data-count="scheduled">55</span> scheduled' in page
    assert '<td class="numeric" data-scheduled>55</td>' in overview


def test_an_abandoned_campaign_is_marked_with_the_command_that_resumes_it(
    database: Database, settings: Settings
) -> None:
    campaign = make_campaign(database, Plan(size=3_000))
    enqueue_batch(database, campaign, batch=0, first=0, size=325, author=AUTHOR)
    silence_driver(database, campaign)
    with old_server(), live_page_client(database, settings) as client:
        [shown] = client.get("/api/campaigns").json()["campaigns"]
        page = client.get(f"/campaigns/{campaign.id}").text
        message = client.get(f"/campaigns/{campaign.id}/messages/325").text
    assert (shown["state"], shown["scheduled"]) == ("abandoned", 2_675)
    [problem] = shown["attention"]
    assert "no driver queues messages to 2,675 scheduled customers" in problem
    assert problem.endswith(f"sendtrace resume {campaign.run_id}")
    assert f'<p class="banner warn">{problem}</p>' in page
    assert "is scheduled, not queued" in message


def test_a_run_is_not_abandoned_for_a_silence_in_which_the_database_could_not_be_read(
    batch: Batch, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClockAhead(datetime):
        """The clock of a web host that is an hour ahead of the database's."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=1)

    def state() -> str:
        refresh()
        [campaign] = client.get("/api/campaigns").json()["campaigns"]
        message = client.get(f"/api/campaigns/{batch.campaign.id}/messages/5").json()
        assert message["state"] == campaign["state"]
        assert f">{campaign['state']}<" in client.get("/runs").text
        return str(campaign["state"])

    with old_server(), live_page_client(database, settings) as client:
        live = cast("FastAPI", client.app).state.context.live
        assert client.portal is not None
        refresh = partial(client.portal.call, live.refresh)
        client.portal.call(live.stop)  # a refresh of its own could span the change of the clock
        silence_driver(database, batch.campaign)
        assert state() == "abandoned"
        monkeypatch.setattr(live_module, "datetime", ClockAhead)  # a gap, as after an outage
        assert state() == "running", "its driver had no chance yet"
        database.set_reachable_since(0)  # half a minute later
        assert state() == "abandoned"


def test_receipts_that_never_came_are_named_once_the_run_is_finished(
    batch: Batch, database: Database, settings: Settings
) -> None:
    path = f"/campaigns/{batch.campaign.id}"
    with live_page_client(database, settings) as client:
        assert "never came" not in client.get(path).text
        assert "never came" not in client.get(f"{path}/messages/5").text
    finish_run_of(database, batch.campaign)
    with live_page_client(database, settings) as client:
        page = client.get(path).text
        assert 'data-note="sent.in_gateway">2 receipts never came during the run</span>' in page
        assert "finished without the gateway's receipt" in client.get(f"{path}/messages/5").text
        assert "never came" not in client.get(f"{path}/messages/6").text, "it was delivered"
        assert client.get(f"/api{path}/messages/5").json()["receipt_missing"] is True


def test_a_stalled_batch_is_shown_with_the_command_that_requeues_it(
    batch: Batch, database: Database, settings: Settings
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(batches).values(touched_at=0))
    now = datetime.now(UTC)
    worker = WorkerInfo(name="gateway@here", heard_at=now, is_online=True, queues=["gateway"])
    failure = FailedTask(
        task="workers.submit",
        campaign=batch.campaign.id,
        batch=0,
        error=f"ValueError({HOSTILE!r})",
        worker="gateway@here",
        at=now,
        task_id="1-2-3",
        will_retry=False,
    )
    activity = WorkerActivity(workers=[worker], failed=[failure])
    changes = {"read_worker_activity": lambda: activity}
    with live_page_client(database, settings, changes) as client:
        page = client.get("/operations").text
        operations = client.get("/api/standstill").json()
        overview = client.get("/api/campaigns").json()
    [stalled] = operations["batches"]
    assert (stalled["name"], stalled["batch"], stalled["step"]) == ("spring", 0, "dispatch")
    call = (
        "-m workers.celery_command call workers.dispatch"
        f' \'--kwargs={{"campaign": {batch.campaign.id}, "batch": 0}}\''
    )
    assert stalled["command"].endswith(call)
    assert escape(stalled["command"]) in page
    assert page.index("-m simulator recover") < page.index("celery_command call")
    assert "gateway" not in operations["unserved"]
    assert set(operations["unserved"]) == set(QUEUES) - {"gateway"}
    assert "celery_command worker --queues=about_to_be_sent" in page
    assert "<script>alert" not in page
    assert "failed for good" in page
    assert overview["campaigns"][0]["attention"][0] == "1 stalled batch"


def test_workers_are_not_monitored_without_a_broker(batch: Batch, client: TestClient) -> None:
    operations = client.get("/api/standstill").json()
    assert (operations["workers"], operations["failed"]) == (None, None)
    assert operations["unserved"] == []
    page = client.get("/operations").text
    assert "no broker is configured" in page
    assert "No stalled batches" in page


@pytest.mark.parametrize(
    ("value", "text"),
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
def test_a_value_that_a_check_read_is_shown_as_text(value: object, text: str) -> None:
    assert format_value(value) == text


def test_an_address_within_a_value_is_masked() -> None:
    contact = "asha@example.com"
    values = {"recent": (contact,), "customer.email": contact, "requires": ("coupon",)}
    assert mask_contacts(values) == {
        "recent": "•••",
        "customer.email": "a•••@example.com",
        "requires": ("coupon",),
    }


@pytest.mark.parametrize(
    ("path", "current"),
    [
        ("/", "Campaigns"),
        ("/campaigns/{}", "Campaigns"),
        ("/campaigns/{}/messages", "Campaigns"),
        ("/campaigns/{}/messages/7", "Campaigns"),
        ("/operations", "Operations"),
        ("/runs", "Runs"),
        ("/api", "API"),
    ],
)
def test_the_navigation_marks_the_current_page(
    batch: Batch, client: TestClient, path: str, current: str
) -> None:
    page = client.get(path.format(batch.campaign.id)).text
    assert '<a class="product" href="/">sendtrace</a>' in page
    assert re.findall(r'aria-current="page">(.*?)</a>', page) == [current]
    assert 'id="health"' in page
