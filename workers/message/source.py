"""The templates of a campaign's message, as they are recorded with the campaign."""

import json
from dataclasses import asdict, dataclass
from typing import Self

from tracker.status import Channel

DEFAULT_SUBJECT = "{{ title }}"

DEFAULT_EMAIL_TEXT = (
    "{{ title }}\n\n{{ organization }}\n"
    "{% if unsubscribe_url is defined %}\n"
    "Unsubscribe: {{ unsubscribe_url | default('') }}\n"
    "{% endif %}"
)
"""Text of an email without templates. It has no image and no link that reports an opening."""

DEFAULT_SMS_TEXT = "{{ title }}"


@dataclass(frozen=True, kw_only=True)
class MessageSource:
    """The templates of a message; what is None has a default, and `html` may be left out.

    Attributes:
        size: bytes that an email has at least, with headers and padding.
    """

    subject: str | None = None
    text: str | None = None
    html: str | None = None
    size: int | None = None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the source of a recorded JSON object."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the source as it is recorded; keys without a value are left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(values, ensure_ascii=False)

    def templates(self, channel: Channel) -> dict[str, str]:
        """Return the templates of the parts that a message has on a channel, by the part's name."""
        if channel is Channel.SMS:
            return {"text": DEFAULT_SMS_TEXT if self.text is None else self.text}
        parts = {
            "subject": DEFAULT_SUBJECT if self.subject is None else self.subject,
            "text": DEFAULT_EMAIL_TEXT if self.text is None else self.text,
        }
        return parts if self.html is None else {**parts, "html": self.html}
