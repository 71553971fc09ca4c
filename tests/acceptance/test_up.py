"""`sendtrace up`: the whole stack, a run on it, and what Flower shows of the run."""

import base64
import json
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulator.schema import open_database
from simulator.stack.announcement import find_stack
from simulator.web.commands import make_commands
from tests.support.private_files import find_open_files
from tests.support.schedules import prepare_run
from tests.support.shell import (
    FOREIGN_SETTINGS,
    LIMIT_SECONDS,
    Shell,
    StartedCommand,
    find_free_port,
    is_running,
    make_scenario,
    wait_until,
)
from tracker.queries.next_step import next_step
from tracker.settings import load_settings
from tracker.status import Step
from workers.queues import QUEUE_BY_STEP, QUEUES, SWEEP_TASK, task_name

CREDENTIALS = "operator:let-me-in"


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    shell: Shell
    command: StartedCommand
    web: int
    flower: int

    def ask_flower(self, path: str) -> Any:
        """Return the answer of Flower's API, or None while it is unavailable."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.flower}{path}")
        credentials = base64.b64encode(CREDENTIALS.encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        with suppress(OSError), urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310
            text = answer.read().decode()
            return text if path == "/metrics" else json.loads(text)
        return None

    def read_page(self, path: str) -> str:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.web}{path}", timeout=LIMIT_SECONDS
        ) as answer:
            return str(answer.read().decode())

    def find_child(self, word: str) -> psutil.Process:
        """Return the child whose command contains a word."""
        [child] = [
            child
            for child in psutil.Process(self.command.process.pid).children()
            if any(word in part for part in child.cmdline())
            and "watchdog" not in str(child.cmdline())
        ]
        return child


@contextmanager
def start_stack(shell: Shell) -> Iterator[Stack]:
    """Start a stack in the folder of another project; stop it after the block if it still runs."""
    shell.write_foreign_modules()
    web, flower = find_free_port(), find_free_port()
    command = shell.start(
        *("up", "--port", str(web), "--flower-port", str(flower)),
        settings={"SENDTRACE_FLOWER_AUTH": CREDENTIALS, **FOREIGN_SETTINGS},
        label="up",
    )

    def is_ready() -> bool:
        assert command.process.poll() is None, command.stderr_text
        return "Ctrl-C stops it all" in command.stdout.read_text()

    wait_until(is_ready, "the stack is ready")
    try:
        yield Stack(shell, command, web, flower)
    finally:
        if command.process.poll() is None:
            command.process.send_signal(signal.SIGINT)
            command.wait()


@pytest.fixture(scope="module")
def stack(make_shell: Callable[..., Shell]) -> Iterator[Stack]:
    """Return a stack that tests share; the last of them stops it."""
    with start_stack(make_shell()) as stack:
        yield stack


def check_logs(folder: Path) -> None:
    """Check that Celery's lines name the batch, and that a healthy stack logs no warning."""
    worker_log = (folder / "worker-queued.log").read_text()
    for event in ("received", "succeeded"):
        [line, *_] = [
            line
            for line in worker_log.splitlines()
            if f"Task {task_name(Step.SUPPRESS)}" in line and event in line
        ]
        assert re.search(r"campaign=\d+ batch=\d+ step=suppress task=[\w-]+ run=\d+", line), line
    for log in folder.glob("*.log"):
        if log.name != "broker.log":  # Valkey warns of the kernel's settings
            assert not re.search(r"Z (WARNING|ERROR|CRITICAL) ", log.read_text()), log.read_text()


def test_flower_shows_a_run_on_the_stack(stack: Stack) -> None:
    shell = stack.shell
    output = stack.command.stdout.read_text()
    assert f"http://127.0.0.1:{stack.web}" in output
    assert f"http://127.0.0.1:{stack.flower}" in output
    logs = {log.name for log in (shell.home / "logs").iterdir()}
    workers = {f"worker-{queue}.log" for queue in QUEUES}
    assert logs >= {"broker.log", "beat.log", "flower.log", "web.log", *workers}

    run = shell.start("simulate", shell.write("small.toml", make_scenario()), "--attach")
    lengths = stack.ask_flower("/api/queues/length")
    assert [queue["name"] for queue in lengths["active_queues"]] == list(QUEUES)
    assert run.wait() == 0, run.stderr_text

    def has_all_events() -> bool:
        tasks = stack.ask_flower("/api/tasks").values()
        ends = {task["name"] for task in tasks if task["state"] == "SUCCESS"}
        return task_name(Step.DELIVER) in ends and all(task["succeeded"] for task in tasks)

    wait_until(has_all_events, "Flower has the events of all tasks")
    tasks = stack.ask_flower("/api/tasks")
    names = {task["name"] for task in tasks.values()}
    assert names >= {task_name(step) for step in (Step.SUPPRESS, Step.SUBMIT, Step.DELIVER)}
    assert SWEEP_TASK not in names, "a sweep every two seconds would hide other tasks"
    for task in tasks.values():
        assert task["sent"]
        assert task["started"]
        arguments = task["kwargs"]
        assert arguments.startswith("{'campaign': ")
        assert len(arguments) < 80
        assert "@example.com" not in json.dumps(task)
    submitted = [task for task in tasks.values() if task["name"] == task_name(Step.SUBMIT)]
    assert {task["routing_key"] for task in submitted} == {QUEUE_BY_STEP[Step.SUBMIT]}
    assert {task["worker"].partition("@")[0] for task in submitted} == {QUEUE_BY_STEP[Step.SUBMIT]}
    of_sms = stack.ask_flower("/api/tasks?search=kwargs:name=spring-sms")
    assert 0 < len(of_sms) < len(tasks)
    assert all("spring-sms" in task["kwargs"] for task in of_sms.values())
    assert "flower_events_total" in stack.ask_flower("/metrics")
    assert "spring-email" in stack.read_page("/")
    timeline = stack.read_page("/campaigns/1/messages/7")
    [linked] = [task for task in submitted if task["uuid"] in timeline]
    assert f"http://127.0.0.1:{stack.flower}/task/{linked['uuid']}" in timeline

    check_logs(stack.shell.home / "logs")

    flower = stack.find_child("flowerconfig.py")
    flower.terminate()
    is_restored = lambda: (stack.ask_flower("/api/tasks") or {}).keys() >= tasks.keys()  # noqa: E731
    wait_until(is_restored, "Flower is restarted and has the earlier tasks")


def test_the_state_folder_and_the_sockets_are_private(stack: Stack) -> None:
    [sockets] = stack.shell.scratch.glob("sendtrace-*")
    assert (sockets / "broker.sock").is_socket()
    for folder in (stack.shell.home, sockets):
        assert find_open_files(folder) == []


def test_a_run_with_another_broker_is_refused(stack: Stack) -> None:
    scenario = stack.shell.write("small.toml", make_scenario())
    ended = stack.shell.run("simulate", scenario)
    assert ended.returncode == 2
    assert "`sendtrace up` runs on" in ended.stderr
    assert "give --attach" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_commands_of_the_pages_work_in_any_shell(stack: Stack) -> None:
    """They run in the folder of another project, in a shell without settings."""
    address = find_stack(stack.shell.home)
    assert address is not None
    settings = load_settings(
        home=stack.shell.home, broker_url=address.broker, database_url=address.database
    )
    commands = make_commands(settings)
    assert commands.hidden_variables == []
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(stack.shell.scratch)}

    def run(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=stack.shell.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )

    for command in (
        commands.recover,
        commands.verify,
        commands.requeue(1, 0, Step.DELIVER),
    ):
        ended = run(command)
        assert ended.returncode == 0, command + ended.stderr
    ended = run(commands.resume(1))
    assert ended.returncode == 2, "the run has finished: " + ended.stderr
    assert "run 1" in ended.stderr
    worker = subprocess.Popen(
        ["/bin/sh", "-c", f"exec env {commands.start_worker('gateway')}"],
        cwd=stack.shell.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: "extra-gateway@" in stack.read_page("/operations"), "it is online")
    finally:
        worker.terminate()
        worker.wait(LIMIT_SECONDS)
    health = json.loads(stack.read_page("/health"))
    assert health["parts"]["beat"]["status"] == "ok", "sweeps are noticed"


def test_the_sweep_queues_batches_that_never_reached_the_broker(stack: Stack) -> None:
    with closing(open_database(load_settings(home=stack.shell.home))) as database:
        _run, worker = prepare_run(
            database, seed=3, credit=None
        )  # its batches are recorded and not enqueued

        def is_settled() -> bool:
            return all(next_step(database, batch) is None for batch in worker.batches)

        assert not is_settled()
        wait_until(
            is_settled, "the sweep of beat re-queues the batches, and the workers settle them"
        )


def test_a_dead_child_is_restarted_and_ctrl_c_stops_all(stack: Stack) -> None:
    shell = stack.shell
    worker = stack.find_child("gateway@")
    worker.kill()
    wait_until(
        lambda: "child restarted: name=worker-gateway" in stack.command.stderr_text, "a new worker"
    )
    assert "child exited: name=worker-gateway exit_code=-9" in stack.command.stderr_text
    shell.write("small.toml", make_scenario())
    command = ("simulate", "small.toml", "--attach", "--no-record")
    wait_until(lambda: shell.run(*command).returncode == 0, "the new worker serves its queue")
    second = shell.run("up", "--port", str(find_free_port()))
    assert second.returncode == 2
    assert "a stack already runs on" in second.stderr

    family = psutil.Process(stack.command.process.pid).children(recursive=True)
    stack.command.process.send_signal(signal.SIGINT)
    assert stack.command.wait() == 0, stack.command.stderr_text
    wait_until(lambda: not any(map(is_running, family)), "all processes have ended")
    assert not (shell.home / "up.json").exists()
    alone = shell.run("simulate", shell.folder / "small.toml", "--attach")
    assert alone.returncode == 2
    assert "no `sendtrace up` runs on" in alone.stderr


def test_nothing_is_left_when_the_stack_is_killed(shell: Shell) -> None:
    with start_stack(shell) as stack:
        family = psutil.Process(stack.command.process.pid).children(recursive=True)
        children = [process for process in family if "watchdog" not in str(process.cmdline())]
        stack.command.process.kill()
        wait_until(lambda: not any(map(is_running, children)), "nothing is left")
        stack.command.wait()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--host", "0.0.0.0"), "set SENDTRACE_TOKEN"),  # noqa: S104
        (("--broker", "redis://127.0.0.1:1/0"), "does not answer"),
        (("--database", "postgresql://127.0.0.1:1/x"), "can't be used"),
    ],
)
def test_errors_before_the_start(shell: Shell, arguments: tuple[str, ...], error: str) -> None:
    ended = shell.run("up", "--port", str(find_free_port()), *arguments)
    assert ended.returncode == 2
    assert error in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_in_use_is_named(shell: Shell, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        for option in ("--port", "--flower-port"):
            other = "--flower-port" if option == "--port" else "--port"
            ended = shell.run("up", option, port, other, str(find_free_port()))
            assert ended.returncode == 2
            assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
            assert ended.stderr.rstrip().endswith(f"and {option}")
