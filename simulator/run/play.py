"""Play a run: send its messages as they arrive, and wait until each of them has settled."""

import time
from collections.abc import Callable, Sequence

from simulator.results.observations import DriverObservations, RunState
from simulator.run.abort import AbortCheck
from simulator.run.driver import Driver
from simulator.run.observers.base import RunObserver, RunSnapshot, notify_observers
from simulator.run.system import RunSystem
from simulator.run.watch import ProgressWatch
from simulator.scenario.thresholds import Threshold
from simulator.setup.run import Run
from tracker.audit.invariants import MAX_EXAMPLES
from tracker.clock import to_real_seconds

IDLE_SLEEP_SECONDS = 0.02
"""Pause when no message is due."""

MIN_PROGRESS_INTERVAL_SECONDS = 0.1

MAX_PROGRESS_INTERVAL_SECONDS = 0.5
"""Longest time between two reads of the progress: the end of a run may be noticed so late."""

PROGRESS_INTERVAL_SHARE = 0.05
"""Time between two reads of the progress, as a share of the run's duration so far. So a short run
isn't prolonged noticeably, and a long one is read twice a second."""

ABORT_CHECK_INTERVAL_SECONDS = 1.0

MIN_PAUSE_FACTOR = 5
"""A check that takes long is repeated only after this many times its duration."""

MAX_PAUSE_SECONDS = 10.0
"""Longest pause for that reason: also after an outage, or a time asleep, the next look is soon."""


class RunPlayer:
    """A player of a run that has started.

    Args:
        observers: called when the run starts, at each read of the progress, and when it ends.
        is_shutdown_requested: once it returns True, no more messages are queued.
    """

    def __init__(
        self,
        system: RunSystem,
        run: Run,
        batch_size: int,
        *,
        observers: Sequence[RunObserver],
        is_shutdown_requested: Callable[[], bool],
        log: Callable[[str], None],
    ) -> None:
        self._system = system
        self._run = run
        self._observers = observers
        self._is_shutdown_requested = is_shutdown_requested
        self._log = log
        self._watch = ProgressWatch(
            system.database, run.recorded_campaigns, system.broker, system.app, system.outages
        )
        self._driver = Driver(
            system.database,
            system.app,
            run,
            batch_size,
            is_settled=self._watch.is_settled,
            is_paused=self._watch.is_paused,
            is_cancelled=self._watch.is_cancelled,
            outages=system.outages,
        )
        self._abort_check = AbortCheck(run)
        self._last_arrival_at = max(run_campaign.last_arrival_at for run_campaign in run.campaigns)
        self._state = RunState.FINISHED
        self._deferred_seconds: set[int] = set()
        self._other_seconds: set[int] = set()

    def play(self) -> tuple[RunState, DriverObservations]:
        """Send all messages, and return when each has settled or a threshold is out of reach.

        The observations lack what the observers have seen.

        Raises:
            RunStalled: messages are unsettled, and nothing would move them.
        """
        with notify_observers(self._observers):
            aborted_by = self._send_until_settled()
        if self._state is RunState.FINISHED:
            self._log("all messages settled")
        unbalanced = self._watch.unbalanced_reports
        return self._state, DriverObservations(
            aborted_by=aborted_by,
            deferred_count=sum(report.held for report in self._watch.reports),
            deferred_seconds=tuple(sorted(self._deferred_seconds - self._other_seconds)),
            snapshot_count=self._watch.snapshot_count,
            unbalanced_count=len(unbalanced),
            unbalanced_reports=tuple(report.as_json() for report in unbalanced[:MAX_EXAMPLES]),
        )

    def _send_until_settled(self) -> Threshold | None:
        """Return the threshold that stopped the run, or None when all messages have settled."""
        began = time.monotonic()
        progress_timer, abort_timer = PollTimer(), PollTimer()
        while True:
            if self._state is RunState.FINISHED and self._is_shutdown_requested():
                self._stop_sending()
            is_sending = self._state is RunState.FINISHED
            sent = self._driver.send_due_batch() if is_sending else 0
            if progress_timer.is_due():
                if self._check_progress():
                    return None
                progress_timer.restart(progress_interval(time.monotonic() - began))
            if self._abort_check and abort_timer.is_due():
                threshold = self._system.outages.retry(self._find_unreachable_threshold)
                if threshold is not None:
                    return self._abort(threshold)
                abort_timer.restart(ABORT_CHECK_INTERVAL_SECONDS)
            if not sent:
                time.sleep(IDLE_SLEEP_SECONDS)

    def _stop_sending(self) -> None:
        self._state = RunState.INTERRUPTED
        self._watch.await_messages_in_progress()
        self._log("no more messages are queued")

    def _abort(self, threshold: Threshold) -> Threshold:
        self._state = RunState.ABORTED
        self._log(
            f"threshold {threshold.figure} {threshold.expression} can no longer be met; stopping"
        )
        return threshold

    def _check_progress(self) -> bool:
        """Pass a snapshot to the observers; return whether all messages have settled."""
        is_sending = self._state is RunState.FINISHED
        planned = self._run.size if is_sending else self._driver.messages_sent
        progress = self._watch.check_progress(time.monotonic())
        snapshot = RunSnapshot(
            reports=self._watch.reports,
            progress=progress,
            planned=planned,
            arrival_seconds_left=self._arrival_seconds_left(),
        )
        self._count_deferred_second(snapshot)
        for observer in self._observers:
            observer.ticked(snapshot)
        return progress.is_complete(planned)

    def _count_deferred_second(self, snapshot: RunSnapshot) -> None:
        """Note whether all messages on their way to the gateway are deferred in this second."""
        if snapshot.in_progress:
            elapsed = self._run.clock.now() - self._run.started_at
            is_deferred = snapshot.deferred == snapshot.in_progress
            seconds = self._deferred_seconds if is_deferred else self._other_seconds
            seconds.add(int(to_real_seconds(elapsed, self._run.scenario.clock.speed)))

    def _arrival_seconds_left(self) -> float:
        """Return the real seconds until the last arrival; campaigns after others don't count."""
        speed = self._run.scenario.clock.speed
        return max(0.0, to_real_seconds(self._last_arrival_at - self._run.clock.now(), speed))

    def _find_unreachable_threshold(self) -> Threshold | None:
        with self._system.database.read() as connection:
            return self._abort_check.find_unreachable_threshold(connection, self._watch.reports)


def progress_interval(elapsed: float) -> float:
    """Return the seconds between two reads of the progress, `elapsed` seconds after the first."""
    interval = max(MIN_PROGRESS_INTERVAL_SECONDS, PROGRESS_INTERVAL_SHARE * elapsed)
    return min(interval, MAX_PROGRESS_INTERVAL_SECONDS)


class PollTimer:
    """A timer of a check: it is due after an interval, or later if the check itself takes long."""

    def __init__(self) -> None:
        self._started_at = self._due_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the check is due; if so, it starts now."""
        self._started_at = time.monotonic()
        return self._started_at >= self._due_at

    def restart(self, interval: float) -> None:
        """Schedule the next check; the current one has just finished."""
        now = time.monotonic()
        pause = min(MIN_PAUSE_FACTOR * (now - self._started_at), MAX_PAUSE_SECONDS)
        self._due_at = now + max(interval, pause)
