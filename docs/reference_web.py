"""The references of the API and of the metrics, rendered from the routes and the metrics."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from simulator.web.runs import RUNS_SECTION
from tracker.web import api
from tracker.web.inbound import routes as inbound
from tracker.web.inbound.items import EARLIEST_TIME, LATEST_TIME, EngagementIn, ReceiptIn
from tracker.web.inbound.reports import MAX_REPORT_ITEMS
from tracker.web.inbound.routes import INBOUND_RESPONSES, MAX_REPORT_BYTES
from tracker.web.live import MAX_FOLLOWED_CAMPAIGNS
from tracker.web.metrics.catalog import Metric

MAX_LISTED_VALUES = 6
"""Values of a field that its type lists; more are described elsewhere."""

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
- Lists of messages are paged: `next` is the `after` of the following page, null at the end."""

INBOUND_ITEMS: Mapping[str, type[BaseModel]] = {
    "POST /api/receipts": ReceiptIn,
    "POST /api/engagement": EngagementIn,
}
"""The items of the lists that requests report."""

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
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    tags = dict.fromkeys(tag for _, operation in operations for tag in operation["tags"])
    for tag in tags:
        yield ""
        yield f"## {tag.capitalize()}"
        if tag == "inbound":
            yield ""
            yield INBOUND_TEXT
            errors = [
                (str(code), response["description"]) for code, response in INBOUND_RESPONSES.items()
            ]
            yield from _table(("status", "cause"), errors)
        for request, operation in operations:
            if tag in operation["tags"]:
                yield from _operation_lines(request, operation)
    yield ""
    yield "## Objects"
    for name, model in schema["components"]["schemas"].items():
        if "properties" in model and name not in ("HTTPValidationError", "ValidationError"):
            yield from _object_lines(name, model)


def _openapi_schema() -> Mapping[str, Any]:
    app = FastAPI()
    for router in (api.router, RUNS_SECTION.router, inbound.router):
        app.include_router(router)
    return app.openapi()


def _operation_lines(request: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"### {request}"
    yield ""
    yield _join_lines(operation["description"])
    responses = operation["responses"]
    success = next(response for code, response in responses.items() if code.startswith("2"))
    returned = _type_name(success.get("content", {}).get("application/json", {}).get("schema", {}))
    if returned:
        yield ""
        yield f"Response: {returned}."
    parameters = operation.get("parameters", ())
    yield from _table(
        ("parameter", "type", "meaning"),
        [
            (
                f"`{parameter['name']}`",
                _type_name(parameter["schema"]),
                parameter.get("description", ""),
            )
            for parameter in parameters
        ],
    )
    if "inbound" in operation["tags"]:
        item = INBOUND_ITEMS.get(request)
        if item is not None:
            yield from _field_table(item.model_json_schema())


def _object_lines(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"### {name}"
    yield ""
    yield _join_lines(model["description"])
    yield from _field_table(model)


def _field_table(model: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (f"`{name}`", _type_name(field), field.get("description", ""))
        for name, field in model["properties"].items()
    ]
    yield from _table(("field", "type", "meaning"), rows)


def _type_name(schema: Mapping[str, Any]) -> str:
    """Return the type that a JSON schema describes, as Markdown."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type_name, schema["anyOf"]))
    if len(schema.get("enum", ())) > MAX_LISTED_VALUES:
        return "[slug](lifecycle.md)"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind: str = schema.get("type", "")
    match kind:
        case "array":
            item = _type_name(schema["items"])
            return f"list of {item}s" if item.isalpha() else f"list of {item}"
        case "string" if schema.get("format") == "date-time":
            return "time"
        case _:
            return kind


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
