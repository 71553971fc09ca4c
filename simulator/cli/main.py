"""The ``sendtrace`` command: what has to happen before the commands themselves are loaded."""

import io
import signal
import sys

from simulator.cli.signals import end_at_once, on_ending


def main() -> None:
    """Run the command line."""
    on_ending(end_at_once)
    from simulator.cli.simulate import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows a ? for a ✔
    on_ending(signal.default_int_handler)
    app(prog_name="sendtrace")


if __name__ == "__main__":
    main()
