"""Queries for messages: parameters, execution, and the query behind each line of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from tracker.monitoring import CheckVerdict
from tracker.queries.messages import BEFORE_FIRST, MessageFilter, MessagePage, find_messages
from tracker.queries.report import Report, make_reports
from tracker.record.catalog import Campaign
from tracker.status import IN_PROGRESS_STATUSES, SENT_STATUSES, Category, Engagement, Reason, Status
from tracker.store.schema.integers import MAX_INTEGER
from tracker.web.context import WebContext
from tracker.web.masking import mask_contacts

PAGE_SIZE, MAX_PAGE_SIZE = 50, 500
"""Messages on a page: by default, and at most."""

MAX_CUSTOMER_ID_LENGTH = 500

CONTACTS_DESCRIPTION = "`shown` for unmasked contact data, if SENDTRACE_SHOW_CONTACTS allows it."

SlugEnum = Status | Reason | Engagement
"""An enum whose members are named by their slugs in addresses and in JSON."""


def _slug_parser(kind: type[SlugEnum]) -> BeforeValidator:
    members = {member.slug: member for member in kind}

    def parse(value: Any) -> SlugEnum:
        if isinstance(value, kind):
            return value
        if value not in members:
            raise ValueError(f"got {value!r}; expected one of {', '.join(members)}")
        return members[value]

    return BeforeValidator(parse)


def _slug_schema(kind: type[SlugEnum]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [member.slug for member in kind]})


_SERIALIZE_SLUG = PlainSerializer(lambda member: member.slug, return_type=str)

StatusName = Annotated[Status, _slug_parser(Status), _SERIALIZE_SLUG, _slug_schema(Status)]
ReasonName = Annotated[Reason, _slug_parser(Reason), _SERIALIZE_SLUG, _slug_schema(Reason)]
EngagementName = Annotated[
    Engagement, _slug_parser(Engagement), _SERIALIZE_SLUG, _slug_schema(Engagement)
]


def _drop_blanks(value: Any) -> Any:
    # A form also sends the fields that are blank.
    return [item for item in value if item != ""] if isinstance(value, list) else value


def _blank_to_none(value: Any) -> Any:
    return None if value == "" else value


class MessageQuery(BaseModel):
    """The parameters of a list of messages. Several statuses or reasons mean any of them."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[list[StatusName], BeforeValidator(_drop_blanks)] = Field(
        default_factory=list, description="Statuses of the messages."
    )
    reason: Annotated[list[ReasonName], BeforeValidator(_drop_blanks)] = Field(
        default_factory=list, description="Reasons why the messages are Not Sent."
    )
    engagement: Annotated[EngagementName | None, BeforeValidator(_blank_to_none)] = Field(
        None, description="Engagement of the messages' recipients."
    )
    customer: Annotated[str | None, BeforeValidator(_blank_to_none)] = Field(
        None,
        max_length=MAX_CUSTOMER_ID_LENGTH,
        description="The id, email address or mobile number of the customers.",
    )
    deferred: Annotated[Literal["only"] | None, BeforeValidator(_blank_to_none)] = Field(
        None, description="`only` for messages that a rule deferred."
    )
    unconfirmed: Annotated[Literal["only"] | None, BeforeValidator(_blank_to_none)] = Field(
        None, description="`only` for messages that were handed over without a reply."
    )
    after: int = Field(
        BEFORE_FIRST,
        ge=BEFORE_FIRST,
        le=MAX_INTEGER,
        description="The number after which the page begins: `next` of the previous page.",
    )
    limit: int = Field(PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="Messages on a page.")
    contacts: Annotated[Literal["shown"] | None, BeforeValidator(_blank_to_none)] = Field(
        None, description=CONTACTS_DESCRIPTION
    )

    def to_filter(self) -> MessageFilter:
        """Return the filter for the database."""
        return MessageFilter(
            statuses=frozenset(self.status),
            reasons=frozenset(self.reason),
            engagement=self.engagement,
            customer=self.customer,
            is_deferred=self.deferred == "only",
            is_unconfirmed=self.unconfirmed == "only",
        )

    def to_query_string(self, **changes: object) -> str:
        """Return the parameters, some of them changed, as the query string of an address."""
        parameters = self.model_dump(mode="json", exclude_defaults=True) | changes
        return urlencode({name: value for name, value in parameters.items() if value}, doseq=True)


def find_message_page(
    context: WebContext, campaign_id: int, query: MessageQuery
) -> tuple[Report, MessagePage]:
    """Return the report of a campaign and a page of its messages, both of one instant.

    Raises:
        NotFound: unknown campaign.
        RequestValidationError: the page begins after the campaign's last message.
    """
    with context.read_database() as connection:
        campaign = context.load_campaign(connection, campaign_id)
        [report] = make_reports(connection, [campaign])
        if query.after >= report.recorded and query.after > 0:
            raise RequestValidationError(
                [
                    {
                        "type": "less_than",
                        "loc": ("query", "after"),
                        "msg": f"after the last message; the campaign has {report.recorded:,}",
                        "input": query.after,
                    }
                ]
            )
        page = find_messages(
            context.database,
            connection,
            campaign,
            query.to_filter(),
            after=query.after,
            limit=query.limit,
        )
    return report, page


def explain_checks(
    context: WebContext, campaign: Campaign, number: int, *, is_unmasked: bool
) -> Sequence[CheckVerdict] | None:
    """Return every check's verdict on a message, evaluated now; None if no checks are available.

    Unless `is_unmasked`, contact data among the values that a check read is masked.
    """
    if context.monitoring.explain_checks is None:
        return None
    verdicts = context.monitoring.explain_checks(campaign, number)
    if is_unmasked:
        return verdicts
    return [replace(verdict, looked_at=mask_contacts(verdict.looked_at)) for verdict in verdicts]


def _status_query(*statuses: Status) -> dict[str, list[str]]:
    return {"status": [status.slug for status in sorted(statuses)]}


def _make_line_queries() -> Mapping[str, str]:
    queries: dict[str, dict[str, list[str]]] = {
        "audience": {},
        "sent.total": _status_query(*SENT_STATUSES),
        "sent.bounced.total": _status_query(Status.SOFT_BOUNCED, Status.HARD_BOUNCED),
        "sent.x": _status_query(Status.NOT_DELIVERED, Status.IN_GATEWAY),
        "sent.bounced.hard": _status_query(Status.HARD_BOUNCED),
        "sent.bounced.soft": _status_query(Status.SOFT_BOUNCED),
        "in_progress.total": _status_query(*IN_PROGRESS_STATUSES),
        "in_progress.deferred": {"deferred": ["only"]},
        "sent.unconfirmed": {"unconfirmed": ["only"]},
        "not_sent.total": _status_query(Status.NOT_SENT),
    }
    for status in IN_PROGRESS_STATUSES:
        queries[f"in_progress.{status.slug}"] = _status_query(status)
    for status in (Status.DELIVERED, Status.NOT_DELIVERED, Status.IN_GATEWAY):
        queries[f"sent.{status.slug}"] = _status_query(status)
    for engagement in Engagement:
        queries[f"sent.{engagement.slug}"] = {
            "engagement": [engagement.slug],
            **_status_query(Status.DELIVERED),
        }
    for category in Category:
        reasons = [reason.slug for reason in Reason if reason.category is category]
        queries[f"not_sent.{category}.total"] = {"reason": reasons}
        for slug in reasons:
            queries[f"not_sent.{category}.{slug}"] = {"reason": [slug]}
    return {path: urlencode(query, doseq=True) for path, query in queries.items()}


LINE_QUERIES = _make_line_queries()
"""The query string that lists the messages of a report line, by the line's path in the JSON."""
