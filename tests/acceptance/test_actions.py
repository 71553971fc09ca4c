"""Actions on a running campaign: each run ends as predicted, on both databases."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.postgresql import PostgresqlServer
from tests.support.shell import Shell, StartedCommand, make_scenario, wait_until

SIZES = {"spring-email": 600, "spring-sms": 200}

SLOW = make_scenario(email=SIZES["spring-email"], sms=SIZES["spring-sms"]).replace(
    'requires = ["coupon"]', 'load = { shape = { constant = 20 } }\nrequires = ["coupon"]'
)
"""The emails arrive in thirty seconds, so that a test can act on the campaign meanwhile."""


@pytest.fixture(params=("sqlite", "postgresql"))
def shell(request: pytest.FixtureRequest, make_shell: Callable[..., Shell]) -> Iterator[Shell]:
    """Return a shell whose run uses a database of its own, on each backend."""
    if request.param == "sqlite":
        shell = make_shell()
        yield shell
        shell.clean_up()
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    name = f"actions_{uuid4().hex[:12]}"
    server.execute(f"CREATE DATABASE {name}")
    shell = make_shell(SENDTRACE_DATABASE_URL=server.database_url(name))
    yield shell
    shell.clean_up()
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def start(shell: Shell) -> StartedCommand:
    """Start a run, and return once some of the emails have been sent."""
    command = shell.start(
        "simulate", shell.write("slow.toml", SLOW), "--batch-size", "50", "--json", "result.json"
    )

    def has_sent() -> bool:
        assert command.process.poll() is None, command.stderr_text
        ended = shell.run("report", "spring-email", "--format", "json")
        return ended.returncode == 0 and json.loads(ended.stdout)[0]["sent"]["total"] > 0

    wait_until(has_sent, "messages are sent")
    return command


def report(shell: Shell, campaign: str = "spring-email") -> Any:
    [row] = shell.reports(campaign)
    assert row["balanced"]
    return row


def act(shell: Shell, *arguments: str) -> str:
    ended = shell.run(*arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refuse(shell: Shell, *arguments: str) -> str:
    ended = shell.run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    return ended.stderr


def end(shell: Shell, command: StartedCommand) -> Any:
    """Wait for the end of a run, which must pass, and return its result."""
    assert command.wait() == 0, command.stderr_text + command.stdout.read_text()
    result = json.loads((shell.folder / "result.json").read_text())
    assert result["verdict"]["passed"]
    return result


def test_a_paused_campaign_is_held_until_it_is_resumed_and_ends_as_predicted(shell: Shell) -> None:
    command = start(shell)
    done = act(shell, "pause", "spring-email", "--reason", "wrong coupon", "--json", "action.json")
    assert done == "campaign spring-email of run 1 paused\n"
    action = json.loads((shell.folder / "action.json").read_text())
    assert (action["action"], action["target"], action["reason"]) == (
        "pause",
        "spring-email",
        "wrong coupon",
    )
    assert "is paused already" in refuse(shell, "pause", "spring-email")
    assert "unknown campaign 'spring-mail'" in refuse(shell, "pause", "spring-mail")
    assert "isn't paused" in refuse(shell, "resume", "spring-sms")

    wait_until(lambda: "paused: spring-email" in command.stderr_text, "the driver knows it")
    wait_until(lambda: not report(shell)["sent"]["in_gateway"], "what was in the gateway ends")
    wait_until(lambda: not report(shell, "spring-sms")["in_progress"]["total"], "the others go on")
    held = report(shell)
    assert held["state"] == "paused"
    assert held["scheduled"] > 0

    assert act(shell, "resume", "spring-email") == "campaign spring-email of run 1 resumed\n"
    result = end(shell, command)
    assert [row["action"] for row in result["actions"]] == ["pause", "resume"]
    assert "a campaign was paused" in result["not_comparable"]["throughput"]
    assert result["messages"] == sum(SIZES.values())
    assert "wrong coupon" in command.stdout.read_text()
    assert "run 1 is finished" in refuse(shell, "pause", "spring-email")


def test_a_cancelled_campaign_ends_with_what_the_gateway_had(shell: Shell) -> None:
    command = start(shell)
    done = act(shell, "cancel", "spring-email", "--reason", "recall")
    assert done == "campaign spring-email of run 1 cancelled\n"
    assert "is cancelled already" in refuse(shell, "cancel", "spring-email")
    assert "is cancelled already" in refuse(shell, "pause", "spring-email")
    result = end(shell, command)
    email, sms = result["campaigns"]
    assert (email["state"], sms["state"]) == ("cancelled", "finished")
    cancelled = email["not_sent"]["internally_suppressed"]["cancelled"]
    assert 0 < cancelled < SIZES["spring-email"]
    assert (email["scheduled"], email["in_progress"]["total"]) == (0, 0)
    assert email["sent"]["in_gateway"] == 0
    assert sms["not_sent"]["internally_suppressed"]["cancelled"] == 0
    check = result["prediction"]["campaigns"][0]
    assert (check["cancelled"], check["differences"]) == (cancelled, [])
    assert check["as_predicted"] == SIZES["spring-email"] - cancelled
    assert [row["action"] for row in result["actions"]] == ["cancel"]
    assert "run 1 is finished" in refuse(shell, "cancel", "spring-sms")
    assert shell.run("verify").returncode == 0
