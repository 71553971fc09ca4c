"""The log: one line an event in either format, and repeated failures in one line."""

import json
import logging
from collections.abc import Iterator

import pytest

from tracker.output import logs
from tracker.output.logs import LogFields, configure_logging, parse_event, set_log_context
from tracker.settings import load_settings

logger = logging.getLogger("workers.step_task")


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    set_log_context({})
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def read_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_an_event_is_one_line_with_the_fields_of_its_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(load_settings())
    set_log_context({"campaign": 3, "batch": 12, "task": "a-b", "run": 7})
    logger.warning("gateway unavailable: %s", LogFields(batch=4, error=OSError("no\nroute")))
    logger.info("Task succeeded\nin a second\x1b[2J")
    try:
        raise ValueError("of a rule")
    except ValueError:
        logger.exception("check failed: %s", LogFields(check="mine"))
    unavailable, succeeded, failed = read_lines(capsys)
    assert unavailable.endswith(
        "Z WARNING workers.step_task gateway unavailable: batch=4"
        ' error="OSError: no\\nroute" campaign=3 task=a-b run=7'
    )
    assert succeeded.endswith(
        " INFO workers.step_task Task succeeded\\nin a second\\x1b[2J"
        " campaign=3 batch=12 task=a-b run=7"
    )
    assert 'traceback="Traceback' in failed
    assert "ValueError: of a rule" in failed


def test_an_event_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings(log_format="json"))
    set_log_context({"campaign": 3})
    logger.error("step failed: %s", LogFields(batch=4, error=OSError("no route")))
    [line] = read_lines(capsys)
    event = json.loads(line)
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "error",
        "logger": "workers.step_task",
        "event": "step failed",
        "campaign": 3,
        "batch": 4,
        "error": "OSError: no route",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_event_can_be_read_from_its_line(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    configure_logging(load_settings(log_format=log_format))
    logger.warning("gateway unavailable: %s", LogFields(batch=4, error="554 [we] refuse: later"))
    [line] = read_lines(capsys)
    assert parse_event(line) == 'gateway unavailable: batch=4 error="554 [we] refuse: later"'
    assert parse_event("another program's line") is None


def test_the_level_is_a_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDTRACE_LOG_LEVEL", "error")
    configure_logging(load_settings())
    logger.warning("hidden")
    logger.error("shown")
    [line] = read_lines(capsys)
    assert line.endswith(" ERROR workers.step_task shown")


def test_repeated_failures_are_one_line_with_their_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(load_settings())
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logs.EventHandler)

    def fail(batch: int, error: str) -> None:
        fields = LogFields(campaign=3, batch=batch, error=error)
        logger.warning("gateway unavailable: %s", fields)

    for batch in range(100):
        fail(batch, "no route")
    fail(100, "refused")
    first, other = read_lines(capsys)
    assert 'batch=0 error="no route"' in first
    assert "batch=100 error=refused" in other
    handler.flush_groups()
    [repeated] = read_lines(capsys)
    assert repeated.endswith('campaign=3 batch=99 error="no route" repeated=99')
    fail(101, "no route")
    assert "batch=101" in read_lines(capsys)[0], "a new group has begun"
