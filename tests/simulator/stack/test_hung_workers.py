"""Workers that don't answer are killed and restarted; busy ones, and those of a pause, aren't."""

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from simulator.stack.child import ChildCommand
from simulator.stack.commands import worker_command
from simulator.stack.hung_workers import MAX_UNANSWERED_PINGS, HungWorkers
from simulator.stack.supervisor import Supervisor
from tests.support.shell import wait_until
from workers.celery_app import make_celery_app
from workers.queues import QUEUES

SHORT, LONG = 0.1, 60.0
"""Seconds to wait for a worker that can't answer, and for one that will."""


class Workers:
    """A supervised worker, which can be stopped and continued."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        node = f"hung-{uuid4().hex}@{socket.gethostname()}"
        command = ChildCommand(
            name="worker",
            command=worker_command(node, QUEUES[:1], 1),
            environment={
                "SENDTRACE_BROKER_URL": broker_url,
                "SENDTRACE_DATABASE_URL": f"sqlite:///{folder}/sendtrace.db",
            },
            log=folder / "worker.log",
        )
        self.events: list[str] = []
        self.supervisor = Supervisor([[command]], self.events.append)
        self._app = make_celery_app("test", broker_url)
        self._hung = HungWorkers(self.supervisor, self._app, {node: "worker"}, self.events.append)
        self._node = node

    @property
    def process(self) -> psutil.Process:
        pid = self.supervisor.find_pid("worker")
        assert pid is not None
        return psutil.Process(pid)

    def wait_until_answering(self) -> None:
        def answers() -> bool:
            self.supervisor.restart_dead_children(0.0)
            return bool(self._app.control.ping([self._node], timeout=1.0, limit=1))

        wait_until(answers, "the worker answers")
        self.ping(LONG)

    def ping(self, timeout: float, times: int = 1) -> None:
        for _ in range(times):
            self._hung.kill_hung_workers(timeout)

    def close(self) -> None:
        self.supervisor.stop()
        self._app.close()


@pytest.fixture
def workers(tmp_path: Path, broker_url: str) -> Iterator[Workers]:
    workers = Workers(tmp_path, broker_url)
    workers.supervisor.start()
    yield workers
    workers.close()


def test_a_worker_that_does_not_answer_is_restarted(workers: Workers) -> None:
    workers.ping(SHORT, 2 * MAX_UNANSWERED_PINGS)
    assert workers.events == [], "a worker that starts isn't hung"
    workers.wait_until_answering()
    first = workers.process

    [pool_process] = first.children()
    pool_process.suspend()  # as if it were busy with a long step
    workers.ping(LONG, MAX_UNANSWERED_PINGS + 1)
    pool_process.resume()
    assert workers.events == [], "a worker whose pool is busy isn't hung"

    for _ in range(2):
        first.suspend()
        workers.ping(SHORT, MAX_UNANSWERED_PINGS - 1)
        first.resume()
        workers.wait_until_answering()
    assert workers.events == [], "only pings in a row count"

    first.suspend()
    workers.ping(SHORT, MAX_UNANSWERED_PINGS)
    assert workers.events == [
        f"worker hung: name=worker pid={first.pid} unanswered_pings={MAX_UNANSWERED_PINGS}"
    ]
    workers.wait_until_answering()
    assert workers.process.pid != first.pid
    assert not pool_process.is_running()
    assert f"exit_code=-{signal.SIGKILL.value}" in workers.events[1]
    assert "child restarted: name=worker" in workers.events


def test_a_broker_that_is_down_does_not_hold_up_the_supervisor(tmp_path: Path) -> None:
    """The thread that pings the workers also restarts the broker."""
    with make_celery_app("test", f"redis+socket://{tmp_path}/none.sock") as app:
        hung = HungWorkers(Supervisor([], print), app, {"worker@here": "worker"}, print)
        pinging = threading.Thread(target=hung.kill_hung_workers, daemon=True)
        pinging.start()
        pinging.join(LONG)
        assert not pinging.is_alive()


def test_no_worker_is_hung_while_the_broker_is_away(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.wait_until_answering()
    workers.process.suspend()
    workers.ping(SHORT, MAX_UNANSWERED_PINGS - 1)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as context:
        context.setattr(workers._app.control, "ping", fail)
        workers.ping(SHORT)
    workers.ping(SHORT, MAX_UNANSWERED_PINGS)
    assert workers.events == [], "it has to answer once before it counts again"
