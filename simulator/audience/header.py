"""The header of an audience file: what each column means."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from simulator.audience.cleaning import strip_invisible
from simulator.audience.columns import COLUMNS, IGNORED
from simulator.audience.formats import AudienceFormat
from tracker.text import suggest_similar

UNBALANCED_QUOTE = (
    "unbalanced quote; expected a quoted cell to end in a quote, and quotes in it doubled"
)

_CUSTOM_COLUMN_PREFIX = re.compile(r"^(tag|field):(?=.)", re.IGNORECASE)


class WrongHeader(ValueError):
    """The header can't be read. The message says why and what is expected."""


def split_header(line: str, separator: str) -> list[str]:
    """Return the headings of a line, without space and invisible characters around them."""
    try:
        cells = next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        raise WrongHeader(UNBALANCED_QUOTE) from None
    return [" ".join(strip_invisible(cell, keep_joiners=False).split()) for cell in cells]


def parse_header(headings: Sequence[str], format: AudienceFormat) -> list[str]:
    """Return the column that each heading means; `IGNORED` for those that aren't imported."""
    if not any(headings):
        raise WrongHeader("the first line is empty; expected the names of the columns")
    if format.columns is None and format.other_columns is None:
        return _parse_own_header(headings)
    return _map_header(headings, format)


def find_own_column(heading: str) -> str | None:
    """Return the column of audience files that a heading names in any case, or None."""
    if heading.lower() in COLUMNS:
        return heading.lower()
    if _CUSTOM_COLUMN_PREFIX.match(heading):
        return _CUSTOM_COLUMN_PREFIX.sub(lambda prefix: prefix[0].lower(), heading)
    return None


def _parse_own_header(headings: Sequence[str]) -> list[str]:
    names = [find_own_column(heading) or heading for heading in headings]
    for index, name in enumerate(names):
        _validate_column(name, index, names[:index])
    if "customer_id" not in names:
        raise WrongHeader(f"missing column customer_id in {', '.join(names)[:200]}; it is required")
    return names


def _validate_column(name: str, index: int, earlier: Sequence[str]) -> None:
    if not name:
        raise WrongHeader(f"column {index + 1} has no name; expected one for every column")
    if find_own_column(name) is None:
        similar = " or ".join(get_close_matches(name.lower(), COLUMNS))
        hint = f" (did you mean {similar}?)" if similar else ""
        columns = ", ".join((*COLUMNS, "tag:NAME or field:NAME, with commas between them"))
        raise WrongHeader(f"unknown column {name[:80]!r}{hint}; expected {columns}")
    if name in earlier:
        raise WrongHeader(f"got column {name[:80]!r} twice; expected each column once")


def number_headings(headings: Sequence[str]) -> Iterator[str]:
    """Yield headings without ambiguity: empty ones and repeated ones have a number."""
    seen: set[str] = set()
    for index, heading in enumerate(headings):
        name = heading or f"column {index + 1}"
        number = 2
        unique = name
        while _fold(unique) in seen:
            unique = f"{name} ({number})"
            number += 1
        seen.add(_fold(unique))
        yield unique


def _fold(heading: str) -> str:
    """Return a heading for comparisons, without case and repeated space."""
    return " ".join(heading.split()).casefold()


def _map_header(headings: Sequence[str], format: AudienceFormat) -> list[str]:
    """Return the targets of headings as a mapping says; names of columns need no entry."""
    names = [*number_headings(headings)]
    targets = _match_columns(names, format.columns or {})
    columns: list[str] = []
    for name in names:
        target = targets.get(name)
        if target is None:
            own = find_own_column(name)
            if own is not None:
                target = own if own not in targets.values() else IGNORED
            else:
                target = f"field:{name}" if format.other_columns == "field" else IGNORED
        if target != IGNORED and target in columns:
            raise WrongHeader(f"two columns mean {target!r}; expected each column once")
        columns.append(target)
    return columns


def _match_columns(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the targets by the headings as the file has them, whatever their case."""
    by_folded = {_fold(name): name for name in names}
    targets = {}
    for heading, target in columns.items():
        name = by_folded.get(_fold(heading))
        if name is None:
            raise WrongHeader(
                f"no column {heading!r}, which `columns` names{suggest_similar(heading, names)}"
            )
        targets[name] = target
    return targets
