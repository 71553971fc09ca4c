"""Text helpers that other tests don't cover by the way."""

from typing import NoReturn

import pytest

from tracker.text import (
    MAX_TITLE_LENGTH,
    describe_error,
    escape_control_characters,
    format_fields,
    hide_secrets,
    pluralize,
    to_one_line,
    validate_title,
)


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


@pytest.mark.parametrize(
    "title",
    [
        "Diwali — Festive Sale 2026 (SMS)",
        "दिवाली",
        "क्\u200dष",
        "👨\u200d👩\u200d👧",
        "مرحبا",
        MAX_TITLE_LENGTH * "x",
    ],
)
def test_a_title_may_have_any_script(title: str) -> None:
    assert validate_title(f" {title} " if len(title) < MAX_TITLE_LENGTH else title) == title
    assert escape_control_characters(title) == title


@pytest.mark.parametrize(
    "title",
    [
        "",
        " ",
        "a\nb",
        "a\tb",
        "\x1b[31m",
        "a\u2028b",
        "\u202eevil",
        "\u2066x",
        "\ufeffx",
        201 * "x",
    ],
)
def test_a_title_is_one_line_without_invisible_characters(title: str) -> None:
    with pytest.raises(ValueError, match="expected one line of 1 to 200 characters"):
        validate_title(title)


def test_a_line_has_no_line_ends() -> None:
    assert to_one_line("a\r\nBcc:\x00\x1b  b\u2028c\u200d") == "a Bcc: b c\u200d"


def test_a_noun_follows_its_count() -> None:
    assert pluralize(1, "entry") == "1 entry"
    assert [pluralize(2_000, noun) for noun in ("entry", "row", "batch", "process")] == [
        "2,000 entries", "2,000 rows", "2,000 batches", "2,000 processes"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "secrets", "hidden"),
    [
        ("no s3cret1 here", ["s3cret1"], "no ••• here"),
        ("keys3cret1key", ["s3cret1"], "key•••key"),
        ("a database said: a", ["a"], "••• database said: •••"),
        ("password=a; bad_a", ["a"], "password=•••; bad_•••"),
        ("nothing to hide", [""], "nothing to hide"),
        ("abcdefgh and abcdef", ["abcdef", "abcdefgh"], "••• and •••"),
        ("a dot. and b", ["."], "a dot. and b"),
    ],
)
def test_secrets_are_hidden_and_the_rest_stays_readable(
    text: str, secrets: list[str], hidden: str
) -> None:
    assert hide_secrets(text, secrets) == hidden
