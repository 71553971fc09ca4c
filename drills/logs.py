"""The logs of a stack since the harm, without what is particular to this machine."""

import re
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from drills.stack import DrillStack
from tracker.text import to_one_line

LEVEL = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b")

TIMES = re.compile(r"^[\dT:.Z-]{8,} ?")

TEMPORARY_PATH = re.compile(re.escape(tempfile.gettempdir()) + r"/[\w./-]+")


def find_logs(stack: DrillStack) -> Sequence[Path]:
    """Return the logs of a stack, that of `sendtrace up` first."""
    return [stack.output, *sorted((stack.place.home / "logs").glob("*.log"))]


def read_warnings(stack: DrillStack, sizes: Mapping[Path, int]) -> Iterator[str]:
    """Yield the new warnings, and all new lines of `sendtrace up`; equal lines once, counted."""
    counts: dict[str, int] = {}
    for log in find_logs(stack):
        if log.name == "broker.log":  # Valkey has levels of its own, and warns of the kernel
            continue
        with log.open("rb") as file:
            file.seek(sizes.get(log, 0))
            text = file.read().decode(errors="replace")
        for line in text.splitlines():
            if log == stack.output or LEVEL.search(line):
                event = f"{log.stem}: {TIMES.sub('', to_one_line(line))}"
                counts[event] = counts.get(event, 0) + 1
    for event, count in counts.items():
        yield event if count == 1 else f"{event} ({count} times)"


def hide_machine(text: str, stack: DrillStack) -> str:
    """Return a text without the paths and the name of this machine."""
    for folder, name in ((stack.place.home, "SENDTRACE_HOME"), (Path(sys.prefix), "PYTHON")):
        text = text.replace(str(folder), name)
    return TEMPORARY_PATH.sub("TMPDIR", text).replace(socket.gethostname(), "HOST")
