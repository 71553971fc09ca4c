"""A run while it is played: messages are sent as they arrive, and watched until they settle."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import tzinfo

from celery import Celery

from simulator.faults.inject import FaultInjector
from simulator.results.result import RunObservations, RunState
from simulator.retry import retry_transient
from simulator.run.abort import AbortCheck
from simulator.run.driver import Driver
from simulator.run.nightly import NightlyRollups
from simulator.run.progress import ProgressDisplay
from simulator.run.sampling import Sampler
from simulator.run.sweeper import Sweeper
from simulator.run.watch import ProgressWatch
from simulator.scenario.thresholds import Threshold
from simulator.setup.record import Run
from simulator.stack.broker import Broker
from simulator.stack.local import LocalWorker
from tracker.clock import to_real_seconds
from tracker.store.database import Database

IDLE_SLEEP_SECONDS = 0.02
"""Seconds for which nothing is done when no message has arrived."""

PROGRESS_INTERVAL_SECONDS = 0.1
"""Seconds between two looks at how far the messages are, if a look costs next to nothing."""

ABORT_CHECK_INTERVAL_SECONDS = 1.0
"""The same, at whether the thresholds can still be met."""

MIN_PAUSE_FACTOR = 5
"""Times as long as a look took is not looked again: in long runs one takes longer."""


class RunPlayer:
    """Plays a run that has begun. Without a ``worker`` of ours those of others do the work."""

    def __init__(
        self,
        database: Database,
        app: Celery,
        run: Run,
        broker: Broker,
        worker: LocalWorker | None,
        shown: ProgressDisplay,
        *,
        zone: tzinfo,
        faults: FaultInjector | None = None,
    ) -> None:
        self._faults = faults
        self._database = database
        self._app = app
        self._run = run
        self._broker = broker
        self._worker = worker
        self._display = shown
        self._nightly_rollups = NightlyRollups(app, run, zone, shown)
        self._watch = ProgressWatch(
            database, [loaded.campaign for loaded in run.campaigns], broker, app
        )
        self._abort_check = AbortCheck(run)
        self._last_arrival_at = max(loaded.last_arrival_at for loaded in run.campaigns)

    def play(
        self,
        batch_size: int,
        is_asked: Callable[[], bool],
        *,
        should_record: bool,
        should_sweep: bool = True,
    ) -> RunObservations:
        """Send all messages on their way, and wait until every one has settled.

        Once it ``is_asked`` to end no more are sent, and what is under way is waited for. A
        threshold that can't be met any more ends it at once.
        """
        driver = Driver(self._database, self._app, self._run, batch_size, self._watch.is_settled)
        sampler = Sampler(self._broker, None if self._worker is None else self._worker.process_id)
        ids = [loaded.campaign.id for loaded in self._run.campaigns]
        sweeper = Sweeper(self._database, self._app, self._broker, ids, self._display.log)
        with (
            sampler.running() if should_record else nullcontext(),
            sweeper.running() if should_sweep else nullcontext(),
            nullcontext() if self._faults is None else self._faults.running(),
        ):
            state, aborted = self._send_until_settled(driver, is_asked)
        if state is RunState.COMPLETE:
            self._display.log("nothing more is to come")
        return RunObservations(
            state=state,
            planned=self._run.size,
            samples=sampler.samples,
            aborted_by=aborted,
            requeued_count=sweeper.requeued_count,
            snapshot_count=self._watch.snapshot_count,
            unbalanced_reports=self._watch.unbalanced_reports,
            injected_faults=() if self._faults is None else tuple(self._faults.happened),
        )

    def _send_until_settled(
        self, driver: Driver, is_asked: Callable[[], bool]
    ) -> tuple[RunState, Threshold | None]:
        """Send and look in turns until it ends: how it did, and for which threshold."""
        state = RunState.COMPLETE
        looks, forebodings = (
            _PollTimer(PROGRESS_INTERVAL_SECONDS),
            _PollTimer(ABORT_CHECK_INTERVAL_SECONDS),
        )
        while True:
            if is_asked() and state is RunState.COMPLETE:
                state = RunState.INTERRUPTED
                self._watch.await_receipts_only()
                self._display.log("no more messages are sent")
            sent = driver.send_due_batch() if state is RunState.COMPLETE else 0
            if looks.is_due():
                total = self._run.size if state is RunState.COMPLETE else driver.messages_sent
                if self._refresh_progress(total):
                    return state, None
                looks.mark_done()
            if self._abort_check and forebodings.is_due():
                aborted = retry_transient(self._find_unreachable_threshold)
                forebodings.mark_done()
                if aborted is not None:
                    self._display.log(
                        f"{aborted.figure} can't be {aborted.told} any more: the run ends here"
                    )
                    return RunState.ABORTED, aborted
            if not sent:
                time.sleep(IDLE_SLEEP_SECONDS)

    def _refresh_progress(self, total: int) -> bool:
        """Look how far the messages are, ``total`` in the end, and show it."""
        if self._worker is not None:
            code = self._worker.restart_if_dead()
            if code is not None:
                self._display.log(
                    f"the worker ended with exit code {code} and is started again; its log is"
                    f" {self._worker.log}"
                )
        standing = self._watch.look(time.monotonic())
        self._nightly_rollups.look(self._watch.reports)
        self._display.update_messages(standing, total, self._seconds_until_last_arrival())
        return standing.is_complete(total)

    def _seconds_until_last_arrival(self) -> float:
        """Real seconds until the last message has arrived, as far as that is known."""
        clock = self._run.campaigns[0].campaign.clock
        return max(
            0.0,
            to_real_seconds(self._last_arrival_at - clock.now(), self._run.scenario.clock.speed),
        )

    def _find_unreachable_threshold(self) -> Threshold | None:
        with self._database.read() as connection:
            return self._abort_check.look(connection, self._watch.reports)


class _PollTimer:
    """When to look again: after so many seconds, and never for more than a share of the time."""

    def __init__(self, seconds: float) -> None:
        self._interval = seconds
        self._started_at = self._due_at = time.monotonic()

    def is_due(self) -> bool:
        self._started_at = time.monotonic()
        return self._started_at >= self._due_at

    def mark_done(self) -> None:
        now = time.monotonic()
        self._due_at = now + max(self._interval, MIN_PAUSE_FACTOR * (now - self._started_at))
