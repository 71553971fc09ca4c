"""Text helpers: lists of choices, suggestions, plurals, and text that is safe on a terminal."""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_LISTED_CHOICES = 12
"""Number of choices up to which a message lists all of them."""

MAX_SUGGESTIONS = 3

MAX_TITLE_LENGTH = 200

_JOINERS = frozenset("\u200c\u200d")
"""Characters that shape letters and emoji of many scripts, and are invisible themselves."""

HIDDEN = "•••"
"""Stands for a secret in a message."""

MIN_SECRET_WITHIN_WORDS = 6
"""Length from which a secret is hidden within words, too."""


def join_with_or(words: Sequence[str]) -> str:
    """Return words as a list of choices, such as "a, b or c"."""
    *others, last = words or [""]
    return f"{', '.join(others)} or {last}" if others else last


def suggest_similar(word: str, choices: Sequence[str]) -> str:
    """Return the end of an error message: the choices that resemble a word, or those there are."""
    similar = get_close_matches(word, choices, n=MAX_SUGGESTIONS)
    if similar:
        return f"; did you mean {join_with_or(similar)}?"
    if len(choices) > MAX_LISTED_CHOICES:
        examples = join_with_or(choices[:MAX_SUGGESTIONS])
        return f"; expected one of {len(choices)}, such as {examples}"
    return f"; expected one of {', '.join(choices)}" if choices else ""


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 row", "1,200 rows", "2 batches" or "2 entries"."""
    if count != 1 and noun.endswith("ry"):
        return f"{count:,} {noun[:-1]}ies"
    ending = "" if count == 1 else "es" if noun.endswith(("ch", "ss")) else "s"
    return f"{count:,} {noun}{ending}"


def format_bytes(size: int) -> str:
    """Return a size such as `1.2 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} B"


def escape_control_characters(text: str) -> str:
    """Return a text without characters that control a terminal; line ends remain.

    Names come from anywhere: a campaign's name must not be able to clear a terminal.
    """
    return "".join(
        character
        if character.isprintable() or character == "\n" or character in _JOINERS
        else repr(character)[1:-1]
        for character in text
    )


def to_one_line(text: str) -> str:
    """Return a text in one line: line ends, other control characters and gaps become a space."""
    printable = "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)
    return " ".join(printable.split())


def make_printable(text: str) -> str:
    """Return a text in one line, without characters that control or reorder the output."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())


def validate_title(title: str) -> str:
    """Return a title in any script; raise `ValueError` unless it is one line of plain text.

    Invisible characters could change the order in which a title is read; line ends could split it.
    """
    unusual = [char for char in title if _is_unusual(char)]
    if unusual or not title.strip() or len(title) > MAX_TITLE_LENGTH:
        cause = f", with {unusual[0]!a}" if unusual else ""
        raise ValueError(
            f"got {title[:MAX_TITLE_LENGTH]!a}{cause}; expected one line of 1 to {MAX_TITLE_LENGTH}"
            " characters without control characters"
        )
    return title.strip()


def _is_unusual(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in _JOINERS


def describe_error(error: BaseException) -> str:
    """Return an error's type and message, such as "OSError: no route"."""
    try:
        text = str(error)
    except Exception:  # an error of another package may fail to describe itself
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_UNQUOTED_FIELD = re.compile(r"[\w.:+/-]+")


def hide_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text without secrets, for messages.

    A short one is hidden only where it stands alone: a password of one letter would otherwise make
    the text unreadable, and so tell what the password is.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if len(secret) >= MIN_SECRET_WITHIN_WORDS:
            text = text.replace(secret, HIDDEN)
        else:
            text = re.sub(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", HIDDEN, text)
    return text


def format_fields(**fields: object) -> str:
    """Return a log event's fields as `key=value`: `campaign=3 batch=12 error="OSError: no route"`.

    Text that could be misread is quoted as JSON, so a value can't break the line or fake a field.
    """
    texts = {
        key: describe_error(value) if isinstance(value, BaseException) else str(value)
        for key, value in fields.items()
    }
    return " ".join(
        f"{key}={text}"
        if _UNQUOTED_FIELD.fullmatch(text)
        else f"{key}={json.dumps(text, ensure_ascii=False)}"
        for key, text in texts.items()
    )
