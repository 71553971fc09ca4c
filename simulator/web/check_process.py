"""Evaluate checks for the live page in a child process: a rule may end its process, or hang."""

import signal
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Lock

from tracker.errors import SendtraceError
from tracker.monitoring import CheckVerdict
from tracker.record.catalog import Campaign, load_campaign
from tracker.store.database import Database, connect
from tracker.text import describe_error
from workers.checks.base import all_checks
from workers.checks.judging import AnnounceCheck
from workers.rules.as_of import Rules
from workers.rules.explain import build_explanation
from workers.rules.running_rule import announce_rule
from workers.steps.limits import StepTimeout, worker_limits

_SPAWNING = get_context("spawn")
"""Starts fresh interpreters: a fork would copy locks that other threads of the live page hold."""


class CheckProcess:
    """A process that evaluates the checks, of one message at a time.

    It starts when it is first needed, and again after it has ended.
    """

    def __init__(self, database_url: str) -> None:
        """Take the URL of the database, with its password."""
        self._database_url = database_url
        self._lock = Lock()
        self._child: tuple[SpawnProcess, Connection] | None = None

    def evaluate(self, campaign: Campaign, number: int) -> Sequence[CheckVerdict]:
        """Return the verdict of every check on a message, as of now.

        Raises:
            SendtraceError: the checks can't be evaluated here, or the process has ended.
        """
        with self._lock:
            self._child = self._child or self._start()
            pipe = self._child[1]
            running: str | None = None
            try:
                pipe.send((campaign.id, number))
                answer = pipe.recv()
                while isinstance(answer, str | None):
                    running = answer
                    answer = pipe.recv()
            except (EOFError, OSError):
                self._end()
                cause = "" if running is None else f" while check {running} ran"
                raise SendtraceError(f"the process that evaluates them ended{cause}") from None
        if isinstance(answer, SendtraceError):
            raise answer
        return list(answer)

    def close(self) -> None:
        """End the process, also while it evaluates checks."""
        child = self._child
        if child is not None:
            child[0].kill()  # an evaluation that holds the lock then fails
        with self._lock:
            self._end()

    def _start(self) -> tuple[SpawnProcess, Connection]:
        pipe, child_pipe = _SPAWNING.Pipe()
        with child_pipe:
            process = _SPAWNING.Process(
                target=_answer_requests, args=(child_pipe, self._database_url), daemon=True
            )
            process.start()
        return process, pipe

    def _end(self) -> None:
        if self._child is not None:
            process, pipe = self._child
            self._child = None
            process.kill()
            process.join()
            pipe.close()


def _answer_requests(pipe: Connection, database_url: str) -> None:
    """Answer requests until the live page closes its end of the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the live page, which ends this
    with closing(connect(database_url)) as database, suppress(EOFError, OSError):
        while True:
            campaign_id, number = pipe.recv()
            pipe.send(_answer(database, campaign_id, number, pipe.send))


def _answer(
    database: Database, campaign_id: int, number: int, announce: AnnounceCheck
) -> list[CheckVerdict] | SendtraceError:
    """Return the answer to a request: verdicts, or an error."""
    try:
        with worker_limits(), database.readable_errors():
            with database.read() as connection:
                campaign = load_campaign(connection, campaign_id)
            return evaluate_checks(database, campaign, number, announce)
    except SendtraceError as error:
        return SendtraceError(str(error))
    except (Exception, StepTimeout) as error:  # another package's services may raise anything
        return SendtraceError(describe_error(error))


def _without_foreign_values(verdict: CheckVerdict) -> CheckVerdict:
    """Return a verdict that the live page can unpickle without the classes of rules."""
    until = verdict.deferred_until
    return replace(
        verdict,
        looked_at={name: _to_plain(value) for name, value in verdict.looked_at.items()},
        deferred_until=None if until is None else until.astimezone(UTC),
    )


def _to_plain(value: object) -> object:
    if isinstance(value, tuple | frozenset):
        return tuple(sorted(map(str, value)))
    return value if type(value) in (str, int, float, bool, type(None)) else str(value)


def evaluate_checks(
    database: Database,
    campaign: Campaign,
    number: int,
    announce: AnnounceCheck = announce_rule,
) -> list[CheckVerdict]:
    """Return the verdict of every check on a message, as of now, in this process.

    Args:
        announce: receives the name of the check that runs, and None after it.
    """
    rules = Rules(campaign=campaign, checks=all_checks())
    explanation = build_explanation(database, rules, number, campaign.clock.now(), announce)
    return [_without_foreign_values(verdict) for verdict in explanation.verdicts]
