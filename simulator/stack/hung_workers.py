"""Kill workers of a stack that hang: their processes run, and don't answer. They are restarted."""

from collections.abc import Callable, Mapping

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from simulator.stack.supervisor import Supervisor

PING_INTERVAL_SECONDS = 15.0
"""Seconds between two pings of all workers."""

PING_TIMEOUT_SECONDS = 5.0
"""Seconds that a worker has to answer. It takes milliseconds: the main process answers, whatever
the processes of its pool do."""

BROKER_OPTIONS = {"socket_timeout": PING_TIMEOUT_SECONDS}
"""Options of the broker's connection. A broker that hangs must not hold up for longer the thread
that also restarts children."""

MAX_UNANSWERED_PINGS = 5
"""Pings in a row without an answer after which a worker hangs: after more than a minute.

A stack that was stopped and continued, or whose machine was suspended, misses one answer.
"""


class HungWorkers:
    """A check for hung workers.

    Args:
        app: an app for this check only: it gets other options of the broker.
        children: the names of the workers' child processes, by their Celery names.
        log: called with a line for each worker that is killed.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        app: Celery,
        children: Mapping[str, str],
        log: Callable[[str], None],
    ) -> None:
        self._supervisor, self._app, self._children, self._log = supervisor, app, children, log
        app.conf.broker_transport_options = app.conf.broker_transport_options | BROKER_OPTIONS
        self._unanswered_pings: dict[int, int] = {}
        """By process id. A worker that still starts isn't in it: it has never answered."""

    def kill_hung_workers(self, timeout: float = PING_TIMEOUT_SECONDS) -> None:
        """Ping all workers, and kill those that have not answered for too long.

        While the broker doesn't answer, workers can't, so all counts start again from zero.

        Args:
            timeout: seconds to wait for answers.
        """
        try:
            replies = self._app.control.ping(
                [*self._children], timeout=timeout, limit=len(self._children)
            )
        except (OperationalError, RedisError, OSError):
            self._unanswered_pings.clear()
            return
        answered = {node for reply in replies for node in reply}
        for node, name in self._children.items():
            pid = self._supervisor.find_pid(name)
            if pid is None:
                continue
            if node in answered:
                self._unanswered_pings[pid] = 0
            elif pid in self._unanswered_pings:
                self._count_unanswered(name, pid)

    def _count_unanswered(self, name: str, pid: int) -> None:
        self._unanswered_pings[pid] += 1
        count = self._unanswered_pings[pid]
        if count >= MAX_UNANSWERED_PINGS:
            del self._unanswered_pings[pid]
            self._log(f"worker hung: name={name} pid={pid} unanswered_pings={count}")
            self._supervisor.kill(name)
