"""A child process for commands that run rules: a rule may end its process."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress

from simulator.cli.signals import SHUTDOWN_SIGNALS
from simulator.stack.watchdog import start_watchdog
from workers.rules.running_rule import announce_rule, read_running_rule

EXIT_RULE_ENDED_PROCESS = 1

KILL_SCRIPT = 'kill -KILL "$1"; rm -rf "$2"'
"""Kills the child if the parent was killed: $1 is its process id, $2 its temporary folder."""


def fork_for_rules() -> int | None:
    """Fork, and wait in the parent for the end of the child, which runs the rules.

    If the child ends while a rule runs, the parent names the rule on stderr. It also deletes what
    the child has left in its temporary folder. The child stays in the foreground of the terminal,
    so a rule may read from it, as a debugger does.

    Returns:
        None in the child; in the parent, the exit code of the command.
    """
    # A signal between the fork and the handlers would end the parent only.
    mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, SHUTDOWN_SIGNALS)
    folder = tempfile.mkdtemp(prefix="sendtrace-")
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask_before)
        tempfile.tempdir = folder
        atexit.register(announce_rule, None)
        return None
    _leave_signals_to(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask_before)
    with start_watchdog(KILL_SCRIPT, str(child), folder):
        _, status = os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    code = os.waitstatus_to_exitcode(status)
    rule = read_running_rule()
    if rule is None:
        return code if code >= 0 else 128 - code
    end = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    print(
        f"sendtrace: check {rule}: the process ended while the rule ran ({end}); workers block such"
        " a message with reason step_failed",
        file=sys.stderr,
    )
    return EXIT_RULE_ENDED_PROCESS


def _leave_signals_to(child: int) -> None:
    """Pass shutdown signals to the child, except for Ctrl-C, which reaches it without that."""

    def pass_signal(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in SHUTDOWN_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            is_ctrl_c = number == signal.SIGINT
            signal.signal(number, signal.SIG_IGN if is_ctrl_c else pass_signal)
