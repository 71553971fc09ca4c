"""The ``sendtrace`` command: what has to happen before the commands themselves are loaded."""

import io
import signal
import sys

from simulator.cli.signals import exit_immediately, set_shutdown_handler


def main() -> None:
    """Run the command line."""
    set_shutdown_handler(exit_immediately)
    from simulator.cli.simulate import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows a ? for a ✔
    set_shutdown_handler(signal.default_int_handler)
    app(prog_name="sendtrace")


if __name__ == "__main__":
    main()
