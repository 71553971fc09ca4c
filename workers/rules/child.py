"""A child process for commands that run rules: a rule may end its process."""

import atexit
import mmap
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress

EXIT_RULE_ENDED_PROCESS = 1

MAX_NAME_BYTES = 255

_running_rule = mmap.mmap(-1, MAX_NAME_BYTES)
"""The name of the rule that runs, zeros if none does; the parent process shares it."""


def announce_rule(name: str | None) -> None:
    """Tell the parent process which rule runs from now on; None if none does."""
    _running_rule[:] = (name or "").encode()[:MAX_NAME_BYTES].ljust(MAX_NAME_BYTES, b"\0")


def fork_for_rules(signals: Sequence[int]) -> int | None:
    """Fork, and wait in the parent for the end of the child, which runs the rules.

    If the child ends while a rule runs, the parent names the rule on stderr. It also deletes what
    the child has left in its temporary folder.

    Args:
        signals: the parent passes them to the child, unless they are ignored.

    Returns:
        None in the child; in the parent, the exit code of the command.
    """
    folder = tempfile.mkdtemp(prefix="sendtrace-")
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # or Ctrl-C in a terminal would reach it twice
        tempfile.tempdir = folder
        atexit.register(announce_rule, None)
        return None

    def pass_signal(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_signal)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    code = os.waitstatus_to_exitcode(status)
    rule = _running_rule[:].rstrip(b"\0").decode(errors="replace")
    if not rule:
        return code if code >= 0 else 128 - code
    end = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    print(
        f"sendtrace: check {rule}: the process ended while the rule ran ({end}); workers block such"
        " a message with reason step_failed",
        file=sys.stderr,
    )
    return EXIT_RULE_ENDED_PROCESS
