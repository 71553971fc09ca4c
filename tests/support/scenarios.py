"""Assertions about scenario files that are refused."""

from pathlib import Path

import pytest

from simulator.scenario.file import InvalidScenario, load_scenario

JARGON = (
    *("pydantic", "input should", "string should", "validation error", "value error"),
    *("constrained", "lax-or-strict", "function-", "<class", "<channel", "datetime."),
)


def read_refusal(file: Path) -> str:
    """Return the message with which a scenario is refused, free of the words of libraries."""
    with pytest.raises(InvalidScenario) as caught:
        load_scenario(file)
    message = str(caught.value)
    for word in JARGON:
        assert word not in message.lower(), message
    assert caught.value.exit_code == 2
    return message


def assert_error(message: str, file: Path, key: str, expected: str) -> None:
    """Assert that a line of the message names the file, the key and what is expected."""
    lines = message.split("\n")
    errors = [line.removeprefix(f"{file}: ") for line in lines if line.startswith(f"{file}: ")]
    assert len(errors) == len(lines), message
    assert any(line.startswith(key) and expected in line for line in errors), message
