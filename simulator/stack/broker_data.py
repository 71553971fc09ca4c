"""The data of the stack's own broker, which a power cut may damage."""

import re
import time
from pathlib import Path

from tracker.text import format_fields

START_LINE, READY_LINE = "Valkey is starting", "Ready to accept connections"

DAMAGE_PATTERN = re.compile(
    r"# (Bad file format|Unexpected end of file|Unrecoverable error|Error) reading "
    r"|# (Internal error in|Wrong) RDB "
    r"|# Unable to obtain the AOF file .* No such"
    r"|# Fatal error: the truncated file is not the last file"
    r"|FATAL AOF MANIFEST FILE ERROR"
)
"""Warnings of a server that found its files incomplete or unreadable.

Files that the server may not open, or has no space to write, aren't damaged.
"""


def set_damaged_data_aside(data: Path, log: Path) -> str | None:
    """Rename the data folder if the server couldn't load it, so that the next start has none.

    The broker holds only tasks: the sweep re-queues the batches whose tasks are lost.

    Args:
        data: the server's folder.
        log: its log, which ends with its last start.

    Returns:
        An event for the log of the stack; None if the data isn't damaged.
    """
    last_start = log.read_text(errors="replace").rpartition(START_LINE)[2]
    if READY_LINE in last_start or DAMAGE_PATTERN.search(last_start) is None:
        return None
    aside = data.with_name(f"{data.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    data.rename(aside)
    data.mkdir()
    fields = format_fields(folder=aside)
    return f"warning: damaged broker data set aside; lost tasks are re-queued: {fields}"
