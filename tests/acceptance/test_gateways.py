"""Gateways as they really are: limited, hostile, and real ones. Real workers, a real broker."""

import itertools
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT, SCENARIOS
from tests.support.shell import Finished, Shell, wait_until
from tests.support.smtp_server import HOST

SECOND = 1_000_000
"""Microseconds."""


def rows(shell: Shell, query: str) -> list[tuple[Any, ...]]:
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
    run = Finished.of(shell, shell.write("limited.toml", LIMITED), "--batch-size", "500")
    accepted = rows(
        shell, "SELECT accepted_at, count(*) FROM gateway_ledger GROUP BY accepted_at ORDER BY 1"
    )
    moments = [at for at, _ in accepted]
    sums = [0, *itertools.accumulate(count for _, count in accepted)]
    end, most = 0, 0
    for place, began in enumerate(moments):
        while end < len(moments) and moments[end] < began + SECOND:
            end += 1
        most = max(most, sums[end] - sums[place])
    assert most <= 1_100
    assert 6_000 / ((moments[-1] - moments[0]) / SECOND) >= 900
    assert run.result["figures"]["gateway.repeats"] == 0


def test_the_hostile_gateway_ends_as_predicted_with_each_kind_counted(shell: Shell) -> None:
    run = Finished.of(shell, SCENARIOS / "hostile-gateway.toml", "--batch-size", "1000")
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
    [away] = rows(shell, "SELECT count(*) FROM gateway_refused_calls")
    # Twenty batches call less and less often in the five seconds, and at most once a second.
    assert 0 < gateway["refused_calls"] == away[0] < 20 * 6
    assert shell.run("verify").returncode == 0


def test_a_batch_that_waits_for_its_turn_lets_receipts_in(shell: Shell) -> None:
    """Messages of a large batch settle while the rest of it waits for the gateway."""
    slow = LIMITED.replace("rate = 1_000", "rate = 400").replace("audience = 4_000", "audience = 1")
    command = shell.start("simulate", shell.write("slow.toml", slow), "--batch-size", "2000")
    by_status = "SELECT count(*) FROM messages_by_name WHERE status = '{}'"

    def both() -> bool:
        done, waiting = (
            shell.recorded(by_status.format(each)) for each in ("delivered", "about_to_be_sent")
        )
        return done > 100 and waiting > 100

    wait_until(both, "some are delivered while others wait")
    assert command.wait() == 0


@dataclass
class Server:
    port: int
    log: Path

    @property
    def taken(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[[], Server]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> Server:
        port_file, log = tmp_path / "port", tmp_path / "log"
        command = [sys.executable, "-m", "tests.support.smtp_server", str(port_file), str(log)]
        started.append(subprocess.Popen(command, cwd=ROOT))
        wait_until(lambda: port_file.exists() and bool(port_file.read_text()), "it listens")
        return Server(int(port_file.read_text()), log)

    yield start
    for process in started:
        process.kill()
        process.wait()


BY_SMTP = """\
name = "by-smtp"

[[campaigns]]
name = "spring-email"
channel = "email"
audience = "people.csv"

[gateways.email]
kind = "smtp"
attempts = 3
retry_after = "100ms"
"""


@pytest.fixture
def by_smtp(shell: Shell) -> Path:
    names = [f"c{number}" for number in range(60)]
    names += ["refuse+1", "refuse+2", "reject", "defer+1", "defer+2"]
    people = [f"{name},{name}@shop.internal\n" for name in names]
    people += ["nobody,customer1@example.com\n", "without,\n"]
    shell.write("people.csv", "customer_id,email\n" + "".join(people))
    return shell.write("by-smtp.toml", BY_SMTP)


def test_a_campaign_by_smtp_delivers_each_message_once(
    shell: Shell, by_smtp: Path, start_server: Callable[[], Server]
) -> None:
    server = start_server()
    settings = {
        "SENDTRACE_SMTP_HOST": HOST,
        "SENDTRACE_SMTP_PORT": str(server.port),
        "SENDTRACE_SMTP_TLS": "none",
        "SENDTRACE_SMTP_FROM": "news@shop.internal",
        "SENDTRACE_ALLOW_GATEWAYS": "smtp",
    }
    run = Finished.of(shell, by_smtp, "--batch-size", "30", settings=settings)
    [campaign] = run.result["campaigns"]
    assert campaign["sent"]["delivered"] == 62
    assert campaign["sent"]["bounced"] == {"total": 4, "hard": 4, "soft": 0}
    assert campaign["not_sent"]["incomplete_or_invalid"]["email_missing"] == 1
    to = Counter(each["to"] for each in server.taken)
    assert len(to) == 62
    assert set(to.values()) == {1}
    assert len({each["headers"]["Message-ID"] for each in server.taken}) == 62
    assert len({each["peer"] for each in server.taken}) <= 8, "connections are reused"
    story = shell.run("trace", "spring-email", "60").stdout
    assert "the gateway said: 5.1.1 nobody of that name" in story
    deferred = shell.run("trace", "spring-email", "63").stdout
    assert "the gateway said: 4.7.1 come back later" in deferred
    assert "the gateway said: 2.0.0 taken" in deferred


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "SENDTRACE_ALLOW_GATEWAYS=smtp"),
        ({"SENDTRACE_ALLOW_GATEWAYS": "smtp"}, "SENDTRACE_SMTP_HOST: is not set"),
    ],
)
def test_a_real_gateway_is_not_used_by_accident(
    shell: Shell, by_smtp: Path, settings: dict[str, str], said: str
) -> None:
    ended = shell.run("simulate", by_smtp, settings=settings)
    assert (ended.returncode, said in ended.stderr) == (2, True), ended.stderr
    assert shell.recorded("SELECT count(*) FROM runs") == 0
