"""Gateways with a rate, with faults, and a real SMTP server, behind real workers and a broker."""

import itertools
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.http_server import start_http_server
from tests.support.paths import SCENARIOS
from tests.support.shell import FinishedRun, Shell, wait_until
from tests.support.smtp_server import SmtpServerProcess, start_smtp_server

MICROSECONDS_PER_SECOND = 1_000_000


def read_rows(shell: Shell, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{shell.database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


LIMITED = """\
name = "limited"

[[campaigns]]
name = "spring-email"
channel = "email"
audience = 4_000

[[campaigns]]
name = "summer-email"
channel = "email"
audience = 2_000

[gateways.email]
latency = { median = "100ms", p99 = "300ms" }
rate = 1_000
"""


def test_a_rate_holds_across_workers_and_batches(shell: Shell) -> None:
    scenario = shell.write("limited.toml", LIMITED)
    run = FinishedRun.of(shell, scenario, "--batch-size", "500", "--no-record")
    accepted = read_rows(
        shell, "SELECT accepted_at, count(*) FROM gateway_ledger GROUP BY accepted_at ORDER BY 1"
    )
    instants = [at for at, _ in accepted]
    totals = [0, *itertools.accumulate(count for _, count in accepted)]
    end, most = 0, 0
    for start, started_at in enumerate(instants):
        while end < len(instants) and instants[end] < started_at + MICROSECONDS_PER_SECOND:
            end += 1
        most = max(most, totals[end] - totals[start])
    assert most <= 1_010
    assert run.result["figures"]["gateway.repeats"] == 0


def test_a_faulty_gateway_matches_its_prediction_with_each_fault_counted(shell: Shell) -> None:
    scenario = SCENARIOS / "hostile-gateway.toml"
    run = FinishedRun.of(shell, scenario, "--batch-size", "1000", "--no-record")
    prefix = "gateway."
    gateway = {
        name.removeprefix(prefix): value
        for name, value in run.result["figures"].items()
        if name.startswith(prefix)
    }
    for kind in ("duplicate", "stale", "lost", "late_bounce", "refused"):
        assert gateway[kind] > 0, kind
        assert f"{gateway[kind]:,} {kind.replace('_', ' ')}" in run.stdout
    assert gateway["unknown"] == 0
    [campaign] = run.result["campaigns"]
    assert campaign["sent"]["in_gateway"] == gateway["lost"]
    [refused_calls] = read_rows(shell, "SELECT count(*) FROM gateway_refused_calls")
    # Twenty batches back off for five seconds, and call at most once a second.
    assert 0 < gateway["refused_calls"] == refused_calls[0] < 20 * 6
    assert 'error="GatewayUnavailable: simulated outage of the gateway"' in run.stderr
    assert shell.run("verify").returncode == 0


def test_messages_settle_while_the_rest_of_their_batch_waits(shell: Shell) -> None:
    slow = LIMITED.replace("rate = 1_000", "rate = 40").replace("audience = 4_000", "audience = 1")
    options = ("--batch-size", "2000", "--no-record")
    shell.start("simulate", shell.write("slow.toml", slow), *options)
    by_status = "SELECT count(*) FROM messages_by_name WHERE status = '{}'"

    def are_some_delivered_while_others_wait() -> bool:
        delivered, waiting = (
            shell.query_number(by_status.format(status))
            for status in ("delivered", "about_to_be_sent")
        )
        return delivered > 40 and waiting > 40

    wait_until(are_some_delivered_while_others_wait, "some are delivered while others wait")


@pytest.fixture
def smtp_server(tmp_path: Path) -> Iterator[SmtpServerProcess]:
    server = start_smtp_server(tmp_path)
    yield server
    server.stop()


BY_SMTP = """\
name = "by-smtp"

[organization]
title = "Acme — दुकान"
credit = { email = 100 }

[organization.email]
unsubscribe_url = "https://shop.internal/leave?c={{ customer_id }}"
unsubscribe_email = "leave@shop.internal"

[[campaigns]]
name = "spring-email"
title = "Diwali — Festive Sale 2026"
channel = "email"
audience = "people.csv"

[campaigns.message]
subject = "{{ title }}: दिवाली in {{ field.city }}"
html_file = "offer.html"
size = "20KB"

[gateways.email]
kind = "smtp"
attempts = 3
retry_after = "100ms"
"""


@pytest.fixture
def by_smtp(shell: Shell) -> Path:
    names = [f"c{number}" for number in range(60)]
    names += ["refuse+1", "refuse+2", "reject", "defer+1", "defer+2", "c65"]
    lines = [f"{name},{name}@shop.internal,<Köln>\n" for name in names]
    lines += ["reserved,customer1@example.com,Bonn\n", "without,,Bonn\n"]
    lines += ["nowhere,nowhere@shop.internal,\n"]
    shell.write("people.csv", "customer_id,email,field:city\n" + "".join(lines))
    shell.write("offer.html", "<p>{{ organization }} in {{ field.city }}</p>")
    return shell.write("by-smtp.toml", BY_SMTP)


def test_a_campaign_by_smtp_delivers_each_message_once(
    shell: Shell, by_smtp: Path, smtp_server: SmtpServerProcess
) -> None:
    options = ("--batch-size", "30", "--no-record")
    run = FinishedRun.of(shell, by_smtp, *options, settings=smtp_server.settings)
    [campaign] = run.result["campaigns"]
    assert campaign["sent"]["delivered"] == 63
    bounced = campaign["sent"]["bounced"]
    assert (bounced["total"], bounced["hard"], bounced["soft"]) == (3, 2, 1)
    assert sum(bounced["causes"]["hard"].values()) == 2
    unusable = campaign["not_sent"]["incomplete_or_invalid"]
    assert (unusable["email_missing"], unusable["gateway_configuration"]) == (1, 1)
    assert unusable["data_missing"] == 1
    assert "field:city" in shell.run("trace", "spring-email", "68").stdout
    assert campaign["title"] == "Diwali — Festive Sale 2026"
    assert "spring-email · Diwali — Festive Sale 2026 · email" in shell.run("report").stdout
    assert_content_is_that_of_the_templates(smtp_server)
    recipients = Counter(mail["to"] for mail in smtp_server.accepted)
    assert len(recipients) == 63
    assert set(recipients.values()) == {1}
    assert len({mail["headers"]["Message-ID"] for mail in smtp_server.accepted}) == 63
    assert len({mail["peer"] for mail in smtp_server.accepted}) <= 8, "connections are reused"
    assert_times_are_those_of_the_server(run, smtp_server)
    refused = shell.run("trace", "spring-email", "60").stdout
    assert "5.1.1 unknown user" in refused
    deferred = shell.run("trace", "spring-email", "63").stdout
    assert "4.7.1 try again later" in deferred
    assert "2.0.0 accepted" in deferred
    reserved = shell.run("trace", "spring-email", "66").stdout
    assert "the recipient is reserved" in reserved


def assert_content_is_that_of_the_templates(server: SmtpServerProcess) -> None:
    """Assert what a recipient reads, how to unsubscribe, and the size on the wire."""
    mail = next(mail for mail in server.accepted if mail["to"] == "c7@shop.internal")
    headers = mail["headers"]
    assert headers["Subject"] == "Diwali — Festive Sale 2026: दिवाली in <Köln>"
    assert mail["html"].strip() == "<p>Acme — दुकान in &lt;Köln&gt;</p>"
    assert headers["List-Unsubscribe"] == (
        "<https://shop.internal/leave?c=c7>, <mailto:leave@shop.internal?subject=unsubscribe>"
    )
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert all(19_000 <= mail["size"] <= 21_000 for mail in server.accepted)


def assert_times_are_those_of_the_server(run: FinishedRun, server: SmtpServerProcess) -> None:
    """Assert that the record and the throughput follow from the server's log."""
    rows = read_rows(
        run.shell,
        "SELECT number, microseconds_utc FROM transitions_by_name"
        " WHERE status = 'in_gateway' AND attempt = 1",
    )
    recorded = {f"c{number}@shop.internal": at for number, at in rows}
    by_connection: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for mail in server.accepted:
        by_connection[mail["peer"]].append(mail)
    for mails in by_connection.values():
        ends = [mail["at"] for mail in mails[1:]] + [max(recorded.values())]
        for mail, following in zip(mails, ends, strict=True):
            if mail["to"] in recorded:
                assert mail["at"] <= recorded[mail["to"]] <= following
    [(first_arrival,)] = read_rows(run.shell, "SELECT min(at) FROM transitions")
    seconds = (max(recorded.values()) - first_arrival) / MICROSECONDS_PER_SECOND
    assert run.result["throughput"] == pytest.approx(len(recorded) / seconds)


BY_HTTP = """\
name = "by-http"

[[campaigns]]
name = "spring-sms"
channel = "sms"
audience = { file = "people.csv", numbers = "possible" }

[gateways.sms]
kind = "http"
attempts = 2
retry_after = "100ms"
replies = [{ match = "422", json = { "error.code" = "mailbox_full" }, as = "soft" }]

[gateways.sms.http]
url = "URL"
headers = { Authorization = "Bearer ${SENDTRACE_HTTP_KEY}" }
json = { recipient = "{{ customer_id }}", to = "{{ recipient }}", text = "{{ text }}" }
idempotency_header = "Idempotency-Key"
"""

HTTP_SETTINGS = {
    "SENDTRACE_ALLOW_GATEWAYS": "http",
    "SENDTRACE_HTTP_KEY": "s3cret-of-the-api",
    "SENDTRACE_HTTP_TIMEOUT": "5",
}


def test_a_campaign_by_http_delivers_each_message_once(shell: Shell) -> None:
    names = [
        *(f"c+{number}" for number in range(40)),
        "invalid",
        "full",
        "once",
        "reset",
        "failing",
    ]
    lines = [f"{name},+1555000{number:04d}\n" for number, name in enumerate(names)]
    lines += ["reserved,+447700900123\n", "without,\n"]
    shell.write("people.csv", "customer_id,mobile\n" + "".join(lines))
    with start_http_server() as server:
        scenario = shell.write("by-http.toml", BY_HTTP.replace("URL", server.url))
        without_key = {**HTTP_SETTINGS, "SENDTRACE_HTTP_KEY": ""}
        refused = shell.run("simulate", scenario, settings=without_key)
        assert (refused.returncode, server.requests) == (2, [])
        assert "SENDTRACE_HTTP_KEY: not set" in refused.stderr
        options = ("--batch-size", "20", "--no-record")
        run = FinishedRun.of(shell, scenario, *options, settings=HTTP_SETTINGS)
    [campaign] = run.result["campaigns"]
    sent = campaign["sent"]
    assert (sent["delivered"], sent["unconfirmed"]) == (41, 1)
    assert (sent["bounced"]["hard"], sent["bounced"]["soft"]) == (1, 2)
    unusable = campaign["not_sent"]["incomplete_or_invalid"]
    assert unusable["mobile_missing_or_invalid"] == unusable["gateway_configuration"] == 1
    keys = Counter(request["headers"]["Idempotency-Key"] for request in server.requests)
    requests = Counter(request["body"]["recipient"] for request in server.requests)
    assert {name for name, count in requests.items() if count > 1} == {
        *("full", "once", "reset", "failing")
    }
    assert len(keys) >= len(names) + 2, "each attempt has a key of its own"
    assert {request["headers"]["Authorization"] for request in server.requests} == {
        "Bearer s3cret-of-the-api"
    }
    for file in shell.database.parent.rglob("*"):
        assert not file.is_file() or b"s3cret-of-the-api" not in file.read_bytes(), file
    assert '400 {"code": 21211' in shell.run("trace", "spring-sms", "40").stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "SENDTRACE_ALLOW_GATEWAYS=smtp"),
        ({"SENDTRACE_ALLOW_GATEWAYS": "smtp"}, "SENDTRACE_SMTP_FROM: not set"),
    ],
)
def test_a_real_gateway_is_not_used_by_accident(
    shell: Shell, by_smtp: Path, settings: dict[str, str], message: str
) -> None:
    ended = shell.run("simulate", by_smtp, settings=settings)
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
    assert shell.query_number("SELECT count(*) FROM runs") == 0
