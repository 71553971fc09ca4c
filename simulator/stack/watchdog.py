"""What happens to children when there is nobody left to end them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def start_watchdog(last_will: str, *arguments: str) -> Iterator[None]:
    """Have a shell carry out ``last_will`` should this process die within the block.

    It waits for the end of its input, which comes when we close the pipe, or are no more.
    """
    guardian = subprocess.Popen(
        ["sh", "-c", f"read -r line; {last_will}", "sendtrace-guardian", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what ends the driver's group does not end it
    )
    try:
        yield
    finally:
        guardian.kill()
        guardian.communicate()
