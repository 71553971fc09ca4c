"""The format of an audience file: how it is encoded, and what its columns and values mean.

A format has only defaults for a file with our own columns. `sendtrace audience inspect` writes one
for any other file: a mapping file in TOML.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema

from simulator.audience.columns import IGNORED, TARGETS, is_target
from simulator.audience.countries import parse_country
from simulator.audience.values import DateOrder
from simulator.validation_errors import format_validation_errors
from simulator.values import ScenarioSection, Title, format_value, parse_share, validate_text
from tracker.errors import UsageError
from tracker.text import suggest_similar
from workers.mobile import NumberRule

MAX_MAPPING_BYTES = 1_000_000

SEPARATORS: Mapping[str, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""Separators by the names that a mapping may use for them."""


def parse_max_rejects(value: object) -> float:
    """Return the share that a number like 0.01 or a text like "1 %" stands for."""
    share = None
    if isinstance(value, str):
        share = parse_share(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        share = float(value)
    if share is None or not 0 <= share <= 1:
        raise ValueError(f'got {format_value(value)}; expected a share like "1 %" or 0.01')
    return share


def _validate_encoding(encoding: str) -> str:
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise ValueError(
            f'got {encoding!r}; expected an encoding like "windows-1252" or "utf-16"'
        ) from None
    return encoding


def _parse_separator(value: object) -> str:
    separator = SEPARATORS.get(value, value) if isinstance(value, str) else value
    if separator not in SEPARATORS.values():
        names = ", ".join(SEPARATORS)
        raise ValueError(f'got {format_value(value)}; expected ",", ";", "|", "\\t", or {names}')
    return str(separator)


def _validate_region(region: str) -> str:
    code = parse_country(region)
    if code is None:
        raise ValueError(f'got {region!r}; expected a country code like "GB"')
    return code


def _validate_targets(columns: dict[str, str]) -> dict[str, str]:
    used: dict[str, str] = {}
    for heading, target in columns.items():
        if not is_target(target):
            raise ValueError(
                f"{heading}: unknown column {target!r}{suggest_similar(target, TARGETS)}"
            )
        if target != IGNORED and target in used:
            raise ValueError(
                f"{heading}: got {target!r} as for {used[target]!r}; expected each column once"
            )
        used[target] = heading
    return columns


class DuplicatePolicy(StrEnum):
    """Treatment of customers whose address an earlier row of the file has.

    SKIP: only the first customer may get the message.
    SEND: each customer may get the message.
    """

    SKIP = "skip"
    SEND = "send"


class AudienceFormat(ScenarioSection):
    """The format of an audience file.

    Without `columns`, the file has the columns and the notation of an audience file, and only the
    other keys apply. With `columns`, the usual notations of exports are read, too.
    """

    encoding: Annotated[
        str, AfterValidator(_validate_encoding), Field(examples=["windows-1252"])
    ] = "utf-8"
    """Encoding of the file. A byte order mark is skipped."""
    separator: Annotated[
        str,
        BeforeValidator(_parse_separator),
        WithJsonSchema({"enum": [*SEPARATORS.values(), *SEPARATORS]}),
        Field(examples=[";"]),
    ] = ","
    """Character between the cells, or its name: comma, semicolon, tab or pipe."""
    columns: Annotated[
        Annotated[dict[str, Annotated[str, Field(strict=True)]], AfterValidator(_validate_targets)]
        | None,
        Field(examples=[{"Email Address": "email"}]),
    ] = None
    """Meanings of the file's headings: a column of audience files, `field:NAME`, `tag:NAME`, or
    `ignore`. Headings that are names of columns need no entry."""
    other_columns: Annotated[Literal["ignore", "field"] | None, Field(examples=["field"])] = None
    """Treatment of headings without a meaning: `ignore`, or `field` to import them as
    `field:HEADING`; default: `ignore` with `columns`, an error without."""
    region: Annotated[
        Annotated[str, AfterValidator(_validate_region)] | None,
        Field(examples=["IN"]),
    ] = None
    """Country in which national mobile numbers are read if a row has no region."""
    date_order: Annotated[DateOrder | None, Field(examples=["day_first"])] = None
    """Order of day and month in dates like 03/04/2026; default: such a date isn't read, because it
    is ambiguous."""
    numbers: Annotated[NumberRule, Field(examples=["possible"])] = NumberRule.VALID
    """Mobile numbers that count: `valid` for those that can receive SMS, `possible` for all that
    have a length of their country."""
    max_rejects: Annotated[
        float | None,
        BeforeValidator(parse_max_rejects),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}]}
        ),
        Field(examples=["1 %"]),
    ] = None
    """Share of the rows that may be left out. If more are, the run stops before anything is sent;
    default: 10 %, but at least one row."""
    duplicates: Annotated[DuplicatePolicy, Field(examples=["send"])] = DuplicatePolicy.SKIP
    """What happens if several rows have the same address on the campaign's channel: `skip` sends
    the message to the first of them, `send` to each."""


class AudienceSection(AudienceFormat):
    """An audience file with its format.

    A key beside `mapping` replaces the one in the mapping file.
    """

    file: Annotated[str, AfterValidator(validate_text), Field(examples=["crm.csv"])]
    """Audience file beside the scenario file."""
    mapping: Annotated[
        Annotated[str, AfterValidator(validate_text)] | None,
        Field(examples=["crm.mapping.toml"]),
    ] = None
    """Mapping file beside the scenario file, as `sendtrace audience inspect` writes it."""
    title: Annotated[Title | None, Field(examples=["Kunden in Köln"])] = None
    """What people read instead of the file's name, in any script."""


@dataclass(frozen=True)
class AudienceFile:
    """An audience file, and where its format is described.

    Attributes:
        section: keys of the scenario.
        mapping: the mapping file, if there is one.
    """

    path: Path
    section: AudienceSection
    mapping: Path | None

    @classmethod
    def in_folder(cls, folder: Path, section: AudienceSection) -> "AudienceFile":
        """Return the file that a section names, relative to a folder."""
        mapping = None if section.mapping is None else folder / section.mapping
        return cls(folder / section.file, section, mapping)

    @property
    def source_files(self) -> list[Path]:
        """The audience file and its mapping file."""
        return [self.path, *([self.mapping] if self.mapping is not None else [])]

    def load_format(self) -> AudienceFormat:
        """Return the format of the file; raise UsageError if its mapping file is wrong."""
        mapped = AudienceFormat() if self.mapping is None else load_mapping(self.mapping)
        keys = self.section.model_fields_set & AudienceFormat.model_fields.keys()
        return mapped.model_copy(update=self.section.model_dump(include=keys))


def load_mapping(path: Path) -> AudienceFormat:
    """Return the format that a mapping file describes, or raise UsageError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MAPPING_BYTES).decode("utf-8-sig")
        return AudienceFormat.model_validate(tomllib.loads(text))
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
    except ValidationError as error:
        [line, *_] = format_validation_errors(error, AudienceFormat)
        raise UsageError(f"{path}: {line}") from None
    except ValueError as error:
        raise UsageError(f"{path}: is not TOML: {error}") from None
