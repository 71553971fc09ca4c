"""The references of the API and of the metrics, rendered from the routes and the metrics."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI

from simulator.web.runs import RUNS_SECTION
from tracker.text import join_with_or
from tracker.web import api
from tracker.web.actions import api as actions
from tracker.web.api_reference import (
    ApiField,
    ApiRequest,
    TypeFormat,
    format_type,
    list_fields,
    list_models,
    list_requests,
)
from tracker.web.inbound import routes as inbound
from tracker.web.inbound.items import EARLIEST_TIME, LATEST_TIME
from tracker.web.inbound.reports import MAX_REPORT_ITEMS
from tracker.web.inbound.routes import INBOUND_RESPONSES, MAX_REPORT_BYTES
from tracker.web.live import MAX_FOLLOWED_CAMPAIGNS
from tracker.web.metrics.catalog import Metric

MAX_LISTED_VALUES = 6
"""Values of a field that its type lists; more are described elsewhere."""

MARKDOWN = TypeFormat(
    value=lambda value: f"`{value}`",
    model=lambda name: f"[{name}](#{name.lower()})",
    values=lambda values: (
        "[slug](lifecycle.md)"
        if len(values) > MAX_LISTED_VALUES
        else " or ".join(f"`{value}`" for value in values)
    ),
)

API_HEADER = """\
# API

Generated from the routes by `make docs`.

`sendtrace serve` and `sendtrace up` serve a JSON API next to the live page. The page `/api` lists
its requests, and `/api/openapi.json` describes them for programs. Where `SENDTRACE_TOKEN` is set,
send it as a bearer token.

```console
$ curl -H "Authorization: Bearer $SENDTRACE_TOKEN" http://127.0.0.1:8080/api/campaigns
$ curl -N -H "Authorization: Bearer $SENDTRACE_TOKEN" "http://127.0.0.1:8080/api/events?campaign=1"
```

- Times are ISO 8601 in UTC.
- Errors have a `detail`. For 404 it names what exists, for 422 the invalid parameter.
- Contact data is masked. A request with `contacts=shown` gets it unmasked if
  `SENDTRACE_SHOW_CONTACTS=1` is set.
- Requests that act need `SENDTRACE_TOKEN` to be set and the bearer token; a password isn't enough.
- Lists of messages are paged: `next` is the `after` of the following page, null at the end."""

INBOUND_TEXT = f"""\
A gateway that isn't polled reports receipts and engagement itself. A report is a JSON list of 1 to
{MAX_REPORT_ITEMS:,} items, at most {MAX_REPORT_BYTES // 1_000_000} MB, as `application/json` or
`text/plain`. It always needs the bearer token. The response is 202 once the report is stored in the
database.

```console
$ curl -H "Authorization: Bearer $SENDTRACE_TOKEN" -H "Content-Type: application/json" \\
    -d '[{{"campaign": 1, "number": 4711, "attempt": 1, "status": "hard_bounced",
          "at": "2026-11-24T12:00:00Z", "detail": "5.1.1 no such user"}}]' \\
    http://127.0.0.1:8080/api/receipts
{{"taken":1,"batches":1,"queued":true,"refused":[]}}
```

- Numbers may be strings of digits, as in `"campaign": "1"`. Many providers return all metadata as
  text.
- If some items can't be used, only those are refused, and the response is 207. `refused` has the
  place and cause of each. With `?strict=1`, the whole report is refused.
- `at` is a time in the years {EARLIEST_TIME.year} to {LATEST_TIME.year}; a number isn't a time.
  A time ahead of the run's clock by at most `SENDTRACE_CLOCK_TOLERANCE` counts as now. One that is
  further ahead is refused.
- The steps `deliver` and `engage` apply the report. If the broker is unavailable
  (`"queued": false`), they do so at the batch's next step.
- A repeated item changes nothing. A receipt that is late, contradicts the record or
  names an unknown message is counted as `stale`, `duplicate` or `unknown`. It is never applied and
  never an error.
- A receipt may arrive before the acceptance of its message is recorded, and engagement before the
  delivery. Such an item is kept for ten minutes. Opens and clicks of a message that isn't delivered
  by then are not recorded.
- `unsubscribed` and `spam` keep the customer from further messages at once, whether the message
  arrived or not. The report counts them once the message is delivered.
- An email that was unsubscribed from or clicked counts as opened, too. For an SMS, `unsubscribed`
  (STOP) implies nothing else, and `opened` is refused.

A bounce message that arrives by email is reported unchanged, for example by the mail server that
receives it:

```console
$ curl -H "Authorization: Bearer $SENDTRACE_TOKEN" -H "Content-Type: message/rfc822" \\
    --data-binary @bounce.eml http://127.0.0.1:8080/api/bounces
{{"taken":1,"batches":1,"queued":true,"refused":[]}}
```

[SMTP](gateways.md#bounce-messages) describes its effect."""

METRICS_HEADER = f"""\
# Metrics

Generated from `tracker/web/metrics/catalog.py` by `make docs`.

The live page serves metrics for Prometheus at `/metrics`, and asks for `SENDTRACE_TOKEN` if it is
set. The values are from the last read of the database, once a second. [alerts.yml](alerts.yml) has
sample alerts. Campaign metrics cover the latest {MAX_FOLLOWED_CAMPAIGNS} campaigns, and older ones
that a viewer has opened: each campaign adds series that Prometheus keeps."""


def api_reference() -> str:
    """Return docs/api.md."""
    return "\n".join(_api_lines()) + "\n"


def metrics_reference() -> str:
    """Return docs/metrics.md."""
    rows = [(f"`{metric.full_name}`", ", ".join(metric.labels), metric.help) for metric in Metric]
    return "\n".join([METRICS_HEADER, *_table(("metric", "labels", "meaning"), rows)]) + "\n"


def _api_lines() -> Iterator[str]:
    schema = _openapi_schema()
    yield API_HEADER
    requests = list(list_requests(schema))
    for tag in dict.fromkeys(request.tag for request in requests):
        yield ""
        yield f"## {tag.capitalize()}"
        if tag == "inbound":
            yield ""
            yield INBOUND_TEXT
            errors = [
                (str(code), response["description"]) for code, response in INBOUND_RESPONSES.items()
            ]
            yield from _table(("status", "cause"), errors)
        for request in requests:
            if request.tag == tag:
                yield from _request_lines(request)
    yield ""
    yield "## Objects"
    for name, model in list_models(schema).items():
        yield ""
        yield f"### {name}"
        yield ""
        yield _join_lines(model["description"])
        yield from _field_table("field", list_fields(model))


def _openapi_schema() -> Mapping[str, Any]:
    app = FastAPI()
    routers = (api.router, actions.log_router, actions.acting_router)
    for router in (*routers, RUNS_SECTION.router, inbound.router):
        app.include_router(router)
    return app.openapi()


def _request_lines(request: ApiRequest) -> Iterator[str]:
    yield ""
    yield f"### {request.title}"
    yield ""
    yield _join_lines(request.description)
    returned = format_type(request.returned, MARKDOWN)
    if returned:
        yield ""
        yield f"Response: {returned}."
    in_body = [field for field in request.fields if field.place == "body"]
    yield from _field_table("parameter", [x for x in request.fields if x not in in_body])
    if request.body_types:
        kind = "a list of objects as " if request.is_list else ""
        yield ""
        yield f"Body: {kind}{join_with_or([f'`{name}`' for name in request.body_types])}."
    yield from _field_table("field", in_body)


def _field_table(header: str, fields: Sequence[ApiField]) -> Iterator[str]:
    rows = [
        (f"`{field.name}`", format_type(field.schema, MARKDOWN), field.description)
        for field in fields
    ]
    yield from _table((header, "type", "meaning"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table after a blank line; nothing without rows."""
    if not rows:
        return
    yield ""
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(_join_lines(cell) for cell in row)} |"


def _join_lines(text: str) -> str:
    return " ".join(text.split())
