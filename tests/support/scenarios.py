"""Scenario files that are refused, and the words of the refusal."""

from pathlib import Path

import pytest

from simulator.scenario.file import InvalidScenario, load_scenario

JARGON = (
    *("pydantic", "input should", "string should", "validation error", "value error"),
    *("constrained", "lax-or-strict", "function-", "<class", "<channel", "datetime."),
)


def refusal(file: Path) -> str:
    """In which words a scenario is refused: never in those of our libraries."""
    with pytest.raises(InvalidScenario) as caught:
        load_scenario(file)
    message = str(caught.value)
    for word in JARGON:
        assert word not in message.lower(), message
    assert caught.value.exit_code == 2
    return message


def assert_says(message: str, file: Path, key: str, expected: str) -> None:
    """One line of a message names the file, the key and what was expected."""
    lines = message.split("\n")
    told = [line.removeprefix(f"{file}: ") for line in lines if line.startswith(f"{file}: ")]
    assert len(told) == len(lines), message
    assert any(line.startswith(key) and expected in line for line in told), message
