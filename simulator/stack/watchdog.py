"""Watchdog: clean up after this process when it dies without doing so itself."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def start_watchdog(script: str, *arguments: str) -> Iterator[None]:
    """Run a shell script if this process dies within the block.

    The shell waits for the end of its standard input. The kernel closes that pipe when this process
    dies, also after SIGKILL.

    Args:
        script: shell commands; `$1`, `$2`, … stand for the arguments.
    """
    watchdog = subprocess.Popen(
        ["sh", "-c", f"read -r line; {script}", "sendtrace-watchdog", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to this process's group must not end the watchdog
    )
    try:
        yield
    finally:
        watchdog.kill()
        watchdog.communicate()
