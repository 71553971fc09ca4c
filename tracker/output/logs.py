"""The log of a process: one line an event, as text or as JSON, with repeated failures grouped."""

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from tracker.settings import Settings
from tracker.text import describe_error, escape_control_characters, format_fields

GROUP_SECONDS = 10.0
"""Seconds for which repetitions of a failure are counted, and then logged as one line."""

GROUPED_BY = ("campaign", "run", "step", "check", "reason", "error")
"""Fields that tell two failures apart. Others, such as the batch, differ among repetitions."""

CHATTY_LIBRARIES = ("alembic", "httpx2", "uvicorn.error")
"""Loggers of libraries whose INFO lines describe each call, or repeat our own lines."""

_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))


class LogFields:
    """The fields of an event, as the argument of its log call: `logger.info("woken: %s", …)`."""

    def __init__(self, **values: object) -> None:
        self.values = values

    def __str__(self) -> str:
        return format_fields(**self.values)


def set_log_context(fields: Mapping[str, object]) -> None:
    """Add fields to each line that this thread logs from now on, instead of the earlier ones."""
    _context.set(fields)


def configure_logging(settings: Settings) -> None:
    """Log to standard error from now on, at the level and in the format of the settings."""
    handler = EventHandler()
    handler.setFormatter(_JsonFormatter() if settings.log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    for earlier in [*root.handlers]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    for name in CHATTY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class _Event:
    text: str
    fields: Mapping[str, object]
    has_own_fields: bool


def _read_event(record: logging.LogRecord) -> _Event:
    fields: dict[str, object] = {}
    text = str(record.msg)
    match record.args:
        case (LogFields() as own,):
            text, fields = text.removesuffix(": %s"), dict(own.values)
        case _:
            text = record.getMessage()
    has_own_fields = bool(fields)
    for name, value in {**_context.get(), **getattr(record, "fields", {})}.items():
        fields.setdefault(name, value)
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return _Event(text, fields, has_own_fields)


class _TextFormatter(logging.Formatter):
    """Formats an event as `TIME LEVEL LOGGER event: key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        event = _read_event(record)
        text = escape_control_characters(event.text).replace("\n", "\\n")
        head = f"{_format_time(record)} {record.levelname} {record.name} {text}"
        if not event.fields:
            return head
        return f"{head}{':' if event.has_own_fields else ''} {format_fields(**event.fields)}"


class _JsonFormatter(logging.Formatter):
    """Formats an event as an object with `time`, `level`, `logger`, `event` and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        event = _read_event(record)
        head = {
            "time": _format_time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event.text,
        }
        return json.dumps({**event.fields, **head}, ensure_ascii=False, default=_to_text)


def _format_time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_text(value: object) -> str:
    return describe_error(value) if isinstance(value, BaseException) else str(value)


@dataclass
class _Group:
    """The repetitions of a failure since its line was logged."""

    count: int = 0
    latest: logging.LogRecord | None = None


class EventHandler(logging.StreamHandler[Any]):
    """A handler that logs a failure at once, and its repetitions as one line with their count."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._groups: dict[object, _Group] = {}
        self._process_id = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, unless it repeats a failure of the last seconds."""
        if record.levelno < logging.WARNING or not self._count_repetition(record):
            super().emit(record)

    def _count_repetition(self, record: logging.LogRecord) -> bool:
        if self._process_id != os.getpid():  # the timer didn't survive the fork
            self._process_id = os.getpid()
            self._groups.clear()
        key = _group_key(record)
        group = self._groups.get(key)
        if group is None:
            if not self._groups:
                timer = threading.Timer(GROUP_SECONDS, self.flush_groups)
                timer.daemon = True
                timer.start()
            self._groups[key] = _Group()
            return False
        record.fields = {**_context.get(), **getattr(record, "fields", {})}
        group.count, group.latest = group.count + 1, record
        return True

    def flush_groups(self) -> None:
        """Log the latest repetition of each failure with their count, and count anew."""
        self.acquire()
        try:
            groups = [*self._groups.values()]
            self._groups.clear()
            for group in groups:
                if group.latest is not None:
                    fields = getattr(group.latest, "fields", {})
                    group.latest.fields = {**fields, "repeated": group.count}
                    super().emit(group.latest)
        finally:
            self.release()

    def close(self) -> None:
        """Log what is still counted."""
        if self._process_id == os.getpid():
            self.flush_groups()
        super().close()


def _group_key(record: logging.LogRecord) -> object:
    fields = {**_context.get(), **getattr(record, "fields", {})}
    match record.args:
        case (LogFields() as own,):
            fields |= own.values
        case {"name": task, "exc": error}:  # a line of Celery about a task that failed
            fields |= {"step": task, "error": error}
    values = tuple(_to_text(fields[name]) for name in GROUPED_BY if name in fields)
    return record.name, record.levelno, str(record.msg), values


def parse_event(line: str) -> str | None:
    """Return the event of a line of the log and its fields as text, None if it isn't a line.

    Args:
        line: a line in either format.
    """
    if line.startswith("{"):
        try:
            parsed = json.loads(line)
        except ValueError:
            return None
        fields = {
            name: value
            for name, value in parsed.items()
            if name not in ("time", "level", "logger", "event")
        }
        return f"{parsed.get('event')}: {format_fields(**fields)}"
    parts = line.split(" ", 3)
    return parts[3] if len(parts) == 4 and parts[0].endswith("Z") else None
