"""Find the conditions in which two runs differ."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from simulator.results.archive.store import RunSummary

COMPARED_SETTINGS = (
    "scenario",
    "seed",
    "state",
    "resumed",
    "speed",
    "workers",
    "batch_size",
    "database",
)

COMPARED_TABLES = ("durability", "machine", "versions")

VOLATILE_DETAILS = frozenset({"load before"})
"""Details that differ between any two runs."""


@dataclass(frozen=True)
class RunDifference:
    """A condition in which two runs differ."""

    what: str
    before: str
    after: str


def find_differences(before: RunSummary, after: RunSummary) -> Iterator[RunDifference]:
    """Yield the settings, conditions and lines of the scenario file in which two runs differ."""
    settings = [summary.model_dump(include=set(COMPARED_SETTINGS)) for summary in (before, after)]
    for what in COMPARED_SETTINGS:
        old_text, new_text = (_format_detail(values[what]) for values in settings)
        if old_text != new_text:
            yield RunDifference(what.replace("_", " "), old_text, new_text)
    if before.suppressions != after.suppressions:
        lists = map(_describe_suppression_lists, (before, after))
        yield RunDifference("suppression list", *lists)
    tables = [summary.model_dump(include=set(COMPARED_TABLES)) for summary in (before, after)]
    for table in COMPARED_TABLES:
        old, new = tables[0][table], tables[1][table]
        for what in dict.fromkeys((*old, *new)):
            if old.get(what) != new.get(what) and what not in VOLATILE_DETAILS:
                yield RunDifference(
                    f"{table}: {what}", _format_detail(old.get(what)), _format_detail(new.get(what))
                )
    for line in _definition_changes(before.definition, after.definition):
        mark, text = line[0], line[1:].strip()
        if text:
            is_removed = mark == "-"
            yield RunDifference(
                "scenario file",
                before=text if is_removed else "",
                after="" if is_removed else text,
            )


def _describe_suppression_lists(summary: RunSummary) -> str:
    return "; ".join(f"{name}: {kept}" for name, kept in (summary.suppressions or {}).items())


def _definition_changes(before: str, after: str) -> list[str]:
    """Return the lines of the scenario file that were removed (`-`) or added (`+`)."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def _format_detail(value: object) -> str:
    return "-" if value is None else str(value)
