"""The SMTP gateway against a real server, and the guard between synthetic messages and people."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from simulator.setup.record import record_run
from tests.support.factory import (
    READY,
    Plan,
    enqueue_batches,
    find_violations,
    in_gateway,
    in_status,
    make_campaign,
    move,
    not_sent_for,
    read_states,
    step_context,
)
from tests.support.gateways import (
    make_certificate,
    make_ready_batch,
    read_acceptance_times,
    read_details,
    submit,
)
from tests.support.inline_runs import build_campaign, build_scenario, run_step
from tests.support.smtp_server import (
    DRIP_SECONDS,
    HOST,
    REFUSING_FILE,
    SLOW_REPLY_SECONDS,
    SmtpServerProcess,
    start_smtp_server,
)
from tracker.errors import UsageError
from tracker.queries.next_step import next_step
from tracker.record import allowance
from tracker.record.catalog import load_campaign
from tracker.record.unconfirmed import UNCONFIRMED
from tracker.status import Channel, Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.gateways.base import GatewayUnavailable, Submission
from workers.gateways.safety import GuardedGateway, is_reserved, open_gateway
from workers.gateways.smtp import SmtpGateway
from workers.gateways.smtp_connection import SmtpReply
from workers.gateways.smtp_settings import SmtpSettings, load_smtp_settings
from workers.gateways.step_time import MAX_REPLY_SECONDS
from workers.gateways.throttle import UnlimitedThrottle
from workers.steps import at_gateway
from workers.steps.limits import StepTimeout, limit_step_time
from workers.steps.refusals import MIN_TRIES_ALONE, MIN_TRIES_ALONE_IF_TEMPORARY

DELIVERED = Status.DELIVERED
HARD_BOUNCED = Status.HARD_BOUNCED
SOFT_BOUNCED = Status.SOFT_BOUNCED


@pytest.fixture
def serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SmtpServerProcess]]:
    """Return a function that starts a server and configures the gateway for it."""
    started: list[SmtpServerProcess] = []

    def start(*options: str) -> SmtpServerProcess:
        started.append(start_smtp_server(tmp_path, *options))
        for name, value in started[-1].settings.items():
            monkeypatch.setenv(name, value)
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_a_reply_decides_the_outcome_and_is_recorded(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    names = ("ann", "refuse", "defer", "reject", "bob")
    batch = make_ready_batch(database, *(f"{name}@shop.internal" for name in names))
    gateway = open_gateway("smtp", "{}", database)
    run_step(database, batch, Step.SUBMIT, gateway)
    assert read_states(database, batch) == dict(
        enumerate(
            in_status(status)
            for status in (DELIVERED, HARD_BOUNCED, SOFT_BOUNCED, SOFT_BOUNCED, DELIVERED)
        )
    )
    replies = ["250 2.0.0 accepted", "550 5.1.1 unknown user", "451 4.7.1 try again later"]
    assert [read_details(database, batch, number) for number in range(3)] == [
        [reply] for reply in replies
    ]
    refused = "refused for this message only: 554 5.7.1 message rejected"
    assert read_details(database, batch, 3) == [refused]

    run_step(database, batch, Step.SUBMIT, gateway)
    assert read_states(database, batch)[2] == in_status(DELIVERED, 2)
    assert [mail["to"].partition("@")[0] for mail in server.accepted] == ["ann", "bob", "defer"]
    assert len({mail["peer"] for mail in server.accepted}) == 1, "one connection for all messages"


def test_each_message_is_recorded_as_accepted_when_the_server_accepted_it(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    names = [*(f"ann{number}" for number in range(20)), "refuse", "bob"]
    batch = make_ready_batch(database, *(f"{name}@shop.internal" for name in names))
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    recorded = read_acceptance_times(database, batch)
    sent = [number for number, name in enumerate(names) if name != "refuse"]
    logged = {number: mail["at"] for number, mail in zip(sent, server.accepted, strict=True)}
    assert len(set(logged.values())) > 10
    for number, following in pairwise(sent):
        assert logged[number] <= recorded[number] <= logged[following]
    assert recorded[sent[-1]] >= logged[sent[-1]]
    assert recorded[sent[-2]] <= recorded[names.index("refuse")] <= recorded[sent[-1]]


def test_a_message_has_its_headers_and_no_injected_ones(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    batch = make_ready_batch(database, "ann@shop.internal")
    hostile = replace(batch.campaign, sender='Acme "\r\nBcc: all@shop.internal\r\n ünd Co')
    gateway = SmtpGateway("{}", database)
    submission = Submission(
        campaign=hostile, attempt=1, numbers=[0], recipients=["ann@shop.internal"]
    )
    for _ in range(2):
        gateway.submit(submission, 0)
    gateway.submit(replace(submission, attempt=2), 0)
    first, repeated, retried = (mail["headers"] for mail in server.accepted)
    assert first["Message-ID"] == repeated["Message-ID"] == retried["Message-ID"]
    assert first["Message-ID"].endswith("@shop.internal>")
    assert (first["To"], first["Subject"]) == ("ann@shop.internal", "spring")
    assert "Bcc" not in first
    assert "ünd Co" in first["From"]
    assert server.accepted[0]["from"] == "news@shop.internal"


def test_a_message_has_the_values_of_its_customer(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    subject = "{{ coupon_id | default('-') }} {{ referral }} {{ field['Ort'] }}"
    names = [f"ann{number}@shop.internal" for number in range(3)]
    batch = make_ready_batch(
        database,
        *names,
        message=json.dumps({"subject": subject, "html": "<p>{{ field['Ort'] }}</p>"}),
        custom=['{"field:Ort": "Köln"}', '{"field:Ort": "Delhi"}', '{"field:Ort": "दिल्ली"}'],
    )
    with database.write() as connection:
        connection.execute(
            sa.update(customers).where(customers.c.number == 1).values(coupon_id="C-1")
        )
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert [mail["headers"]["Subject"] for mail in server.accepted] == [
        "- R-c0 Köln",
        "C-1 R-c1 Delhi",
        "- R-c2 दिल्ली",
    ]


def test_a_message_that_cannot_be_made_is_not_sent_and_its_credit_is_refunded(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    batch = make_ready_batch(
        database,
        *(f"ann{number}@shop.internal" for number in range(3)),
        message='{"text": "{{ 10 / (field.parts | int) }}"}',
        credit=7,
        custom=['{"field:parts": "2"}', '{"field:parts": "none"}', '{"field:parts": "5"}'],
    )
    with database.write() as connection:
        allowance.charge_credit(connection, batch.campaign, 3)
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert read_states(database, batch) == {
        0: in_status(DELIVERED),
        1: not_sent_for(Reason.STEP_FAILED),
        2: in_status(DELIVERED),
    }
    [detail] = read_details(database, batch, 1)
    assert detail == "template text: ZeroDivisionError: division by zero"
    assert len(server.accepted) == 2
    assert not find_violations(database, batch.campaign)
    with database.read() as connection:
        assert load_campaign(connection, batch.campaign.id).organization.credit == 5


def test_message_ids_differ_between_runs_whose_clocks_start_at_the_same_instant(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    """As the first runs of one scenario with `[clock] start` in two databases do."""
    server = serve()
    campaign = make_ready_batch(database, "ann@shop.internal").campaign
    start = campaign.really_started_at
    assert start is not None
    for really_started_at in (start, start + 1):
        submission = Submission(
            campaign=replace(campaign, really_started_at=really_started_at),
            attempt=1,
            numbers=[0],
            recipients=["ann@shop.internal"],
        )
        SmtpGateway("{}", database).submit(submission, 0)
    assert len({mail["headers"]["Message-ID"] for mail in server.accepted}) == 2


@pytest.mark.parametrize(
    "address",
    [
        "ann",
        "ann@shop.internal\r\nRCPT TO:<all@shop.internal>",
        "ann@shop.internal>,<b@c.internal",
        "all(x)@shop.internal",
        "customer1@example.com(x)",
        "()@shop.internal",
        "ann@[shop",
        "ann@shop\x7f.internal",
    ],
)
def test_an_invalid_address_bounces_before_the_server_sees_it(
    database: Database, serve: Callable[..., SmtpServerProcess], address: str
) -> None:
    server = serve()
    batch = make_ready_batch(database, address, "søren@shop.internal", "ann@shop.internal")
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert read_states(database, batch) == {
        0: in_status(HARD_BOUNCED),
        1: in_status(HARD_BOUNCED),
        2: in_status(DELIVERED),
    }
    assert read_details(database, batch, 0)[0].startswith("553 5.1.3")  # type: ignore[union-attr]
    assert read_details(database, batch, 1)[0].startswith("553 5.6.7")  # type: ignore[union-attr]
    assert [mail["to"] for mail in server.accepted] == ["ann@shop.internal"]


def test_an_internationalized_domain_is_sent_in_ascii(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    """A server without SMTPUTF8 accepts it so. The local part keeps its case."""
    server = serve()
    batch = make_ready_batch(database, "Ann.O'Brien@BÜCHER.internal", '"ann b"@shop.internal')
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert [mail["to"] for mail in server.accepted] == [
        "Ann.O'Brien@xn--bcher-kva.internal",
        '"ann b"@shop.internal',
    ]
    assert server.accepted[0]["headers"]["To"] == "Ann.O'Brien@xn--bcher-kva.internal"


@pytest.mark.parametrize(
    "address", ["ann@shop..internal", ".ann@shop.internal", "ann@shop.internal,bo@shop.internal"]
)
def test_a_malformed_address_bounces_without_a_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("SENDTRACE_SMTP_HOST", "no-server.invalid")
    monkeypatch.setenv("SENDTRACE_SMTP_FROM", "news@shop.internal")
    batch = make_ready_batch(database, address)
    run_step(database, batch, Step.SUBMIT, SmtpGateway("{}", database))
    assert read_states(database, batch) == {0: in_status(HARD_BOUNCED)}
    assert read_details(database, batch, 0)[0].startswith("553 5.1.3")  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["drop", "stall"])
def test_a_message_that_breaks_the_connection_affects_no_other_message(
    database: Database,
    serve: Callable[..., SmtpServerProcess],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    server = serve()
    monkeypatch.setenv("SENDTRACE_SMTP_TIMEOUT", "2")
    addresses = [f"{user}@shop.internal" for user in ("ann", name, "bob")]
    batch = make_ready_batch(database, *addresses)
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert read_states(database, batch) == {
        0: in_status(DELIVERED),
        1: in_status(SOFT_BOUNCED),
        2: in_status(DELIVERED),
    }
    assert read_details(database, batch, 1) == ["451 4.4.2 connection lost"]
    assert len(server.accepted) == 2


def test_an_interrupted_transaction_closes_the_connection(
    database: Database, serve: Callable[..., SmtpServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next message would mistake the outstanding replies for its own."""
    serve()
    monkeypatch.setenv("SENDTRACE_SMTP_TIMEOUT", "10")
    monkeypatch.setattr("workers.steps.limits.MAX_STEP_SECONDS", 0.5)
    monkeypatch.setattr("workers.steps.limits.MIN_STEP_SECONDS", 0.5)
    batch = make_ready_batch(database, "stall@shop.internal")
    gateway: Any = open_gateway("smtp", "{}", database)
    with pytest.raises(StepTimeout), limit_step_time(0):
        at_gateway.submit(step_context(database, batch), gateway, UnlimitedThrottle())
    assert gateway._gateway._connection._client is None
    assert read_states(database, batch) == {0: READY}


def test_no_message_bounces_while_the_server_refuses_the_sender(
    database: Database, serve: Callable[..., SmtpServerProcess], tmp_path: Path
) -> None:
    server = serve()
    batch = make_ready_batch(database, *(f"ann{number}@shop.internal" for number in range(5)))
    gateway = open_gateway("smtp", "{}", database)
    (tmp_path / REFUSING_FILE).touch()
    for count in range(MIN_TRIES_ALONE + 2):
        with pytest.raises(GatewayUnavailable, match=r"554 5\.7\.1 relaying denied"):
            submit(database, batch, gateway, unavailable_count=count)
    assert set(read_states(database, batch).values()) == {READY}
    (tmp_path / REFUSING_FILE).unlink()
    submit(database, batch, gateway, unavailable_count=99)
    assert set(read_states(database, batch).values()) == {in_status(DELIVERED)}
    assert len(server.accepted) == 5


def test_messages_that_were_sent_before_the_server_refused_are_recorded(
    database: Database, serve: Callable[..., SmtpServerProcess], tmp_path: Path
) -> None:
    server = serve()
    batch = make_ready_batch(database, *(f"ann{number}@shop.internal" for number in range(5)))
    gateway = open_gateway("smtp", "{}", database)
    submit(database, batch, gateway, granted=1)
    (tmp_path / REFUSING_FILE).touch()
    with pytest.raises(GatewayUnavailable, match="relaying denied"):
        submit(database, batch, gateway, unavailable_count=99)
    server.stop()
    with pytest.raises(GatewayUnavailable, match="connection failed"):
        submit(database, batch, open_gateway("smtp", "{}", database))
    states = [state.status for state in read_states(database, batch).values()]
    assert states == [DELIVERED, *[Status.ABOUT_TO_BE_SENT] * 4]


@pytest.mark.parametrize("granted", [1, 99])
@pytest.mark.parametrize("name", ["suspicious", "closing", "reject"])
def test_a_message_that_is_refused_alone_soft_bounces_on_every_attempt(
    database: Database, serve: Callable[..., SmtpServerProcess], name: str, granted: int
) -> None:
    server = serve()
    names = ("ann", name, "bob", "eve")
    batch = make_ready_batch(database, *(f"{user}@shop.internal" for user in names))
    gateway = open_gateway("smtp", "{}", database)
    while READY in read_states(database, batch).values():
        submit(database, batch, gateway, granted=granted)
    submit(database, batch, gateway, granted=granted)
    assert read_states(database, batch) == {
        0: in_status(DELIVERED),
        1: in_status(SOFT_BOUNCED, 2),
        2: in_status(DELIVERED),
        3: in_status(DELIVERED),
    }
    assert len(server.accepted) == 3


@pytest.mark.parametrize(
    ("name", "tries"), [("suspicious", MIN_TRIES_ALONE_IF_TEMPORARY), ("reject", MIN_TRIES_ALONE)]
)
def test_the_last_message_soft_bounces_if_others_were_accepted(
    database: Database, serve: Callable[..., SmtpServerProcess], name: str, tries: int
) -> None:
    serve()
    batch = make_ready_batch(database, "ann@shop.internal", f"{name}@shop.internal")
    gateway = open_gateway("smtp", "{}", database)
    submit(database, batch, gateway)
    for count in range(tries):
        with pytest.raises(GatewayUnavailable):
            submit(database, batch, gateway, unavailable_count=count)
    submit(database, batch, gateway, unavailable_count=tries)
    assert read_states(database, batch) == {0: in_status(DELIVERED), 1: in_status(SOFT_BOUNCED)}


def test_small_batches_wait_while_the_server_refuses_many_messages_of_the_campaign(
    database: Database, serve: Callable[..., SmtpServerProcess], tmp_path: Path
) -> None:
    """Each of them has few messages left, but the campaign has more."""
    serve()
    people: dict[int, dict[str, object]] = {
        number: {"email": f"ann{number}@shop.internal"} for number in range(5)
    }
    plan = Plan(size=5, gateway_kind="smtp", gateway_settings="{}")
    campaign = make_campaign(database, plan, people)
    accepted, *refused = islice(enqueue_batches(database, campaign), 5)
    for batch in (accepted, *refused):
        move(database, batch, [batch.first], READY)
    gateway = open_gateway("smtp", "{}", database)
    submit(database, accepted, gateway)
    (tmp_path / REFUSING_FILE).touch()
    for batch in refused:
        with pytest.raises(GatewayUnavailable, match="relaying denied"):
            submit(database, batch, gateway, unavailable_count=99)


@pytest.mark.parametrize(("other", "is_proof"), [("ann", True), ("refuse", False)])
def test_a_message_is_at_fault_if_other_batches_are_accepted_meanwhile(
    database: Database, serve: Callable[..., SmtpServerProcess], other: str, is_proof: bool
) -> None:
    serve()
    people: dict[int, dict[str, object]] = {
        0: {"email": "reject@shop.internal"},
        1: {"email": f"{other}@shop.internal"},
    }
    plan = Plan(size=2, gateway_kind="smtp", gateway_settings="{}")
    campaign = make_campaign(database, plan, people)
    refused, accepted = islice(enqueue_batches(database, campaign), 2)
    for batch in (refused, accepted):
        move(database, batch, [batch.first], READY)
    gateway = open_gateway("smtp", "{}", database)
    context = replace(step_context(database, refused), unavailable_since=campaign.clock.now())
    throttle = UnlimitedThrottle()
    with pytest.raises(GatewayUnavailable):
        at_gateway.submit(context, gateway, throttle)
    at_gateway.submit(step_context(database, accepted), gateway, throttle)
    with nullcontext() if is_proof else pytest.raises(GatewayUnavailable):
        at_gateway.submit(context, gateway, throttle)
    assert read_states(database, refused)[0] == (in_status(SOFT_BOUNCED) if is_proof else READY)


def test_the_rules_of_the_scenario_come_before_the_shipped_ones(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    serve()
    batch = make_ready_batch(database, "full@shop.internal", "reject@shop.internal")
    replies = '[{"match": "552", "as": "hard"}, {"match": "message rejected", "as": "hard"}]'
    batch = replace(batch, campaign=replace(batch.campaign, replies=replies))
    submit(database, batch, open_gateway("smtp", "{}", database))
    assert set(read_states(database, batch).values()) == {in_status(HARD_BOUNCED)}


def test_a_message_without_a_reply_is_unconfirmed_and_is_not_sent_again(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    batch = make_ready_batch(
        database, *(f"{user}@shop.internal" for user in ("ann", "vanish", "bob"))
    )
    gateway = open_gateway("smtp", "{}", database)
    for _ in range(2):
        run_step(database, batch, Step.SUBMIT, gateway)
        run_step(database, batch, Step.DELIVER, gateway)
    assert read_states(database, batch) == {
        0: in_status(DELIVERED),
        1: in_gateway(),
        2: in_status(DELIVERED),
    }
    assert read_details(database, batch, 1) == [UNCONFIRMED]
    assert len(server.accepted) == 3
    assert next_step(database, batch) is None
    assert find_violations(database, batch.campaign) == []


@pytest.mark.parametrize("user", ["drip", "flood"])
def test_a_reply_without_end_counts_as_none(
    database: Database,
    serve: Callable[..., SmtpServerProcess],
    monkeypatch: pytest.MonkeyPatch,
    user: str,
) -> None:
    server = serve()
    seconds = 1 if user == "drip" else DRIP_SECONDS
    monkeypatch.setattr("workers.gateways.smtp_connection.MAX_REPLY_SECONDS", seconds)
    batch = make_ready_batch(database, f"{user}@shop.internal", "ann@shop.internal")
    started_at = time.monotonic()
    submit(database, batch, open_gateway("smtp", "{}", database))
    assert time.monotonic() - started_at < DRIP_SECONDS / 2
    assert read_states(database, batch) == {0: in_gateway(), 1: in_status(DELIVERED)}
    assert read_details(database, batch, 0) == [UNCONFIRMED]
    assert len(server.accepted) == 2


def test_the_reply_to_a_whole_message_may_take_longer_than_others(
    database: Database, serve: Callable[..., SmtpServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setenv("SENDTRACE_SMTP_TIMEOUT", "1")
    extensions = list[float]()
    monkeypatch.setattr("workers.gateways.step_time._extend", extensions.append)
    batch = make_ready_batch(database, "slow@shop.internal")
    submit(database, batch, open_gateway("smtp", "{}", database))
    assert max(extensions) >= MAX_REPLY_SECONDS > SLOW_REPLY_SECONDS > 1
    assert read_states(database, batch) == {0: in_status(DELIVERED)}
    assert len(server.accepted) == 1


def test_a_reply_is_recorded_in_any_script_and_without_control_characters() -> None:
    text = "5.1.1 \x1b[2JПочтовый ящик\n5.1.1 \u202eне найден\rFORGED\0"
    reply = SmtpReply.from_response((550, text.encode()))
    assert str(reply) == "550 5.1.1 [2JПочтовый ящик не найден FORGED"
    assert SmtpReply.from_response((550, b"\xff")).text == "\ufffd"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_the_connection_is_encrypted_and_the_certificate_is_verified(
    database: Database,
    serve: Callable[..., SmtpServerProcess],
    monkeypatch: pytest.MonkeyPatch,
    certificate: Path,
    mode: str,
) -> None:
    server = serve(mode)
    monkeypatch.setenv("SENDTRACE_SMTP_TLS", mode)
    batch = make_ready_batch(database, "ann@shop.internal")
    with pytest.raises(GatewayUnavailable, match="certificate verify failed"):
        run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert read_states(database, batch) == {0: in_status(DELIVERED)}
    assert len(server.accepted) == 1


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_server_without_encryption_names_the_setting(
    database: Database,
    serve: Callable[..., SmtpServerProcess],
    monkeypatch: pytest.MonkeyPatch,
    tls: str,
) -> None:
    serve()
    monkeypatch.setenv("SENDTRACE_SMTP_TLS", tls)
    batch = make_ready_batch(database, "ann@shop.internal")
    with pytest.raises(GatewayUnavailable, match=r"the server doesn't .*; set SENDTRACE_SMTP_TLS="):
        run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))


@pytest.mark.parametrize(("password", "is_accepted"), [("secret", True), ("guess", False)])
def test_the_gateway_logs_in_and_keeps_the_password_secret(
    database: Database,
    serve: Callable[..., SmtpServerProcess],
    monkeypatch: pytest.MonkeyPatch,
    password: str,
    is_accepted: bool,
) -> None:
    serve("auth")
    monkeypatch.setenv("SENDTRACE_SMTP_USERNAME", "news")
    monkeypatch.setenv("SENDTRACE_SMTP_PASSWORD", password)
    batch = make_ready_batch(database, "ann@shop.internal")
    gateway = open_gateway("smtp", "{}", database)
    if is_accepted:
        run_step(database, batch, Step.SUBMIT, gateway)
        assert read_states(database, batch) == {0: in_status(DELIVERED)}
    else:
        with pytest.raises(GatewayUnavailable) as caught:
            run_step(database, batch, Step.SUBMIT, gateway)
        assert str(caught.value).endswith("535 5.7.8 wrong: ••• ••• •••")
    assert password not in repr(load_smtp_settings())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOST", None, "SENDTRACE_SMTP_HOST: not set"),
        ("FROM", None, "SENDTRACE_SMTP_FROM: not set"),
        ("FROM", "news", "SENDTRACE_SMTP_FROM: got 'news'; expected an address"),
        ("PORT", "0", "SENDTRACE_SMTP_PORT:"),
        ("TLS", "ssl", "SENDTRACE_SMTP_TLS:"),
        ("TIMEOUT", "3600", "SENDTRACE_SMTP_TIMEOUT:"),
    ],
)
def test_an_error_names_the_wrong_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, message: str
) -> None:
    settings = {"HOST": HOST, "FROM": "news@shop.internal"} | {name: value}
    for key, text in settings.items():
        if text is not None:
            monkeypatch.setenv(f"SENDTRACE_SMTP_{key}", text)
    with pytest.raises(UsageError, match=message):
        load_smtp_settings()


def test_all_missing_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_SMTP_PORT", "0")
    message = (
        "SENDTRACE_SMTP_HOST, SENDTRACE_SMTP_FROM: not set, but required; SENDTRACE_SMTP_PORT: "
    )
    with pytest.raises(UsageError, match=message):
        load_smtp_settings()


def test_empty_smtp_variables_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_SMTP_HOST", HOST)
    monkeypatch.setenv("SENDTRACE_SMTP_FROM", "news@shop.internal")
    for name in ("PORT", "TLS", "USERNAME", "PASSWORD", "TIMEOUT"):
        monkeypatch.setenv(f"SENDTRACE_SMTP_{name}", "")
    settings = load_smtp_settings()
    assert settings == SmtpSettings(host=HOST, from_="news@shop.internal")
    assert (settings.port_in_use, settings.timeout) == (587, 10.0)


def test_a_password_is_not_sent_unencrypted(
    database: Database, serve: Callable[..., SmtpServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    monkeypatch.setenv("SENDTRACE_SMTP_USERNAME", "news")
    monkeypatch.setenv("SENDTRACE_SMTP_PASSWORD", "secret")
    open_gateway("smtp", "{}", database)
    monkeypatch.setenv("SENDTRACE_SMTP_HOST", "mail.shop.internal")
    with pytest.raises(UsageError, match="SENDTRACE_SMTP_TLS: got none with a username"):
        open_gateway("smtp", "{}", database)


def test_a_gateway_that_reaches_people_must_be_allowed_by_name(
    database: Database, serve: Callable[..., SmtpServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    for allowed in ("", "other", "smtpx"):
        monkeypatch.setenv("SENDTRACE_ALLOW_GATEWAYS", allowed)
        with pytest.raises(UsageError, match="SENDTRACE_ALLOW_GATEWAYS=smtp"):
            open_gateway("smtp", "{}", database)
    monkeypatch.setenv("SENDTRACE_ALLOW_GATEWAYS", "other, smtp")
    assert isinstance(open_gateway("smtp", "{}", database), GuardedGateway)


@pytest.mark.parametrize(
    ("channel", "recipient", "expected"),
    [
        (Channel.EMAIL, "ann@example.com", True),
        (Channel.EMAIL, "ann@mail.example.org", True),
        (Channel.EMAIL, "ann@EXAMPLE.NET.", True),
        (Channel.EMAIL, "ann@shop.example", True),
        (Channel.EMAIL, "ann@shop.test", True),
        (Channel.EMAIL, "ann@shop.invalid", True),
        (Channel.EMAIL, "ann@localhost", True),
        (Channel.EMAIL, "ann@ｅxample.com", True),
        (Channel.EMAIL, "ann@bücher.test", True),
        (Channel.EMAIL, "ann@shop.internal", False),
        (Channel.EMAIL, "ann@notexample.com", False),
        (Channel.EMAIL, "example.com@shop.internal", False),
        (Channel.SMS, "+447700900123", True),
        (Channel.SMS, "+12025550123", True),
        (Channel.SMS, "+61491570156", True),
        (Channel.SMS, "+447700901123", False),
        (Channel.SMS, "+4477009001234", False),
    ],
)
def test_reserved_recipients_are_recognized(
    channel: Channel, recipient: str, expected: bool
) -> None:
    assert is_reserved(channel, recipient) is expected


def test_messages_to_reserved_recipients_never_reach_the_server(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    batch = make_ready_batch(
        database, "customer0@example.com", "ann@shop.internal", "bounce@shop.example"
    )
    run_step(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert read_states(database, batch) == {
        0: in_status(HARD_BOUNCED),
        1: in_status(DELIVERED),
        2: in_status(HARD_BOUNCED),
    }
    assert read_details(database, batch, 0) == ["reserved for documentation and fiction; not sent"]
    assert [mail["to"] for mail in server.accepted] == ["ann@shop.internal"]
    only = make_ready_batch(database, "customer0@example.com")
    run_step(database, only, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert read_states(database, only) == {0: in_status(HARD_BOUNCED)}


def test_generated_customers_have_reserved_addresses_and_numbers(
    database: Database, tmp_path: Path
) -> None:
    record_run(database, build_scenario(build_campaign(audience=2_500)), tmp_path, lambda _: None)
    with database.read() as connection:
        rows = connection.execute(customers.select()).all()
    assert len(rows) == 2_500
    assert all(is_reserved(Channel.EMAIL, row.email) for row in rows)
    assert all(is_reserved(Channel.SMS, row.mobile_e164) for row in rows)


def test_a_soft_bounce_waits_before_the_next_attempt(
    database: Database, serve: Callable[..., SmtpServerProcess]
) -> None:
    server = serve()
    batch = make_ready_batch(database, "defer@shop.internal")
    batch = replace(batch, campaign=replace(batch.campaign, retry_after=60_000_000))
    gateway = open_gateway("smtp", "{}", database)
    at_gateway.submit(step_context(database, batch), gateway, UnlimitedThrottle())
    assert read_states(database, batch) == {0: in_status(SOFT_BOUNCED)}
    for _ in range(2):
        at_gateway.submit(step_context(database, batch), gateway, UnlimitedThrottle())
        at_gateway.deliver(step_context(database, batch), gateway)
        following = next_step(database, batch)
        assert following is not None
        assert following.step is Step.SUBMIT
        assert 55 < following.delay.total_seconds() <= 60
    assert server.accepted == []
    due = replace(batch, campaign=replace(batch.campaign, retry_after=1))
    at_gateway.submit(step_context(database, due), gateway, UnlimitedThrottle())
    assert read_states(database, batch) == {0: in_status(DELIVERED, 2)}
    assert in_gateway() not in read_states(database, batch).values()
