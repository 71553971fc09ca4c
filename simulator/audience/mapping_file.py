"""Write the format of an audience file as a mapping file in TOML."""

import json
from collections.abc import Iterator
from textwrap import wrap

from simulator.audience.columns import IGNORED, TARGETS
from simulator.audience.inspection import Inspection
from tracker.text import escape_control_characters


def format_mapping(inspection: Inspection, name: str) -> str:
    """Return the text of a mapping file with a name."""
    return "\n".join(_mapping_lines(inspection, name)) + "\n"


def _mapping_lines(inspection: Inspection, name: str) -> Iterator[str]:
    file_format = inspection.format
    file = _quote(inspection.path.name)
    yield "# How sendtrace reads the file. In a scenario:"
    yield f"# audience = {{ file = {file}, mapping = {_quote(name)} }}"
    for note in inspection.notes:
        yield f"# Note: {escape_control_characters(note)}."
    yield ""
    yield f"encoding = {_quote(file_format.encoding)}"
    yield f"separator = {_quote(file_format.separator)}"
    if file_format.region is None:
        yield '# region = "GB"  # country of national mobile numbers in rows without a region'
    else:
        yield f"region = {_quote(file_format.region)}"
    if file_format.date_order is None:
        yield '# date_order = "day_first"  # or "month_first", for dates like 03/04/2026'
    else:
        yield f"date_order = {_quote(file_format.date_order)}"
    yield '# numbers = "possible"  # accepts numbers that can\'t receive SMS'
    yield '# max_rejects = "1 %"  # default: 10 %'
    yield ""
    yield from wrap(
        f"What each heading means: {', '.join(TARGETS)}, field:NAME or tag:NAME.",
        width=100,
        initial_indent="# ",
        subsequent_indent="# ",
    )
    yield "[columns]"
    for heading, target in (file_format.columns or {}).items():
        hint = f'  # or "field:{heading}"' if target == IGNORED else ""
        yield f"{_quote(heading)} = {_quote(target)}{escape_control_characters(hint)}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
