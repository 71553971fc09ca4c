"""The SMTP gateway against a real server, and what keeps synthetic messages from people."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from simulator.setup.record import record_run
from tests.support.factory import AUTHOR, READY, Plan, ended, in_gateway, make_batch, move, states
from tests.support.playing import campaign_of, do, scenario_of
from tests.support.shell import wait_until
from tests.support.smtp_server import HOST
from tracker.errors import UsageError
from tracker.queries import timeline
from tracker.record.catalog import Batch
from tracker.status import Channel, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.gateways.base import GatewayUnavailable, Submission
from workers.gateways.safety import GuardedGateway, is_reserved, open_gateway
from workers.gateways.smtp import SmtpGateway, load_smtp_settings
from workers.gateways.throttle import UnlimitedThrottle
from workers.steps import at_gateway
from workers.steps.limits import StepTimeout, limit_step_time

DELIVERED, HARD, SOFT = Status.DELIVERED, Status.HARD_BOUNCED, Status.SOFT_BOUNCED


@dataclass
class Server:
    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def taken(self) -> list[dict[str, Any]]:
        """What was accepted, in order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Starts a server, and configures the gateway for it."""
    started: list[Server] = []

    def start(*options: str) -> Server:
        port_file, log = tmp_path / "port", tmp_path / "log"
        command = [
            sys.executable,
            "-m",
            "tests.support.smtp_server",
            str(port_file),
            str(log),
            *options,
        ]
        process = subprocess.Popen(command)
        wait_until(lambda: port_file.exists() and bool(port_file.read_text()), "it listens")
        started.append(Server(process, int(port_file.read_text()), log))
        for name, value in {
            "HOST": HOST,
            "PORT": str(started[-1].port),
            "TLS": "none",
            "FROM": "news@shop.internal",
            "TIMEOUT": "1",
        }.items():
            monkeypatch.setenv(f"SENDTRACE_SMTP_{name}", value)
        monkeypatch.setenv("SENDTRACE_ALLOW_GATEWAYS", "smtp")
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()


def waiting(database: Database, *addresses: str, attempts: int = 2) -> Batch:
    """A batch of messages to these addresses, which wait for the gateway."""
    people: dict[int, dict[str, object]] = {
        number: {"email": address} for number, address in enumerate(addresses)
    }
    plan = Plan(size=len(addresses), gateway_kind="smtp", gateway_settings="{}", attempts=attempts)
    batch = make_batch(database, plan, people)
    move(database, batch, range(len(addresses)), READY)
    return batch


def details(database: Database, batch: Batch, number: int) -> list[str | None]:
    with database.read() as connection:
        story = timeline.read_timeline(connection, batch.campaign, number)
    return [event.detail for event in story.events if event.detail]


def test_replies_become_outcomes_with_their_codes(
    database: Database, serve: Callable[..., Server]
) -> None:
    server = serve()
    names = ("ann", "refuse", "defer", "reject", "bob")
    batch = waiting(database, *(f"{name}@shop.internal" for name in names))
    gateway = open_gateway("smtp", "{}", database)
    do(database, batch, Step.SUBMIT, gateway)
    assert states(database, batch) == dict(
        enumerate([ended(each) for each in (DELIVERED, HARD, SOFT, HARD, DELIVERED)])
    )
    said = ["2.0.0 taken", "5.1.1 nobody of that name", "4.7.1 come back later"]
    assert [details(database, batch, number) for number in range(3)] == [[each] for each in said]
    assert details(database, batch, 3) == ["5.7.1 not wanted"]

    do(database, batch, Step.SUBMIT, gateway)
    assert states(database, batch)[2] == ended(DELIVERED, 2)
    assert [each["to"].partition("@")[0] for each in server.taken] == ["ann", "bob", "defer"]
    assert len({each["peer"] for each in server.taken}) == 1, "one connection for all"


def test_a_message_is_what_it_says(database: Database, serve: Callable[..., Server]) -> None:
    server = serve()
    batch = waiting(database, "ann@shop.internal")
    hostile = replace(batch.campaign, sender='Acme "\r\nBcc: all@shop.internal\r\n ünd Co')
    gateway = SmtpGateway("{}", database)
    offer = Submission(campaign=hostile, attempt=1, numbers=[0], recipients=["ann@shop.internal"])
    for _ in range(2):
        gateway.submit(offer, 0)
    gateway.submit(replace(offer, attempt=2), 0)
    first, again, other = (each["headers"] for each in server.taken)
    assert first["Message-ID"] == again["Message-ID"] == other["Message-ID"]
    assert first["Message-ID"].endswith("@shop.internal>")
    assert (first["To"], first["Subject"]) == ("ann@shop.internal", "spring")
    assert "Bcc" not in first
    assert "ünd Co" in first["From"]
    assert server.taken[0]["from"] == "news@shop.internal"


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
def test_what_is_no_address_bounces_here(
    database: Database, serve: Callable[..., Server], address: str
) -> None:
    server = serve()
    batch = waiting(database, address, "søren@shop.internal", "ann@shop.internal")
    do(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert states(database, batch) == {0: ended(HARD), 1: ended(HARD), 2: ended(DELIVERED)}
    assert details(database, batch, 0)[0].startswith("5.1.3")  # type: ignore[union-attr]
    assert details(database, batch, 1)[0].startswith("5.6.7")  # type: ignore[union-attr]
    assert [each["to"] for each in server.taken] == ["ann@shop.internal"]


@pytest.mark.parametrize("name", ["drop", "stall"])
def test_a_message_that_breaks_the_connection_harms_only_itself(
    database: Database, serve: Callable[..., Server], name: str
) -> None:
    server = serve()
    addresses = [f"{each}@shop.internal" for each in ("ann", name, "bob")]
    batch = waiting(database, *addresses)
    do(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert states(database, batch) == {0: ended(DELIVERED), 1: ended(SOFT), 2: ended(DELIVERED)}
    assert details(database, batch, 1) == ["4.4.2 the connection was lost"]
    assert len(server.taken) == 2


def test_nobody_waits_for_replies_to_a_message_that_was_broken_off(
    database: Database, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be taken for those to the next one."""
    serve()
    monkeypatch.setenv("SENDTRACE_SMTP_TIMEOUT", "10")
    monkeypatch.setattr("workers.steps.limits.MAX_STEP_SECONDS", 0.5)
    monkeypatch.setattr("workers.steps.limits.MIN_STEP_SECONDS", 0.5)
    batch = waiting(database, "stall@shop.internal")
    gateway: Any = open_gateway("smtp", "{}", database)
    with pytest.raises(StepTimeout), limit_step_time(0):
        do(database, batch, Step.SUBMIT, gateway)
    assert gateway._gateway._connection is None
    assert states(database, batch) == {0: READY}


def test_what_was_sent_before_the_server_went_is_on_record(
    database: Database, serve: Callable[..., Server]
) -> None:
    server = serve()
    batch = waiting(database, *(f"{each}@shop.internal" for each in ("ann", "closing", "bob")))
    gateway = open_gateway("smtp", "{}", database)
    following = do(database, batch, Step.SUBMIT, gateway)
    assert states(database, batch) == {0: ended(DELIVERED), 1: READY, 2: READY}
    assert following is not None
    assert following.step is Step.SUBMIT
    with pytest.raises(GatewayUnavailable, match=r"421|4\.3\.2 going down"):
        do(database, batch, Step.SUBMIT, gateway)
    server.process.kill()
    server.process.wait()
    with pytest.raises(GatewayUnavailable, match="can't be used"):
        do(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert states(database, batch) == {0: ended(DELIVERED), 1: READY, 2: READY}


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for the server, beside its key, that nobody trusts yet."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command to make a certificate with")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run(
        [*command, "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    return tmp_path / "cert.pem"


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_the_way_there_is_encrypted_and_the_server_is_who_it_says(
    database: Database,
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    certificate: Path,
    mode: str,
) -> None:
    server = serve(mode)
    monkeypatch.setenv("SENDTRACE_SMTP_TLS", mode)
    batch = waiting(database, "ann@shop.internal")
    with pytest.raises(GatewayUnavailable, match="certificate verify failed"):
        do(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    do(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert states(database, batch) == {0: ended(DELIVERED)}
    assert len(server.taken) == 1


@pytest.mark.parametrize(("password", "counts"), [("secret", True), ("guess", False)])
def test_the_server_may_want_to_know_who_we_are(
    database: Database,
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    password: str,
    counts: bool,
) -> None:
    serve("auth")
    monkeypatch.setenv("SENDTRACE_SMTP_USERNAME", "news")
    monkeypatch.setenv("SENDTRACE_SMTP_PASSWORD", password)
    batch = waiting(database, "ann@shop.internal")
    gateway = open_gateway("smtp", "{}", database)
    if counts:
        do(database, batch, Step.SUBMIT, gateway)
        assert states(database, batch) == {0: ended(DELIVERED)}
    else:
        with pytest.raises(GatewayUnavailable) as caught:
            do(database, batch, Step.SUBMIT, gateway)
        assert password not in str(caught.value)
    assert password not in repr(load_smtp_settings())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HOST", None, "SENDTRACE_SMTP_HOST: is not set"),
        ("FROM", None, "SENDTRACE_SMTP_FROM: is not set"),
        ("FROM", "news", "SENDTRACE_SMTP_FROM: 'news' is no address"),
        ("PORT", "0", "SENDTRACE_SMTP_PORT:"),
        ("TLS", "ssl", "SENDTRACE_SMTP_TLS:"),
        ("TIMEOUT", "3600", "SENDTRACE_SMTP_TIMEOUT:"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, said: str
) -> None:
    good = {"HOST": HOST, "FROM": "news@shop.internal"} | {name: value}
    for each, text in good.items():
        if text is not None:
            monkeypatch.setenv(f"SENDTRACE_SMTP_{each}", text)
    with pytest.raises(UsageError, match=said):
        load_smtp_settings()


def test_a_password_is_not_shown_to_the_network(
    database: Database, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    monkeypatch.setenv("SENDTRACE_SMTP_USERNAME", "news")
    monkeypatch.setenv("SENDTRACE_SMTP_PASSWORD", "secret")
    open_gateway("smtp", "{}", database)
    monkeypatch.setenv("SENDTRACE_SMTP_HOST", "mail.shop.internal")
    with pytest.raises(UsageError, match="SENDTRACE_SMTP_TLS: a password must not"):
        open_gateway("smtp", "{}", database)


def test_a_gateway_that_reaches_people_must_be_allowed_by_name(
    database: Database, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    for allowed in ("", "other", "smtpx"):
        monkeypatch.setenv("SENDTRACE_ALLOW_GATEWAYS", allowed)
        with pytest.raises(UsageError, match="SENDTRACE_ALLOW_GATEWAYS=smtp"):
            open_gateway("smtp", "{}", database)
    monkeypatch.setenv("SENDTRACE_ALLOW_GATEWAYS", "other, smtp")
    assert isinstance(open_gateway("smtp", "{}", database), GuardedGateway)


@pytest.mark.parametrize(
    ("channel", "recipient", "reserved"),
    [
        (Channel.EMAIL, "ann@example.com", True),
        (Channel.EMAIL, "ann@mail.example.org", True),
        (Channel.EMAIL, "ann@EXAMPLE.NET.", True),
        (Channel.EMAIL, "ann@shop.example", True),
        (Channel.EMAIL, "ann@shop.test", True),
        (Channel.EMAIL, "ann@shop.invalid", True),
        (Channel.EMAIL, "ann@localhost", True),
        (Channel.EMAIL, "ann@shop.internal", False),
        (Channel.EMAIL, "ann@notexample.com", False),
        (Channel.EMAIL, "example.com@shop.internal", False),
        (Channel.SMS, "+447700900123", True),
        (Channel.SMS, "+12025550123", True),
        (Channel.SMS, "+61491570156", True),
        (Channel.SMS, "+447911123456", False),
        (Channel.SMS, "+4477009001234", False),
    ],
)
def test_what_can_be_nobodys(channel: Channel, recipient: str, reserved: bool) -> None:
    assert is_reserved(channel, recipient) is reserved


def test_nobodys_messages_never_reach_the_server(
    database: Database, serve: Callable[..., Server]
) -> None:
    server = serve()
    batch = waiting(database, "customer0@example.com", "ann@shop.internal", "bounce@shop.example")
    do(database, batch, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert states(database, batch) == {0: ended(HARD), 1: ended(DELIVERED), 2: ended(HARD)}
    assert details(database, batch, 0) == ["reserved for documentation and fiction; not sent"]
    assert [each["to"] for each in server.taken] == ["ann@shop.internal"]
    only = waiting(database, "customer0@example.com")
    do(database, only, Step.SUBMIT, open_gateway("smtp", "{}", database))
    assert states(database, only) == {0: ended(HARD)}


def test_customers_that_are_made_up_are_nobody(database: Database, tmp_path: Path) -> None:
    record_run(database, scenario_of(campaign_of(audience=2_500)), tmp_path, lambda _: None)
    with database.read() as connection:
        people = connection.execute(customers.select()).all()
    assert len(people) == 2_500
    assert all(is_reserved(Channel.EMAIL, each.email) for each in people)
    assert all(is_reserved(Channel.SMS, each.mobile_e164) for each in people)


def test_what_bounced_softly_rests_before_it_is_offered_again(
    database: Database, serve: Callable[..., Server]
) -> None:
    server = serve()
    batch = waiting(database, "defer@shop.internal")
    batch = replace(batch, campaign=replace(batch.campaign, retry_after=60_000_000))
    gateway = open_gateway("smtp", "{}", database)
    at_gateway.submit(database, batch, gateway, UnlimitedThrottle(), AUTHOR)
    assert states(database, batch) == {0: ended(SOFT)}
    for _ in range(2):
        following = at_gateway.submit(database, batch, gateway, UnlimitedThrottle(), AUTHOR)
        if following is not None and following.step is Step.DELIVER:
            following = at_gateway.deliver(database, batch, gateway, AUTHOR)
        assert following is not None
        assert following.step is Step.SUBMIT
        assert 55 < following.delay.total_seconds() <= 60
    assert server.taken == []
    rested = replace(batch, campaign=replace(batch.campaign, retry_after=1))
    at_gateway.submit(database, rested, gateway, UnlimitedThrottle(), AUTHOR)
    assert states(database, batch) == {0: ended(DELIVERED, 2)}
    assert in_gateway() not in states(database, batch).values()
