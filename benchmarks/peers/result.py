"""The result of a comparison: its file, its table, and the table of docs/peers.md."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.runs import Form
from benchmarks.tables import describe_load, format_markdown_table, join_values
from tracker.output.tables import RowFormat, format_rows

FORMAT_VERSION = 1
"""Version of the JSON file. It changes when a key changes its meaning or goes."""

TABLE_BEGIN = "<!-- The table and the lines below it are written by `make bench-peers`. -->"
TABLE_END = "<!-- End of the table. -->"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All runs of a comparison, and the conditions that it was measured under."""

    made_at: str
    seconds: float
    rounds: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    warnings: Sequence[str]
    forms: Sequence[Form]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as it stands in the file."""
        return {"version": FORMAT_VERSION, **asdict(self)}


def format_comparison(comparison: Comparison) -> str:
    """Return the table for people, and the conditions."""
    rows = [_format_form(form) for form in comparison.forms]
    table = format_rows(rows, list(rows[0]), RowFormat.TABLE)
    return "\n".join([table, "", *_describe_conditions(comparison)])


def write_page_table(page: Path, comparison: Comparison) -> None:
    """Replace the table of a page, which is between two marks."""
    rows = [_format_form(form) for form in comparison.forms]
    table = format_markdown_table([*rows[0]], [[*row.values()] for row in rows])
    conditions = [f"- {line}" for line in _describe_conditions(comparison)]
    before, _, rest = page.read_text(encoding="utf-8").partition(TABLE_BEGIN)
    after = rest.partition(TABLE_END)[2]
    parts = [before + TABLE_BEGIN, "", table, "", *conditions, "", TABLE_END + after]
    page.write_text("\n".join(parts), encoding="utf-8")


def _format_form(form: Form) -> dict[str, str]:
    """Return the line of a form; its figures are medians of its complete runs."""
    costs = [run.cost for run in form.runs if run.complete == form.messages]
    rates = [form.messages / cost.seconds for cost in costs]
    complete = [f"{run.complete:,}" for run in form.runs]
    micros = 1e6 / form.messages
    return {
        "system": form.system,
        "messages per task": f"{form.batch_size:,}",
        "messages": f"{form.messages:,}",
        "messages/s": _format_median(rates),
        "lowest to highest": f"{min(rates):,.0f} to {max(rates):,.0f}" if rates else "–",
        "CPU µs per message": _format_median([sum(cost.cpu.values()) * micros for cost in costs]),
        "of it PostgreSQL": _format_median([cost.cpu["database"] * micros for cost in costs]),
        "WAL bytes per message": _format_median(
            [(cost.wal or 0) / form.messages for cost in costs]
        ),
        "complete": "all" if len(costs) == len(form.runs) else ", ".join(complete),
    }


def _format_median(values: Sequence[float]) -> str:
    return f"{median(values):,.0f}" if values else "–"


def _describe_conditions(comparison: Comparison) -> Iterator[str]:
    yield (
        f"measured on {comparison.made_at[:10]} in {comparison.seconds:.0f} s;"
        f" rounds: {comparison.rounds}"
    )
    for name, values in (
        ("machine", comparison.machine),
        ("versions", comparison.versions),
        ("PostgreSQL", comparison.settings),
    ):
        yield f"{name}: {join_values(values)}"
    yield describe_load(comparison.warnings)
