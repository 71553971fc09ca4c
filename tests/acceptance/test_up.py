"""The whole stack as one command, a run on it, and what Flower says of that run."""

import base64
import json
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulator.schema import open_database
from tests.support.schedules import prepare
from tests.support.shell import Shell, StartedCommand, free_port, make_scenario, wait_until
from tracker.queries.next_step import next_step
from tracker.settings import load_settings
from tracker.status import Step
from workers.queues import QUEUE_BY_STEP, QUEUES, SWEEP_TASK, task_name

CREDENTIALS = "operator:let-me-in"


@dataclass(frozen=True)
class Stack:
    """A stack that runs, at a prompt."""

    shell: Shell
    command: StartedCommand
    web: int
    flower: int

    def flower_says(self, path: str) -> Any:
        """What Flower's API answers; None while it does not."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.flower}{path}")
        told = base64.b64encode(CREDENTIALS.encode()).decode()
        request.add_header("Authorization", f"Basic {told}")
        with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
            return text if path == "/metrics" else json.loads(text)
        return None

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def child(self, word: str) -> psutil.Process:
        """The child with a word in its command."""
        [found] = [
            each
            for each in psutil.Process(self.command.process.pid).children()
            if any(word in part for part in each.cmdline())
            and "watchdog" not in str(each.cmdline())
        ]
        return found


@pytest.fixture
def stack(shell: Shell) -> Iterator[Stack]:
    web, flower = free_port(), free_port()
    command = shell.start(
        *("up", "--port", str(web), "--flower-port", str(flower)),
        settings={"SENDTRACE_FLOWER_AUTH": CREDENTIALS},
        label="up",
    )

    def is_ready() -> bool:
        assert command.process.poll() is None, command.stderr_text
        return "Ctrl-C stops the stack" in command.stdout.read_text()

    wait_until(is_ready, "the stack is ready", 90)
    yield Stack(shell, command, web, flower)
    if command.process.poll() is None:
        command.process.send_signal(signal.SIGINT)
        command.wait()


def test_a_run_on_the_stack_and_what_flower_says_of_it(stack: Stack) -> None:
    shell = stack.shell
    said = stack.command.stdout.read_text()
    assert f"http://127.0.0.1:{stack.web}" in said
    assert f"http://127.0.0.1:{stack.flower}" in said
    logs = {each.name for each in (shell.home / "logs").iterdir()}
    workers = {f"worker-{queue}.log" for queue in QUEUES}
    assert logs >= {"broker.log", "beat.log", "flower.log", "web.log", *workers}

    run = shell.start("simulate", shell.write("small.toml", make_scenario()), "--attach")
    during = [stack.flower_says("/api/queues/length")]
    assert run.wait() == 0, run.stderr_text
    assert [each["name"] for each in during[0]["active_queues"]] == list(QUEUES)

    tasks = stack.flower_says("/api/tasks")
    named = {each["name"] for each in tasks.values()}
    assert named >= {task_name(each) for each in (Step.SUPPRESS, Step.SUBMIT, Step.DELIVER)}
    assert SWEEP_TASK not in named, "one every two seconds would hide all else"
    for each in tasks.values():
        assert each["sent"]
        assert each["started"]
        told = each["kwargs"]
        assert told.startswith("{'campaign': ")
        assert len(told) < 80
        assert "@example.com" not in json.dumps(each)
    submitted = [each for each in tasks.values() if each["name"] == task_name(Step.SUBMIT)]
    assert {each["routing_key"] for each in submitted} == {QUEUE_BY_STEP[Step.SUBMIT]}
    assert {each["worker"].partition("@")[0] for each in submitted} == {QUEUE_BY_STEP[Step.SUBMIT]}
    of_sms = stack.flower_says("/api/tasks?search=kwargs:name=spring-sms")
    assert 0 < len(of_sms) < len(tasks)
    assert all("spring-sms" in each["kwargs"] for each in of_sms.values())
    assert "flower_events_total" in stack.flower_says("/metrics")
    assert "spring-email" in stack.page("/")
    story = stack.page("/campaigns/1/messages/7")
    [linked] = [each for each in submitted if each["uuid"] in story]
    assert f"http://127.0.0.1:{stack.flower}/task/{linked['uuid']}" in story

    flower = stack.child("flowerconfig.py")
    flower.terminate()
    again = lambda: (stack.flower_says("/api/tasks") or {}).keys() >= tasks.keys()  # noqa: E731
    wait_until(again, "Flower is there again, and knows what was")


def test_what_dies_is_started_again_and_all_is_stopped(stack: Stack) -> None:
    shell = stack.shell
    worker = stack.child("gateway@")
    worker.kill()
    wait_until(
        lambda: "child restarted: name=worker-gateway" in stack.command.stderr_text, "a new worker"
    )
    assert "child exited: name=worker-gateway exit_code=-9" in stack.command.stderr_text
    shell.write("small.toml", make_scenario())
    passes = lambda: shell.run("simulate", "small.toml", "--attach").returncode == 0  # noqa: E731
    wait_until(passes, "the new worker serves its queue")
    second = shell.run("up", "--port", str(free_port()))
    assert second.returncode == 2
    assert "a stack already runs on" in second.stderr

    family = psutil.Process(stack.command.process.pid).children(recursive=True)
    stack.command.process.send_signal(signal.SIGINT)
    assert stack.command.wait() == 0, stack.command.stderr_text
    assert [each for each in family if each.is_running()] == []
    assert not (shell.home / "up.json").exists()
    alone = shell.run("simulate", shell.folder / "small.toml", "--attach")
    assert alone.returncode == 2
    assert "no `sendtrace up` runs on" in alone.stderr


def test_what_was_recorded_and_never_reached_the_broker_is_swept_up(stack: Stack) -> None:
    with closing(open_database(load_settings(home=stack.shell.home))) as database:
        _run, worker = prepare(database, seed=3, credit=None)  # nobody sends its batches

        def is_settled() -> bool:
            return all(next_step(database, batch) is None for batch in worker.batches)

        assert not is_settled()
        wait_until(is_settled, "Celery's beat has found it, and the workers have done it")


def test_nothing_is_left_when_the_stack_is_killed(stack: Stack) -> None:
    family = psutil.Process(stack.command.process.pid).children(recursive=True)
    ours = [each for each in family if "watchdog" not in str(each.cmdline())]
    stack.command.process.kill()
    wait_until(lambda: not any(each.is_running() for each in ours), "nothing is left")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "set SENDTRACE_TOKEN"),  # noqa: S104
        (("--broker", "redis://127.0.0.1:1/0"), "does not answer"),
        (("--database", "postgresql://127.0.0.1:1/x"), "can't be used"),
    ],
)
def test_what_can_not_be_begun(shell: Shell, arguments: tuple[str, ...], told: str) -> None:
    ended = shell.run("up", "--port", str(free_port()), *arguments)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_taken(shell: Shell, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        for option in ("--port", "--flower-port"):
            other = "--flower-port" if option == "--port" else "--port"
            ended = shell.run("up", option, port, other, str(free_port()))
            assert ended.returncode == 2
            assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
