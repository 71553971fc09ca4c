"""The command group `sendtrace audience`, for files of customers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simulator.cli.output import check_writable, write_output
from tracker.commands import exit_on_error, make_group
from tracker.errors import UsageError

if TYPE_CHECKING:
    from simulator.audience.inspection import Inspection

app = make_group("Inspect files of customers.")
STDOUT = Path("-")

EncodingOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Encoding. Default: guessed.")
]
SeparatorOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Separator: comma, semicolon, tab or pipe. Default: guessed."
    ),
]

MAX_SAMPLE_CHARACTERS = 60
"""Characters of the samples of a column that are shown."""


@app.callback()
def audience() -> None:
    """Inspect files of customers."""


@app.command()
@exit_on_error
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of customers.")],
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the mapping to this file; - for stdout."),
    ] = None,
    encoding: EncodingOption = None,
    separator: SeparatorOption = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="XX", help="Country of national numbers in rows without a region."),
    ] = None,
    other_columns: Annotated[
        Literal["ignore", "field"],
        typer.Option(help="Ignore columns without a known meaning, or import them as fields."),
    ] = "ignore",
) -> None:
    """Show how a file of customers is read, and count its problems.

    Encoding, separator, headings and the order of dates are guessed; the problems are those of the
    whole file. Nothing is imported. Read the mapping, a TOML file for the key `audience` of a
    scenario, before you use it. With --write -, it goes to stdout and the rest to stderr.

    Exit codes: 0 inspected · 2 the file can't be read.

    Examples: sendtrace audience inspect crm.csv ·
    sendtrace audience inspect crm.csv --region IN --write crm.mapping.toml ·
    sendtrace audience inspect crm.csv --write - > crm.mapping.toml
    """
    from simulator.audience.inspection import inspect_audience_file
    from simulator.audience.mapping_file import format_mapping

    options = parse_format_options(encoding=encoding, separator=separator, region=region)
    _check_output(write, file)
    inspection = inspect_audience_file(file, **options, other_columns=other_columns)
    print("\n".join(_report_lines(inspection)), file=sys.stderr if write == STDOUT else sys.stdout)
    if write == STDOUT:
        print(format_mapping(inspection, f"{file.stem}.mapping.toml"), end="")
    elif write is not None:
        write_output("--write", write, format_mapping(inspection, write.name))


def _check_output(write: Path | None, file: Path) -> None:
    """Raise UsageError if the mapping can't be written, or would replace the file."""
    if write is None or write == STDOUT:
        return
    if write.exists() and file.exists() and write.samefile(file):
        raise UsageError(f"--write {write}: got the input file; expected another file")
    check_writable("--write", write)


def parse_format_options(**options: str | None) -> dict[str, str]:
    """Return the values of the given options that are keys of a scenario, or raise UsageError."""
    from simulator.audience.formats import AudienceSection
    from simulator.validation_errors import parse_table

    texts = {key: text for key, text in options.items() if text is not None}
    try:
        section = parse_table(AudienceSection, {"file": "any", **texts})
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    return section.model_dump(include={*texts})


def _report_lines(inspection: "Inspection") -> list[str]:
    from simulator.audience.formats import SEPARATORS
    from simulator.audience.inspection import is_own_format
    from tracker.output.tables import format_table
    from tracker.text import escape_control_characters, pluralize

    file_format, counts = inspection.format, inspection.counts
    separator = next(name for name, text in SEPARATORS.items() if text == file_format.separator)
    columns = [
        (heading, target, "; ".join(inspection.values[heading].samples)[:MAX_SAMPLE_CHARACTERS])
        for heading, target in (file_format.columns or {}).items()
    ]
    problems = [
        (problem, f"{count:,}", str(counts.first_lines[problem]), problem.meaning)
        for problem, count in counts.by_problem.most_common()
    ]
    lines = [
        f"{inspection.path}: {pluralize(counts.rows, 'row')},"
        f" {pluralize(counts.customers, 'customer')}; {file_format.encoding}, {separator}",
        "",
        format_table(("heading", "meaning", "samples"), columns),
        "",
        format_table(
            ("problem", "rows", "first line", "what it is"), problems, right_aligned={1, 2}
        )
        if problems
        else "no problems",
    ]
    lines += [f"first {cause}: {message}" for cause, message in counts.first_messages.items()]
    lines += [f"note: {note}" for note in inspection.notes]
    if is_own_format(file_format):
        lines.append("note: the file needs no mapping")
    return [escape_control_characters(line) for line in lines]
