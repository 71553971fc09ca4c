"""Worker monitor: restart the run's worker when it dies."""

from collections.abc import Callable

from simulator.run.observers.base import RunObserver, RunSnapshot
from simulator.stack.local import LocalWorker


class WorkerMonitor(RunObserver):
    """An observer that restarts a worker that exits during a run, and logs it."""

    def __init__(self, worker: LocalWorker, log: Callable[[str], None]) -> None:
        self._worker = worker
        self._log = log

    def ticked(self, snapshot: RunSnapshot) -> None:  # noqa: ARG002
        """Restart the worker if it has exited."""
        exit_code = self._worker.restart_if_dead()
        if exit_code is not None:
            self._log(f"worker restarted: exit_code={exit_code} log={self._worker.log}")
