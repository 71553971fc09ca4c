"""The HTTP gateway against a real server that answers badly."""

import html
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from simulator.stack.local import WORKER_STOP_SECONDS
from tests.support.factory import find_violations, read_states, step_context
from tests.support.gateways import (
    make_certificate,
    make_ready_batch,
    read_acceptance_times,
    read_details,
    submit,
)
from tests.support.http_server import DRIP_SECONDS, HOST, HttpServer, start_http_server
from tests.support.inline_runs import run_step
from tests.support.shell import wait_until
from tracker.errors import UsageError
from tracker.queries.next_step import next_step
from tracker.record.catalog import Batch
from tracker.record.receipts import Receipt, apply_receipts
from tracker.record.unconfirmed import UNCONFIRMED
from tracker.status import Status, Step
from tracker.store.database import Database
from tracker.text import HIDDEN
from workers.gateways.base import GatewayUnavailable, Submission
from workers.gateways.http import HttpGateway
from workers.gateways.http_client import BODY_SECONDS, MAX_BODY_BYTES
from workers.gateways.http_settings import HttpSettings, load_endpoint
from workers.gateways.safety import check_gateway, open_gateway
from workers.gateways.step_time import MAX_CALL_SECONDS, MAX_REPLY_SECONDS, STEP_MARGIN_SECONDS
from workers.gateways.throttle import UnlimitedThrottle
from workers.message.rendering import MessageRenderer, RenderedMessage
from workers.steps import at_gateway
from workers.steps.limits import StepTimeout, limit_step_time

DELIVERED, HARD_BOUNCED, SOFT_BOUNCED = Status.DELIVERED, Status.HARD_BOUNCED, Status.SOFT_BOUNCED

KEY = "SENDTRACE_HTTP_KEY"
SECRET = "s3cret-of-the-api"  # noqa: S105  # of the server in these tests
ODD_SECRET = 'secret/of+the "API" &'  # noqa: S105  # servers write it in several ways

ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

Open = Callable[..., HttpGateway]


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with start_http_server() as started:
        yield started


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_ALLOW_GATEWAYS", "http")
    monkeypatch.setenv(KEY, SECRET)


@pytest.fixture
def open_http(database: Database, server: HttpServer) -> Iterator[Open]:
    """Return a function that opens a gateway to the server with some settings."""
    with ExitStack() as stack:

        def open_with(**settings: Any) -> HttpGateway:
            gateway = HttpGateway(json.dumps({"url": url_of(server)} | settings), database)
            stack.callback(gateway.close)
            return gateway

        yield open_with


class FrozenTime:
    """The time of a gateway, which only the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def frozen_time(monkeypatch: pytest.MonkeyPatch) -> FrozenTime:
    frozen = FrozenTime()
    monkeypatch.setattr("workers.gateways.http.time", frozen)
    return frozen


def url_of(server: HttpServer) -> str:
    return f"{server.scheme}://{HOST}:{server.port}/send"


def make_batch_to(database: Database, *names: str) -> Batch:
    return make_ready_batch(database, *(f"{name}@shop.internal" for name in names), kind="http")


def read_statuses(database: Database, batch: Batch) -> list[Status]:
    return [state.status for _, state in sorted(read_states(database, batch).items())]


def wait_for_closed(server: HttpServer, connections: int) -> None:
    wait_until(lambda: server.closed >= connections, "the server has closed connections")


def with_rules(batch: Batch, *rules: dict[str, object]) -> Batch:
    return replace(batch, campaign=replace(batch.campaign, replies=json.dumps(rules)))


def test_only_a_reply_about_the_recipient_bounces_a_message(
    database: Database, open_http: Open
) -> None:
    names = ("ann", "invalid", "stopped", "ann", "malformed", "nosuch", "ann", "failing", "ann")
    batch = make_batch_to(database, *names)
    submit(database, batch, open_http(parallel=1))
    assert read_statuses(database, batch) == [
        *(DELIVERED, HARD_BOUNCED, HARD_BOUNCED, DELIVERED, SOFT_BOUNCED, SOFT_BOUNCED),
        *(DELIVERED, SOFT_BOUNCED, DELIVERED),
    ]
    assert read_details(database, batch, 0) == ['202 {"id": "m-1"}']
    assert read_details(database, batch, 1)[0].startswith('400 {"code": 21211')  # type: ignore[union-attr]
    assert read_details(database, batch, 5) == [
        "refused for this message only: 404 <h1>not here</h1>"
    ]
    assert find_violations(database, batch.campaign) == []


@ON_SQLITE
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("malformed", "400 .*a body is required"),
        ("sender", "400 .*Does not contain a valid address"),
        ("nosuch", "404 <h1>not here</h1>"),
        ("denied", "401 .*no such key"),
        ("failing", "500 boom"),
        ("elsewhere", "302 redirects to http://mail.shop.internal/send"),
    ],
)
def test_no_message_bounces_while_the_server_refuses_everybody(
    database: Database, server: HttpServer, open_http: Open, name: str, cause: str
) -> None:
    batch = make_batch_to(database, *(f"{name}+{number}" for number in range(9)))
    gateway = open_http()
    for count in range(3):
        with pytest.raises(GatewayUnavailable, match=f"refuses messages: {cause}"):
            submit(database, batch, gateway, unavailable_count=count)
    assert set(read_statuses(database, batch)) == {Status.ABOUT_TO_BE_SENT}
    assert len(server.requests) <= 3 * (3 + gateway._settings.parallel)
    assert {request["path"] for request in server.requests} == {"/send"}


@ON_SQLITE
def test_rules_of_the_scenario_come_first(database: Database, open_http: Open) -> None:
    batch = with_rules(
        make_batch_to(database, "full", "lying", "invalid", "ann"),
        {"match": "422", "json": {"error.code": "mailbox_full"}, "as": "soft"},
        {"match": "200", "json": {"status": "error", "reason": "number barred"}, "as": "hard"},
        {"match": "21211", "as": "soft"},
        {"match": "m-1", "as": "hard"},
    )
    submit(database, batch, open_http())
    assert read_statuses(database, batch) == [SOFT_BOUNCED, HARD_BOUNCED, SOFT_BOUNCED, DELIVERED]


@ON_SQLITE
@pytest.mark.parametrize("name", ["reset", "stall", "drip", "garbage"])
def test_a_message_without_a_reply_is_unconfirmed_and_is_not_sent_again(
    database: Database,
    server: HttpServer,
    open_http: Open,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    if name == "drip":
        monkeypatch.setenv("SENDTRACE_HTTP_TIMEOUT", "2")
    batch = make_batch_to(database, "ann", name, "bob")
    gateway = open_http()
    began = time.monotonic()
    for _ in range(2):
        run_step(database, batch, Step.SUBMIT, gateway)
        run_step(database, batch, Step.DELIVER, gateway)
    assert time.monotonic() - began < DRIP_SECONDS / 2
    assert read_statuses(database, batch) == [DELIVERED, Status.IN_GATEWAY, DELIVERED]
    assert read_details(database, batch, 1) == [UNCONFIRMED]
    assert Counter(server.recipients) == {"ann": 1, name: 1, "bob": 1}
    assert next_step(database, batch) is None
    assert find_violations(database, batch.campaign) == []


@ON_SQLITE
def test_with_an_idempotency_key_a_request_without_a_reply_is_repeated_once(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    batch = make_batch_to(database, "once", "reset")
    submit(database, batch, open_http(idempotency_header="Idempotency-Key"))
    assert read_statuses(database, batch) == [DELIVERED, Status.IN_GATEWAY]
    assert Counter(server.recipients) == {"once": 2, "reset": 2}
    keys = {(request["name"], request["headers"]["Idempotency-Key"]) for request in server.requests}
    assert len(keys) == 2, "the key of a message stays the same"


@ON_SQLITE
def test_a_key_belongs_to_a_message_and_its_attempt(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    batch = make_batch_to(database, "ann")
    template = {"to": "{{ recipient }}", "ref": "{{ message_id }}", "key": "{{ idempotency_key }}"}
    submission = Submission(
        campaign=batch.campaign, attempt=1, numbers=[0], recipients=["ann@shop.internal"]
    )
    for attempt in (1, 1, 2):
        # Another process has a gateway of its own.
        gateway = open_http(idempotency_header="X-Key", json=template)
        gateway.submit(replace(submission, attempt=attempt), 0)
    first, repeated, retried = (request["headers"]["X-Key"] for request in server.requests)
    assert first == repeated != retried
    assert [request["body"]["key"] for request in server.requests] == [first, repeated, retried]
    assert len({request["body"]["ref"] for request in server.requests}) == 1


@ON_SQLITE
@pytest.mark.parametrize(("status", "is_date"), [(429, False), (503, True)])
def test_a_pause_that_the_server_asks_for_is_kept(
    database: Database,
    server: HttpServer,
    open_http: Open,
    frozen_time: FrozenTime,
    status: int,
    is_date: bool,
) -> None:
    batch = make_batch_to(database, *(f"ann+{number}" for number in range(6)))
    gateway = open_http()
    submit(database, batch, gateway, granted=1)
    wait = formatdate(time.time() + 99, usegmt=True) if is_date else "99"
    server.everything = (status, {"Retry_After": wait})
    for count in range(4):
        frozen_time.seconds += 10
        with pytest.raises(GatewayUnavailable, match=f"{status} for all"):
            submit(database, batch, gateway, unavailable_count=count)
    assert len(server.requests) <= 1 + gateway._settings.parallel
    assert read_statuses(database, batch) == [DELIVERED, *[Status.ABOUT_TO_BE_SENT] * 5]
    server.everything = None
    frozen_time.seconds += 99
    submit(database, batch, gateway)
    assert set(read_statuses(database, batch)) == {DELIVERED}


@ON_SQLITE
def test_a_server_without_any_replies_gets_few_messages(
    database: Database, server: HttpServer, open_http: Open, frozen_time: FrozenTime
) -> None:
    batch = make_batch_to(database, *(f"ann+{number}" for number in range(30)))
    server.is_silent = True
    gateway = open_http()
    for _ in range(3):
        submit(database, batch, gateway, granted=1)
    for pause in (1, 2, 4):
        frozen_time.seconds += pause - 0.5
        with pytest.raises(GatewayUnavailable, match="no reply to the message"):
            submit(database, batch, gateway, granted=1)
        frozen_time.seconds += 0.5
        submit(database, batch, gateway, granted=1)
    assert len(server.requests) == 6
    assert read_statuses(database, batch).count(Status.IN_GATEWAY) == len(server.requests)


@ON_SQLITE
def test_an_unreachable_server_is_unavailable(database: Database, server: HttpServer) -> None:
    gateway = HttpGateway('{"url": "http://127.0.0.1:9/"}', database)
    batch = make_batch_to(database, "ann")
    with pytest.raises(GatewayUnavailable, match=r"HTTP server 127\.0\.0\.1:9: request failed"):
        submit(database, batch, gateway)
    with pytest.raises(UsageError, match="request failed"):
        check_gateway("http", '{"url": "http://127.0.0.1:9/"}', database)
    check_gateway("http", json.dumps({"url": url_of(server)}), database)
    assert server.requests == []
    assert set(read_statuses(database, batch)) == {Status.ABOUT_TO_BE_SENT}
    gateway.close()


@ON_SQLITE
def test_connections_are_reused_and_those_that_the_server_closed_are_not(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    names = [*(f"ann+{number}" for number in range(20)), "closing", "bob", "cut", "eve"]
    batch = make_batch_to(database, *names)
    gateway = open_http(parallel=1)
    for granted, closed in ((21, 1), (2, 2), (99, 2)):
        submit(database, batch, gateway, granted=granted)
        wait_for_closed(server, closed)
    assert set(read_statuses(database, batch)) == {DELIVERED}
    peers = [request["peer"] for request in server.requests]
    assert len(set(peers[:21])) == 1
    assert len(set(peers)) <= 4
    assert len(server.requests) == len(names)


def test_an_accepted_message_may_wait_for_a_reported_receipt(
    database: Database, open_http: Open
) -> None:
    batch = make_batch_to(database, "ann", "invalid")
    gateway = open_http(receipts_within="PT60S")
    for step in (Step.SUBMIT, Step.DELIVER):
        run_step(database, batch, step, gateway)
    assert read_statuses(database, batch) == [Status.IN_GATEWAY, HARD_BOUNCED]
    assert read_details(database, batch, 0) == []
    following = next_step(database, batch)
    assert following is not None
    assert (following.step, following.delay.total_seconds() <= 2) == (Step.DELIVER, True)
    run_step(database, batch, Step.DELIVER, open_http(receipts_within="PT0.000001S"))
    assert next_step(database, batch) is None
    assert find_violations(database, batch.campaign) == []


@ON_SQLITE
def test_a_run_waits_for_no_receipt_once_all_have_come(database: Database, open_http: Open) -> None:
    batch = make_batch_to(database, "ann")
    gateway = open_http(receipts_within="PT60S")
    run_step(database, batch, Step.SUBMIT, gateway)
    receipt = Receipt(0, 1, DELIVERED, batch.campaign.clock.now())
    with step_context(database, batch).entry(Step.DELIVER, started_at=receipt.at) as written:
        apply_receipts(written, [receipt])
    run_step(database, batch, Step.DELIVER, gateway)
    assert next_step(database, batch) is None


@ON_SQLITE
def test_a_limited_number_of_requests_runs_at_the_same_time(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    batch = make_batch_to(database, *(f"late+{number}" for number in range(12)))
    submit(database, batch, open_http(parallel=3))
    assert set(read_statuses(database, batch)) == {DELIVERED}
    assert 2 <= server.most_at_once <= 3


def test_each_message_is_recorded_as_accepted_when_the_server_replied(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    batch = make_batch_to(database, *(f"ann+{number}" for number in range(10)))
    submit(database, batch, open_http(parallel=1))
    recorded = read_acceptance_times(database, batch)
    logged = [request["at"] for request in server.requests]
    assert recorded[9] >= logged[9]
    for number, (at, following) in enumerate(pairwise(logged)):
        assert at <= recorded[number] <= following


@ON_SQLITE
@pytest.mark.parametrize(("name", "beginning"), [("huge", "202 xxx"), ("broken", "202 {not JSON")])
def test_the_status_counts_whatever_the_body_is(
    database: Database, server: HttpServer, open_http: Open, name: str, beginning: str
) -> None:
    batch = make_batch_to(database, name, "ann")
    submit(database, batch, open_http())
    assert set(read_statuses(database, batch)) == {DELIVERED}
    [detail] = read_details(database, batch, 0)
    assert detail is not None
    assert detail.startswith(beginning)
    assert len(detail) < 500 < MAX_BODY_BYTES
    wait_for_closed(server, 1 if name == "huge" else 0)
    assert not server.was_read_to_the_end


def test_the_body_is_made_from_the_template(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    batch = make_batch_to(database, "ann")
    hostile = replace(batch.campaign, sender='Acme "\r\n{{ recipient }}')
    template = {
        "to": ["{{ recipient | upper }}"],
        "from": {"name": "{{ sender }}"},
        "subject": "{{ subject }}",
        "who": "{{ customer_id }} {{ channel }} {{ campaign }} {{ number }}.{{ attempt }}",
        "priority": 5,
        "test": True,
        "none": [],
    }
    submit(
        database,
        replace(batch, campaign=hostile),
        open_http(json=template, headers={"X-App": "shop"}, method="PUT"),
    )
    [request] = server.requests
    assert request["body"] == {
        "to": ["ANN@SHOP.INTERNAL"],
        "from": {"name": 'Acme "\r\n{{ recipient }}'},
        "subject": "spring",
        "who": "c0 email spring 0.1",
        "priority": 5,
        "test": True,
        "none": [],
    }
    assert request["headers"]["X-App"] == "shop"
    assert request["headers"]["Content-Type"] == "application/json"


@ON_SQLITE
def test_secrets_are_sent_but_never_shown(
    database: Database, server: HttpServer, open_http: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    settings = {"headers": {"Authorization": f"Bearer ${{{KEY}}}"}}
    gateway = open_http(**settings, parallel=1)
    batch = make_batch_to(database, "echo", "ann")
    submit(database, batch, gateway)
    assert server.requests[0]["headers"]["Authorization"] == f"Bearer {SECRET}"
    [detail] = read_details(database, batch, 0)
    assert detail is not None
    assert "bad credentials Bearer •••" in detail
    alone = make_batch_to(database, "echo")
    with pytest.raises(GatewayUnavailable, match="bad credentials") as caught:
        submit(database, alone, gateway)
    shown = f"{caught.value} {caplog.text} {vars(gateway._client)} {vars(gateway)}"
    assert SECRET not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {ODD_SECRET}",
        json.dumps({"got": ODD_SECRET}),
        json.dumps({"got": ODD_SECRET}).replace("/", r"\/"),
        f"<p>{html.escape(ODD_SECRET)}</p>",
        f"?key={quote(ODD_SECRET)}",
        f"?key={quote_plus(ODD_SECRET)}",
    ],
)
def test_a_secret_is_hidden_however_a_server_writes_it(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(KEY, ODD_SECRET)
    headers = {"Authorization": f"Bearer ${{{KEY}}}"}
    settings = HttpSettings(url="http://localhost/", headers=headers)
    hidden = load_endpoint(settings).hide_secrets(text)
    assert HIDDEN in hidden
    assert "secret" not in hidden


def test_a_call_ends_before_a_worker_that_was_told_to_exit_is_killed() -> None:
    """What a call has sent is recorded at its end. A killed worker would send it again."""
    assert MAX_CALL_SECONDS <= WORKER_STOP_SECONDS / 2


@ON_SQLITE
@pytest.mark.parametrize(
    ("environment", "overrides", "message"),
    [
        ({}, {}, f"{KEY}: not set"),
        ({KEY: "a\nb"}, {}, f"{KEY}: expected printable ASCII"),
        ({KEY: SECRET, "SENDTRACE_HTTP_TIMEOUT": "41"}, {}, "SENDTRACE_HTTP_TIMEOUT:"),
        ({KEY: SECRET}, {"url": "https://api.shop.internal/x"}, "HTTP_HOSTS=api.shop.internal"),
        (
            {KEY: SECRET, "SENDTRACE_HTTP_HOSTS": "api.shop.internal"},
            {"url": "http://api.shop.internal/x"},
            "expected https",
        ),
        ({KEY: SECRET, "SENDTRACE_ALLOW_GATEWAYS": "smtp"}, {}, "SENDTRACE_ALLOW_GATEWAYS=http"),
    ],
)
def test_an_environment_that_does_not_allow_the_gateway_is_refused(
    database: Database,
    server: HttpServer,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    overrides: dict[str, str],
    message: str,
) -> None:
    monkeypatch.delenv(KEY)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    usual = {"url": url_of(server), "headers": {"Authorization": f"Bearer ${{{KEY}}}"}}
    with pytest.raises(UsageError, match=message) as caught:
        check_gateway("http", json.dumps(usual | overrides), database)
    assert SECRET not in str(caught.value)


@ON_SQLITE
def test_a_host_that_the_environment_names_may_be_called(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDTRACE_HTTP_HOSTS", "other.internal, API.shop.internal")
    settings = {
        "url": "https://api.shop.internal/x",
        "headers": {"Authorization": f"Bearer ${{{KEY}}}"},
    }
    open_gateway("http", json.dumps(settings), database)
    open_gateway("http", '{"url": "http://other.internal/x"}', database)


@ON_SQLITE
def test_no_proxy_gets_what_is_meant_for_this_machine(
    database: Database, open_http: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    batch = make_batch_to(database, "ann")
    submit(database, batch, open_http())
    assert set(read_statuses(database, batch)) == {DELIVERED}


@ON_SQLITE
def test_the_certificate_is_verified(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "key.pem").read_text() + certificate.read_text())
    batch = make_batch_to(database, "ann")
    with start_http_server(both) as server:
        settings = json.dumps({"url": url_of(server)})
        untrusting = HttpGateway(settings, database)
        with pytest.raises(GatewayUnavailable, match=r"(?i)certificate.verify.failed"):
            submit(database, batch, untrusting)
        untrusting.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        gateway = HttpGateway(settings, database)
        submit(database, batch, gateway)
        gateway.close()
    assert set(read_statuses(database, batch)) == {DELIVERED}
    assert len(server.requests) == 1


@ON_SQLITE
def test_a_step_has_time_for_the_replies_that_it_waits_for(
    database: Database, server: HttpServer, open_http: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions = list[float]()
    monkeypatch.setattr("workers.gateways.step_time._extend", extensions.append)
    batch = make_batch_to(database, "ann")
    submit(database, batch, open_http())
    assert extensions == [MAX_REPLY_SECONDS + BODY_SECONDS + STEP_MARGIN_SECONDS]


@ON_SQLITE
def test_a_call_ends_after_its_time_with_the_messages_sent_so_far(
    database: Database, server: HttpServer, open_http: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.gateways.http.MAX_CALL_SECONDS", 0)
    batch = make_batch_to(database, *(f"ann+{number}" for number in range(9)))
    submit(database, batch, open_http(parallel=2))
    assert read_statuses(database, batch).count(DELIVERED) == len(server.requests) == 2


@ON_SQLITE
def test_an_interrupted_call_ends_its_requests(
    database: Database, server: HttpServer, open_http: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.gateways.http_client.extend_step_time", lambda _seconds: None)
    for name in ("MAX_STEP_SECONDS", "MIN_STEP_SECONDS"):
        monkeypatch.setattr(f"workers.steps.limits.{name}", 1.4)  # three ticks
    batch = make_batch_to(database, "drip+1", "drip+2", "ann")
    gateway = open_http(parallel=2)
    with pytest.raises(StepTimeout), limit_step_time(0):
        at_gateway.submit(step_context(database, batch), gateway, UnlimitedThrottle())
    assert gateway._client._client is None
    assert set(read_statuses(database, batch)) == {Status.ABOUT_TO_BE_SENT}
    assert server.recipients == ["drip", "drip"]


@ON_SQLITE
def test_a_template_that_fails_for_a_message_affects_no_other(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    batch = make_batch_to(database, "ann", "bob", "eve")
    template = {"to": "{{ recipient }}", "share": "{{ 1 / (number - 1) }}"}
    submit(database, batch, open_http(json=template, parallel=1))
    assert read_statuses(database, batch) == [DELIVERED, Status.NOT_SENT, DELIVERED]
    assert server.recipients == ["ann", "eve"]
    assert "template json: ZeroDivisionError" in str(read_details(database, batch, 1))


@ON_SQLITE
def test_an_error_while_requests_are_made_loses_no_message_that_was_sent(
    database: Database, open_http: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch_to(database, "ann", "bob", "eve")
    render = MessageRenderer.render

    def fail_once(renderer: MessageRenderer, number: int) -> RenderedMessage:
        if number == 1:
            raise OSError("the database is away")
        return render(renderer, number)

    monkeypatch.setattr(MessageRenderer, "render", fail_once)
    gateway = open_http(parallel=1)
    submit(database, batch, gateway)
    assert read_statuses(database, batch) == [DELIVERED, *[Status.ABOUT_TO_BE_SENT] * 2]
    with pytest.raises(OSError, match="is away"):
        submit(database, batch, gateway)


@ON_SQLITE
def test_a_malformed_address_bounces_without_a_request(
    database: Database, server: HttpServer, open_http: Open
) -> None:
    addresses = ("ann@shop..internal", "Ann@BÜCHER.internal", "bob")
    batch = make_ready_batch(database, *addresses, kind="http")
    submit(database, batch, open_http())
    assert read_statuses(database, batch) == [HARD_BOUNCED, DELIVERED, HARD_BOUNCED]
    assert read_details(database, batch, 0) == ["400 5.1.3 invalid address"]
    [request] = server.requests
    assert request["body"]["recipient"] == "Ann@xn--bcher-kva.internal"


@ON_SQLITE
def test_reserved_recipients_get_nothing(database: Database, server: HttpServer) -> None:
    batch = make_ready_batch(database, "c1@example.com", "ann@shop.internal", kind="http")
    gateway = open_gateway("http", json.dumps({"url": url_of(server)}), database)
    submit(database, batch, gateway)
    assert read_statuses(database, batch) == [HARD_BOUNCED, DELIVERED]
    assert server.recipients == ["ann"]
