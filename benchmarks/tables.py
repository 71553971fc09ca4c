"""The tables of a result: for the terminal, and in Markdown for docs/benchmarks.md."""

from collections.abc import Mapping, Sequence

from benchmarks.context import FULL_SIZES
from benchmarks.meter import ROLES
from benchmarks.results import DATABASES, BenchmarkResult, Line, Spread, Throughput
from tracker.output.tables import Row, RowFormat, format_rows
from tracker.text import pluralize

MAIN_MEASURES = (
    "pipeline ÷ floor",
    "pipeline ÷ schema floor",
    "pipeline ÷ without recording",
    "pipeline ÷ without sweep",
    "CPU with a rate ÷ without",
    "mean ÷ rate",
    "highest second ÷ rate",
    "receipts ÷ moves",
    "peak memory driver",
)
"""Measures in the table of docs/benchmarks.md, by the beginnings of their names."""

MAIN_THROUGHPUTS = ("pipeline", "floor", "schema floor", "largest run")


def format_result(result: BenchmarkResult) -> str:
    """Return the tables of a result, and the conditions that it was measured under."""
    throughputs = [
        _throughput_row(measured.database, throughput)
        for measured in result.databases
        for throughput in measured.throughputs
    ]
    lines = [
        _line_row(measured.database, line)
        for measured in result.databases
        for line in measured.lines
    ]
    tables = [format_rows(rows, list(rows[0]), RowFormat.TABLE) for rows in (throughputs, lines)]
    conditions = {"machine": result.machine}
    conditions |= {DATABASES[measured.database]: measured.settings for measured in result.databases}
    notes = [f"{name}: {join_values(values)}" for name, values in conditions.items()]
    notes.append(f"measured in {result.seconds:.0f} s; docs/benchmarks.md explains each line")
    if result.sizes != FULL_SIZES:
        notes.append("the sizes aren't those of a full benchmark: these figures say little")
    notes.append(describe_load(result.warnings))
    return "\n\n".join([*tables, "\n".join(notes)])


def describe_load(warnings: Sequence[str]) -> str:
    """Return a sentence on the measurements during which other processes used the machine."""
    if not warnings:
        return "no other load was seen"
    return (
        f"warning: other load during {pluralize(len(warnings), 'measurement')}, so their figures"
        f" are doubtful; the first is {warnings[0]}"
    )


def join_values(values: Mapping[str, str]) -> str:
    """Return conditions on one line, such as those of a machine."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def format_markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return cells as a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_markdown(result: BenchmarkResult) -> str:
    """Return the main figures as a table in Markdown, with date, machine and load."""
    cells: dict[str, dict[str, str]] = {}
    for measured in result.databases:
        for throughput in measured.throughputs:
            if throughput.name in MAIN_THROUGHPUTS:
                name = f"{throughput.name}, {throughput.messages:,} messages"
                cells.setdefault(name, {})[measured.database] = _describe_throughput(throughput)
        for line in measured.lines:
            if line.measure.startswith(MAIN_MEASURES):
                cells.setdefault(line.measure, {})[measured.database] = _describe_line(line)
    databases = [measured.database for measured in result.databases]
    table = format_markdown_table(
        ["", *(DATABASES[database] for database in databases)],
        [[name, *(row.get(database, "") for database in databases)] for name, row in cells.items()],
    )
    load = describe_load(result.warnings)
    return (
        f"Measured on {result.made_at[:10]}: {join_values(result.machine)}.\n"
        f"{load[0].upper()}{load[1:]}.\n\n{table}"
    )


def _describe_throughput(throughput: Throughput) -> str:
    rate, cpu = throughput.rate, throughput.cpu
    parts = ", ".join(f"{role} {used.median:.1f}" for role, used in cpu.items() if role != "all")
    texts = [
        f"{rate.median:,.0f}/s{_format_range(rate, ',.0f')}",
        f"{cpu['all'].median:.1f} µs CPU per message ({parts})",
    ]
    if throughput.wal is not None:
        texts.append(f"{throughput.wal.median:,.0f} B WAL per message")
    return "; ".join(texts)


def _describe_line(line: Line) -> str:
    if line.value is None:
        return line.figure
    target = f", target {line.target}" if line.target else ""
    missed = ", **missed**" if line.reached is False else ""
    return f"{_format_spread(line.value)}{line.unit}{target}{missed}"


def _throughput_row(database: str, throughput: Throughput) -> Row:
    rate = throughput.rate
    cpu = {role: throughput.cpu.get(role) for role in (*ROLES, "all")}
    return {
        "database": database,
        "throughput": throughput.name,
        "messages": f"{throughput.messages:,}",
        "per second": f"{rate.median:,.0f}{_format_range(rate, ',.0f')}",
        **{f"{role} µs": _format_median(used, ".2f") for role, used in cpu.items()},
        "WAL bytes": _format_median(throughput.wal, ",.0f"),
        "commits": _format_median(throughput.commits, ".4f"),
        "dead tuples": _format_median(throughput.dead_tuples, ".2f"),
        "other cores": _format_median(throughput.other_cores, ".2f"),
    }


def _line_row(database: str, line: Line) -> Row:
    return {
        "database": database,
        "measure": line.measure,
        "figure": line.figure,
        "beside": line.beside,
        "ratio": "" if line.value is None or line.unit else _format_spread(line.value),
        "target": line.target,
        "reached": "" if line.reached is None else "yes" if line.reached else "missed",
    }


def _format_spread(spread: Spread) -> str:
    return f"{spread.median:,.2f}{_format_range(spread, ',.2f')}"


def _format_range(spread: Spread, format: str) -> str:
    """Return the lowest and the highest value, or nothing if there is one value only."""
    several = len(spread.values) > 1
    return f" ({spread.low:{format}} to {spread.high:{format}})" if several else ""


def _format_median(spread: Spread | None, format: str) -> str:
    return "" if spread is None else f"{spread.median:{format}}"
