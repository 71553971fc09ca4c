"""Words for messages to people: near words, what there is to choose from, and counts."""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches

MAX_LISTED_CHOICES = 12
"""Words that are all named where none is near; of more, the first few are."""

MAX_SUGGESTIONS = 3


def join_with_or(words: Sequence[str]) -> str:
    """Words to choose from: "a, b or c"."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def suggest_similar(word: str, known: Sequence[str]) -> str:
    """What somebody who wrote ``word`` may have meant, to be put behind a message."""
    near = get_close_matches(word, known, n=MAX_SUGGESTIONS)
    if near:
        return f"; did you mean {join_with_or(near)}?"
    if len(known) > MAX_LISTED_CHOICES:
        return f"; expected one of {len(known)}, such as {join_with_or(known[:MAX_SUGGESTIONS])}"
    return f"; expected one of {', '.join(known)}" if known else ""


def pluralize(count: int, noun: str) -> str:
    """A count with its noun, which takes an s: "1 row", "1,200 rows", "2 batches"."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{ending}"


def escape_control_characters(text: str) -> str:
    """What a person reads, without characters that a terminal obeys: names come from anywhere."""
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text
    )


_UNQUOTED_FIELD = re.compile(r"[\w.:+/-]+")


def format_fields(**fields: object) -> str:
    """Return a log event's fields as `key=value`: `campaign=3 batch=12 error="OSError: no route"`.

    Text that could be misread is quoted as JSON, so a value can't break the line or fake a field.
    """
    texts = {
        key: f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
        for key, value in fields.items()
    }
    return " ".join(
        f"{key}={text}"
        if _UNQUOTED_FIELD.fullmatch(text)
        else f"{key}={json.dumps(text, ensure_ascii=False)}"
        for key, text in texts.items()
    )
