"""Acting on campaigns by API and page: who may, what is recorded, and what is refused."""

import re
import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tests.support.web import HOSTILE, TOKEN, live_page_client
from tracker.campaign_states import CampaignState
from tracker.record.actions.campaigns import pause_campaign
from tracker.record.catalog import Batch, load_campaign
from tracker.settings import Settings
from tracker.status import Step
from tracker.store.database import Database
from tracker.web.actions.campaigns import list_offered
from tracker.web.actions.form_tokens import MAX_AGE_SECONDS, FormTokens

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def client(database: Database, settings: Settings) -> Iterator[TestClient]:
    with live_page_client(database, settings, token=SecretStr(TOKEN)) as client:
        client.follow_redirects = False
        yield client


def is_paused(database: Database, batch: Batch) -> bool:
    with database.read() as connection:
        return load_campaign(connection, batch.campaign.id).paused_at is not None


def test_the_api_acts_and_lists_what_was_done(
    client: TestClient, database: Database, batch: Batch
) -> None:
    path = f"/api/campaigns/{batch.campaign.id}"
    said = {"reason": HOSTILE, "actor": "ana"}
    paused = client.post(f"{path}/pause", headers=BEARER, json=said)
    assert (paused.status_code, is_paused(database, batch)) == (200, True), paused.text
    assert (
        client.post(f"{path}/resume", headers=BEARER, json={"reason": "\0"}).json()["reason"] == ""
    )
    assert client.post(f"{path}/pause", headers=BEARER).status_code == 200
    again = client.post(f"{path}/pause", headers=BEARER)
    assert (again.status_code, again.json()["detail"]) == (
        422,
        f"campaign {batch.campaign.name} is paused already",
    )
    assert client.post(f"{path}/resume", headers=BEARER).json()["actor"] == "API"
    assert not is_paused(database, batch)
    assert client.post(f"{path}/cancel", headers=BEARER).json()["action"] == "cancel"
    with database.read() as connection:
        assert load_campaign(connection, batch.campaign.id).cancelled_at is not None
    assert client.post(f"{path}/explode", headers=BEARER).status_code == 404
    assert client.post("/api/campaigns/999/pause", headers=BEARER).status_code == 404
    listed = client.get("/api/actions", headers=BEARER).json()
    assert [(row["action"], row["actor"], row["reason"]) for row in listed] == [
        ("cancel", "API", ""),
        ("resume", "API", ""),
        ("pause", "API", ""),
        ("resume", "API", ""),
        ("pause", "ana", HOSTILE),
    ]
    assert listed[-1] == paused.json()
    first = client.get("/api/actions?limit=1", headers=BEARER).json()
    earlier = client.get(f"/api/actions?before={first[0]['id']}", headers=BEARER).json()
    assert [*first, *earlier] == listed


def open_form(client: TestClient, path: str) -> dict[str, str]:
    page = client.get(path, auth=("ana", TOKEN)).text
    [token] = re.findall(r'name="token" value="([^"]+)"', page)
    return {"token": token, "reason": f" {HOSTILE} "}


def test_a_viewer_acts_by_a_form(client: TestClient, database: Database, batch: Batch) -> None:
    campaign = f"/campaigns/{batch.campaign.id}"
    login = ("ana", TOKEN)
    assert f'href="{campaign}/pause"' in client.get(campaign, auth=login).text
    form = open_form(client, f"{campaign}/pause")
    assert not is_paused(database, batch), "only the form was shown"
    done = client.post(f"{campaign}/pause", data=form, auth=login)
    assert (done.status_code, done.headers["location"]) == (303, campaign), done.text
    assert is_paused(database, batch)
    page = client.get(campaign, auth=login).text
    assert f'href="{campaign}/resume"' in page
    assert f'href="{campaign}/pause"' not in page
    log = client.get("/actions", auth=login).text
    assert "ana" in log
    assert HOSTILE not in log
    assert "&lt;script&gt;" in log
    again = client.post(f"{campaign}/pause", data=form, auth=login)
    assert (again.status_code, "is paused already" in again.text) == (422, True)


@pytest.mark.parametrize(
    ("case", "status"),
    [
        ("no password", 401),
        ("wrong password", 401),
        ("cookie", 401),
        ("no form token", 403),
        ("token of another form", 403),
        ("token of another server", 403),
        ("other origin", 403),
        ("other site", 403),
        ("large form", 413),
        ("API with a password", 401),
    ],
)
def test_nobody_else_acts(
    client: TestClient, database: Database, batch: Batch, case: str, status: int
) -> None:
    path = f"/campaigns/{batch.campaign.id}/pause"
    form, headers, auth = open_form(client, path), {}, ("ana", TOKEN)
    match case:
        case "no password":
            auth = None  # type: ignore[assignment]
        case "wrong password":
            auth = ("ana", "guess")
        case "cookie":
            headers, auth = {"Cookie": f"token={TOKEN}; session={form['token']}"}, None  # type: ignore[assignment]
        case "no form token":
            del form["token"]
        case "token of another form":
            form = open_form(client, path.replace("pause", "resume"))
        case "token of another server":
            form["token"] = FormTokens().issue(path)
        case "other origin":
            headers = {"Origin": "http://127.0.0.1:8081"}
        case "other site":
            headers = {"Sec-Fetch-Site": "cross-site"}
        case "large form":
            form["reason"] = "x" * 5_000
        case "API with a password":
            path = f"/api{path}"
    response = client.post(path, data=form, headers=headers, auth=auth)
    assert response.status_code == status, response.text
    assert not is_paused(database, batch)


def test_without_a_token_the_api_refuses_and_the_page_acts(
    database: Database, settings: Settings, batch: Batch
) -> None:
    with live_page_client(database, settings) as client:
        path = f"/campaigns/{batch.campaign.id}/pause"
        refused = client.post(f"/api{path}")
        assert (refused.status_code, "SENDTRACE_TOKEN" in refused.text) == (401, True)
        form = open_form(client, path)
        assert client.post(path, data=form).status_code == 200
        [row] = client.get("/api/actions").json()
    assert row["actor"] == "page"


def test_a_form_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = FormTokens()
    token = tokens.issue("/a")
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + MAX_AGE_SECONDS - 2)
    assert tokens.is_valid("/a", token)
    monkeypatch.setattr("time.time", lambda: now + MAX_AGE_SECONDS + 2)
    assert not tokens.is_valid("/a", token)
    for nonsense in ("", ".", "1", "²." + "0" * 64, "9" * 5_000, f"{token}0"):
        assert not tokens.is_valid("/a", nonsense)


def test_only_actions_that_make_sense_are_offered() -> None:
    offered = {state: [*list_offered(state)] for state in CampaignState}
    assert offered[CampaignState.PAUSED] == ["resume", "cancel"]
    for state in (CampaignState.RUNNING, CampaignState.SCHEDULED, CampaignState.ABANDONED):
        assert offered[state] == ["pause", "cancel"]
    assert offered[CampaignState.CANCELLED] == []
    assert offered[CampaignState.FINISHED] == offered[CampaignState.INTERRUPTED] == []


def test_a_batch_is_requeued_by_api_and_page(
    database: Database, settings: Settings, batch: Batch
) -> None:
    queued: list[tuple[int, int, Step]] = []

    def requeue(found: Batch, step: Step) -> bool:
        if len(queued) == 2:
            raise ConnectionError("no broker")
        queued.append((found.campaign.id, found.batch, step))
        return True

    changes = {"requeue_batch": requeue}
    with live_page_client(database, settings, changes, token=SecretStr(TOKEN)) as client:
        client.follow_redirects = False
        path = f"/campaigns/{batch.campaign.id}/batches/{batch.batch}/requeue"
        done = client.post(f"/api{path}", headers=BEARER, json={"actor": "ana"})
        assert done.json()["target"] == f"{batch.campaign.name}/{batch.batch}", done.text
        form = open_form(client, path)
        by_page = client.post(path, data=form, auth=("bob", TOKEN))
        assert (by_page.status_code, by_page.headers["location"]) == (303, "/operations")
        assert queued == [(batch.campaign.id, batch.batch, Step.DISPATCH)] * 2
        failed = client.post(f"/api{path}", headers=BEARER)
        assert (failed.status_code, "broker" in failed.json()["detail"]) == (503, True)
        unknown = path.replace("/batches/", "/batches/9")
        assert client.post(f"/api{unknown}", headers=BEARER).status_code == 404
        pause_campaign(database, batch.campaign, actor="ana", reason="")
        refused = client.post(f"/api{path}", headers=BEARER)
        assert (refused.status_code, "needs no step" in refused.json()["detail"]) == (422, True)
        actors = [row["actor"] for row in client.get("/api/actions", headers=BEARER).json()]
    assert actors == ["ana", "bob", "ana"], "failures aren't in the log"


def test_a_batch_that_has_a_task_is_left_alone(
    database: Database, settings: Settings, batch: Batch
) -> None:
    changes = {"requeue_batch": lambda _batch, _step: False}
    with live_page_client(database, settings, changes, token=SecretStr(TOKEN)) as client:
        path = f"/api/campaigns/{batch.campaign.id}/batches/{batch.batch}/requeue"
        refused = client.post(path, headers=BEARER)
        assert (refused.status_code, "has a task already" in refused.text) == (422, True)
        assert client.get("/api/actions", headers=BEARER).json() == []
        for number in ("0", "9" * 20):
            asked = client.get(f"/api/actions?before={number}", headers=BEARER)
            assert asked.status_code == 422


def test_without_a_broker_no_batch_is_requeued(
    client: TestClient, batch: Batch, database: Database
) -> None:
    path = f"/api/campaigns/{batch.campaign.id}/batches/{batch.batch}/requeue"
    refused = client.post(path, headers=BEARER)
    assert (refused.status_code, "SENDTRACE_BROKER_URL" in refused.text) == (422, True)
    assert client.get("/api/actions", headers=BEARER).json() == []
