"""Access to the live page: tokens, other sites, host names and security headers."""

import logging
import re

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tests.support.web import TOKEN, live_page_client
from tracker.record.catalog import Batch
from tracker.settings import Settings
from tracker.store.database import Database

GUARDED_PATHS = (
    "/",
    "/campaigns/1",
    "/operations",
    "/api",
    "/api/campaigns",
    "/api/openapi.json",
    "/metrics",
    "/runs",
)

INVALID_AUTHORIZATIONS = ("Basic", "Basic ?", "Bearer", "Bearer é", "Digest x", "Basic w6k=")


def test_every_address_but_health_needs_the_token(
    batch: Batch, database: Database, settings: Settings
) -> None:
    with live_page_client(database, settings, token=SecretStr(TOKEN)) as client:
        for path in GUARDED_PATHS:
            assert client.get(path).status_code == 401
            assert client.get(path, auth=("anyone", TOKEN[:-1])).status_code == 401
            assert client.get(path, auth=("anyone", TOKEN)).status_code == 200
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            assert client.get(path, headers=bearer).status_code == 200
        for value in INVALID_AUTHORIZATIONS:
            headers = {b"Authorization": value.encode()}
            assert client.get("/", headers=headers).status_code == 401, value
        assert client.get("/health").status_code == 200


def test_requests_of_other_sites_are_refused(batch: Batch, client: TestClient) -> None:
    cross_site = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/api/campaigns", headers=cross_site).status_code == 403
    link = {**cross_site, "Sec-Fetch-Mode": "navigate"}
    assert client.get("/campaigns/1", headers=link).status_code == 200
    assert client.post("/api/campaigns", headers=link).status_code == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.2:8080", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("localhost", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example:8080", 421),
        ("", 421),
    ],
)
def test_without_a_token_only_names_of_this_machine_are_served(
    batch: Batch, client: TestClient, host: str, status: int
) -> None:
    assert client.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "path", ["/", "/campaigns/1", "/nowhere", "/static/live.js", "/api/campaigns"]
)
def test_every_response_has_the_security_headers(
    batch: Batch, client: TestClient, path: str
) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_requests_and_wrong_tokens_are_logged_without_what_is_secret(
    database: Database, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "tracker.web.security"),
        live_page_client(database, settings, token=SecretStr(TOKEN)) as client,
    ):
        wrong = {"Authorization": "Bearer wrong-and-secret"}
        client.get("/api/campaigns", params={"customer": "a@example.com"}, headers=wrong)
        client.get("/api/campaigns")
        client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    lines = [
        (record.levelname, re.sub(r" seconds=\S+", "", record.getMessage()))
        for record in caplog.records
        if record.name == "tracker.web.security"
    ]
    refused = "request: method=GET path=/api/campaigns status=401 client=testclient"
    assert lines == [
        ("WARNING", "token refused: reason=wrong path=/api/campaigns client=testclient"),
        ("INFO", refused),
        ("INFO", "token refused: reason=missing path=/api/campaigns client=testclient"),
        ("INFO", refused),
        ("INFO", "request: method=GET path=/metrics status=200 client=testclient"),
    ]
