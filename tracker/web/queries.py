"""What can be asked about messages, and which question stands behind each number of the report."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from tracker.queries.messages import BEFORE_FIRST, MessageFilter
from tracker.queries.timeline import MAX_NUMBER
from tracker.status import IN_PROGRESS_STATUSES, SENT_STATUSES, Category, Engagement, Reason, Status

PAGE_SIZE, MAX_PAGE_SIZE = 50, 500
"""Messages of a page, unless it is asked for more, and at most."""

MAX_CUSTOMER_ID_LENGTH = 500

SlugEnum = Status | Reason | Engagement


def _slug_parser(kind: type[SlugEnum]) -> BeforeValidator:
    slugs = {each.slug: each for each in kind}

    def read(given: Any) -> SlugEnum:
        if isinstance(given, kind):
            return given
        if given not in slugs:
            raise ValueError(f"there is no {given!r}; expected one of {', '.join(slugs)}")
        return slugs[given]

    return BeforeValidator(read)


def _slug_schema(kind: type[SlugEnum]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [each.slug for each in kind]})


_SERIALIZE_SLUG = PlainSerializer(lambda member: member.slug, return_type=str)

# Members of the vocabulary, that go by their slugs in an address and in the API's description.
StatusName = Annotated[Status, _slug_parser(Status), _SERIALIZE_SLUG, _slug_schema(Status)]
ReasonName = Annotated[Reason, _slug_parser(Reason), _SERIALIZE_SLUG, _slug_schema(Reason)]
EngagementName = Annotated[
    Engagement, _slug_parser(Engagement), _SERIALIZE_SLUG, _slug_schema(Engagement)
]


def _drop_blanks(given: Any) -> Any:
    """A form sends what was not filled in as well."""
    return [each for each in given if each != ""] if isinstance(given, list) else given


def _blank_to_none(given: Any) -> Any:
    return None if given == "" else given


class MessageQuery(BaseModel):
    """Which messages to list; several statuses or reasons mean any of them."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[list[StatusName], BeforeValidator(_drop_blanks)] = Field(
        default_factory=list, description="Where the messages are."
    )
    reason: Annotated[list[ReasonName], BeforeValidator(_drop_blanks)] = Field(
        default_factory=list, description="Why they are Not Sent."
    )
    engagement: Annotated[EngagementName | None, BeforeValidator(_blank_to_none)] = Field(
        None, description="What their recipients did."
    )
    customer: Annotated[str | None, BeforeValidator(_blank_to_none)] = Field(
        None,
        max_length=MAX_CUSTOMER_ID_LENGTH,
        description="The id of the one customer to look for.",
    )
    after: int = Field(
        BEFORE_FIRST,
        ge=BEFORE_FIRST,
        le=MAX_NUMBER,
        description="The number behind which the page begins: `next` of the page before.",
    )
    limit: int = Field(PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="Messages of a page.")
    contacts: Annotated[Literal["shown"] | None, BeforeValidator(_blank_to_none)] = Field(
        None, description="Contact data in full, where SENDTRACE_SHOW_CONTACTS allows it."
    )

    def to_filter(self) -> MessageFilter:
        """What to look for."""
        return MessageFilter(
            statuses=frozenset(self.status),
            reasons=frozenset(self.reason),
            engagement=self.engagement,
            customer=self.customer,
        )

    def to_query_string(self, **changes: object) -> str:
        """The same question, with some ``changes``, as the query of an address."""
        asked = self.model_dump(mode="json", exclude_defaults=True) | changes
        return urlencode({name: each for name, each in asked.items() if each}, doseq=True)


def _status_query(*statuses: Status) -> dict[str, list[str]]:
    return {"status": [each.slug for each in sorted(statuses)]}


def _make_line_queries() -> Mapping[str, str]:
    of_line: dict[str, dict[str, list[str]]] = {
        "audience": {},
        "sent.total": _status_query(*SENT_STATUSES),
        "sent.bounced.total": _status_query(Status.SOFT_BOUNCED, Status.HARD_BOUNCED),
        "sent.bounced.hard": _status_query(Status.HARD_BOUNCED),
        "sent.bounced.soft": _status_query(Status.SOFT_BOUNCED),
        "in_progress.total": _status_query(*IN_PROGRESS_STATUSES),
        **{f"in_progress.{each.slug}": _status_query(each) for each in IN_PROGRESS_STATUSES},
        **{
            f"sent.{each.slug}": _status_query(each)
            for each in (Status.DELIVERED, Status.NOT_DELIVERED, Status.IN_GATEWAY)
        },
        **{f"sent.{each.slug}": {"engagement": [each.slug]} for each in Engagement},
        "not_sent.total": _status_query(Status.NOT_SENT),
    }
    for category in Category:
        its = [reason for reason in Reason if reason.category is category]
        of_line[f"not_sent.{category}.total"] = {"reason": [reason.slug for reason in its]}
        for reason in its:
            of_line[f"not_sent.{category}.{reason.slug}"] = {"reason": [reason.slug]}
    return {path: urlencode(asked, doseq=True) for path, asked in of_line.items()}


LINE_QUERIES = _make_line_queries()
"""For each number of the report, by its place in the JSON, the query that lists its messages."""
