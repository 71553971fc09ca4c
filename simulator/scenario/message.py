"""The table `message` of a campaign, and the templates that it names."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from simulator.values import InvalidKey, ScenarioSection, format_value
from tracker.errors import UsageError
from tracker.status import Channel
from workers.message.source import MessageSource

MAX_MESSAGE_BYTES = 25_000_000
"""Bytes of an email: more than servers accept."""

MAX_TEMPLATE_BYTES = 1_000_000

_SIZE_PATTERN = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(B|KB|MB)", re.ASCII)
_SIZE_UNITS = {"B": 1, "KB": 1_000, "MB": 1_000_000}


def _parse_size(value: object) -> int:
    match = _SIZE_PATTERN.fullmatch(value) if isinstance(value, str) else None
    size = round(float(match[1]) * _SIZE_UNITS[match[2]]) if match else 0
    if not 1 <= size <= MAX_MESSAGE_BYTES:
        raise ValueError(
            f'got {format_value(value)}; expected a size like "40KB", up to'
            f" {MAX_MESSAGE_BYTES // _SIZE_UNITS['MB']}MB"
        )
    return size


Template = Annotated[str, Field(strict=True, max_length=MAX_TEMPLATE_BYTES)]


class MessageSection(ScenarioSection):
    """The content of a campaign's messages: Jinja templates with data of the customer.

    What a customer must have for a template is added to `requires`.
    """

    subject: Annotated[Template | None, Field(examples=["Your offer in {{ field.city }}"])] = None
    """Subject of an email; default: the campaign's title."""
    text: Annotated[
        Template | None, Field(examples=["Dear member, your code is {{ coupon_id }}."])
    ] = None
    """Plain text; default: the title, and for email the organization and where to unsubscribe."""
    html: Annotated[Template | None, Field(examples=["<p>Your code is {{ coupon_id }}.</p>"])] = (
        None
    )
    """HTML of an email, in which values are escaped; default: none."""
    text_file: Annotated[str | None, Field(strict=True, examples=["offer.txt"])] = None
    """File beside the scenario file that has the plain text."""
    html_file: Annotated[str | None, Field(strict=True, examples=["offer.html"])] = None
    """File beside the scenario file that has the HTML."""
    size: Annotated[
        int | None,
        BeforeValidator(_parse_size),
        WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9}([.][0-9]+)? *(B|KB|MB)$"}),
        Field(examples=["40KB"]),
    ] = None
    """Size of an email with its headers, in B, KB (1,000 bytes) or MB. An attachment of plain text
    pads smaller ones; simulated gateways ignore it."""

    @model_validator(mode="after")
    def _validate_parts(self) -> Self:
        for part in ("text", "html"):
            if {part, f"{part}_file"} <= self.model_fields_set:
                raise InvalidKey(f"{part}_file", f"got a file and {part}; expected one of them")
        return self

    def validate_channel(self, channel: Channel) -> None:
        """Raise `InvalidKey` for a key that messages of a channel can't have."""
        if channel is Channel.SMS:
            for key in sorted(self.model_fields_set - {"text", "text_file"}):
                raise InvalidKey(key, "only allowed with an email campaign")

    def list_files(self, folder: Path) -> list[Path]:
        """Return the files of templates, which are relative to a folder."""
        return [folder / name for name in (self.text_file, self.html_file) if name is not None]

    def load_source(self, folder: Path) -> MessageSource:
        """Return the templates; raise ValueError, beginning with the key, for an unusable file."""
        return MessageSource(
            subject=self.subject,
            text=self._load_part("text", self.text, self.text_file, folder),
            html=self._load_part("html", self.html, self.html_file, folder),
            size=self.size,
        )

    def _load_part(self, part: str, text: str | None, file: str | None, folder: Path) -> str | None:
        if file is None:
            return text
        try:
            return _read_template(folder / file)
        except UsageError as error:
            raise ValueError(f"{part}_file: {error}") from None


def _read_template(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEMPLATE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
    if len(content) > MAX_TEMPLATE_BYTES:
        raise UsageError(f"{path}: has more than {MAX_TEMPLATE_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text") from None
