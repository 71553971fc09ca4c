"""Text helpers that other tests don't cover by the way."""

from typing import NoReturn

import pytest

from tracker.text import describe_error, format_fields


class SilentError(Exception):
    """An error that can't be described."""

    def __str__(self) -> NoReturn:
        raise LookupError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("no route"), "OSError: no route"),
        (MemoryError(), "MemoryError"),
        (KeyError("city"), "KeyError: 'city'"),
        (SilentError(), "SilentError"),
    ],
)
def test_an_error_is_described_whatever_it_says(error: Exception, text: str) -> None:
    assert describe_error(error) == text
    assert text.split(":")[0] in format_fields(error=error)
