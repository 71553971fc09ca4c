"""The reference of scenario files."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from docs.scenario_schema import SCHEMA_HEADER, TABLES, build_schema, describe_keys
from simulator.figures import Unit
from simulator.scenario.gateways import GatewaySection
from simulator.scenario.sections import CampaignSection
from simulator.scenario.thresholds import LIMIT_FORMATS, ThresholdSection
from simulator.world.behaviour import GatewayBehaviour, ServiceFailures
from simulator.world.defects import PLANTABLE_REASONS, explain_unplantable
from tracker.replies import ReplyKind
from tracker.status import Channel, Reason, Step

_ALL_REQUIREMENTS = ("coupon", "referral", "membership", "last_store", "profile")


_INTRODUCTION = f"""\
# Scenario reference

Generated from `simulator/scenario` by `make docs`. A scenario is a TOML file. Unknown keys are
errors. An error names the file, the key, the value and the expected value. The first line of a file
may name its [JSON Schema](scenario.schema.json) for editors: `{SCHEMA_HEADER}`.

| notation | meaning |
|---|---|
| duration | a string with a number and a unit: `us`, `ms`, `s`, `m`, `h` or `d`; at most 365 days |
| share | a number from 0 to 1 |
| rate | messages per second of simulated time |
| name | letters, digits, dots, dashes and underscores; at most 100 characters |

Times and rates are in simulated time, the time of the run's clock. `[clock]` sets its speed and its
start.
"""

EXAMPLE = f"""\
{SCHEMA_HEADER}
name = "spring-sale"
seed = 42

[organization]
name = "Acme Retail"
credit = 20_000
message_limit = {{ count = 3, days = 1 }}

[[campaigns]]
name = "spring-email"
channel = "email"
audience = 10_000
requires = ["coupon", "last_store"]
load = {{ start = "2s", shape = {{ constant = 2_000 }} }}

[campaigns.defects]
unsubscribed = 0.03
email_missing = 0.01
coupon_expired = 0.02

[[campaigns]]
name = "reminder"
channel = "email"
audience = {{ same_as = "spring-email" }}
after = "spring-email"

[gateways.email]
latency = {{ median = "300ms", p99 = "2s" }}
hard_bounce = 0.02
soft_bounce = 0.03

[engagement.email]
open = 0.4
click = 0.08

[thresholds]
"queued_to_gateway.p95" = "< 5s"
"not_sent.system_error" = {{ is = "== 0", abort = true }}
"""

_HOW_TO_REACH: Mapping[Reason, str] = {
    Reason.ORGANIZATION_DISABLED: "`[organization] enabled = false`",
    Reason.CONFIGURATION: "`[organization] sms = { enabled = false }`, or an empty `sender`",
    Reason.UNSUBSCRIBED: "a defect, or an earlier campaign to the same audience",
    Reason.BOUNCED_REPEATEDLY: "a defect, or an earlier campaign to the same audience",
    Reason.MESSAGE_LIMIT: "`[organization] message_limit`",
    Reason.SUBSCRIPTION_SERVICE: "a defect, or `[services.subscription] error_rate`",
    Reason.DUPLICATE_RECIPIENT: "an audience file with an address in several rows",
    Reason.COUPON_CONFIGURATION: "`coupon_series` of a series with `active = false`",
    Reason.GATEWAY_CONFIGURATION: (
        "`gateway` of a gateway with `enabled = false`, or of a real one for a reserved recipient"
    ),
    Reason.COUPON_ISSUE: "a defect, or `[services.coupon] error_rate`",
    Reason.REFERRAL_SERVICE: "a defect, or `[services.referral] error_rate`",
    Reason.HANDLER_NOT_FOUND: "`kind` without an installed handler",
    Reason.TIMEOUT: "a defect, or `[services.handler] error_rate`",
    Reason.OUT_OF_CREDIT: "`[organization] credit`",
    Reason.RULE_FAILED: "an installed rule that raises an error",
    Reason.STEP_FAILED: (
        "a [recipient](audience-file.md) that breaks the gateway, or a template that raises an"
        " error for a customer"
    ),
    Reason.CUSTOM_RULE: "an installed rule that gives this reason",
}
"""Settings that lead to a reason, unless a planted defect alone does."""


def scenario_reference() -> str:
    """Return docs/scenario.md."""
    return "\n".join(_reference_lines()) + "\n"


def _reference_lines() -> Iterator[str]:
    schema = build_schema()
    models = {"ScenarioFile": schema, **schema["$defs"]}
    yield _INTRODUCTION
    yield "## Example"
    yield ""
    yield f"```toml\n{EXAMPLE}```"
    for heading, model in TABLES.items():
        yield ""
        yield f"## {heading}"
        for paragraph in inspect.cleandoc(model.__doc__ or "").split("\n\n"):
            yield ""
            yield " ".join(paragraph.split())
        yield ""
        yield "| key | type | default | meaning | example |"
        yield "|---|---|---|---|---|"
        definition = models.get(model.__name__, models["GatewaySection"])
        for name, text in _own_keys(model).items():
            key = definition["properties"][name]
            default = "required" if name in definition.get("required", ()) else _default(key)
            examples = ", ".join(f"`{_to_toml(example)}`" for example in _examples(model, name))
            kind = _type(key).replace("|", "\\|")  # which would end the cell
            yield f"| `{name}` | {kind} | {default} | {text} | {examples} |"
        yield from _ADDITIONS.get(model, ())
    yield ""
    yield from _reason_lines()


def _examples(model: type[BaseModel], name: str) -> Sequence[Any]:
    fields = {field.alias or key: field for key, field in model.model_fields.items()}
    return fields[name].examples or ()  # those of the JSON Schema have their keys sorted


def _own_keys(model: type[BaseModel]) -> dict[str, str]:
    """Return the keys of a table with their descriptions; a gateway's without those of its base."""
    keys = describe_keys(model)
    if model is GatewaySection:
        inherited = describe_keys(GatewayBehaviour)
        keys = {name: text for name, text in keys.items() if name not in inherited}
    return keys


def _defect_lines() -> Iterator[str]:
    yield ""
    yield "Defects: " + ", ".join(f"`{reason.slug}`" for reason in PLANTABLE_REASONS) + "."
    yield "A defect that wouldn't block the campaign's messages is an error."


def _limit_lines() -> Iterator[str]:
    yield ""
    yield (
        "A threshold is a [figure](figures.md) in quotes with a condition, or with a table:"
        ' `"queued_to_gateway.p95" = "< 2s"`. The limit is written in the figure\'s unit:'
    )
    yield ""
    yield "| unit | limit |"
    yield "|---|---|"
    for unit in Unit:
        yield f"| {unit.value} | {LIMIT_FORMATS.get(unit, 'a number')} |"


def _expectation_lines() -> Iterator[str]:
    yield ""
    yield "## `[expect]`"
    yield ""
    yield (
        "The oracle doesn't model rules of other packages. An expectation says how many messages a"
        ' rule must block: `"hold_out.blocked" = "930..960"`. A range includes its limits.'
        " A condition is one of `<=`, `>=`, `==`, `<`, `>` and a number. With a campaign's name"
        " before the rule, only messages of that campaign count:"
        ' `"spring-email.hold_out.blocked" = "== 940"`.'
    )
    yield ""
    yield (
        "The key `expect` of a campaign names a file with the expected outcomes of customers."
        ' "Sent" means that the gateway accepted the message, whatever its outcome:'
    )
    yield ""
    yield "```\ncustomer_id,expected\nc1,sent\nc2,custom_rule\nc3,unsubscribed\n```"
    yield ""
    yield (
        "A missed expectation gives exit code 99, like a missed threshold. The run still matches"
        " its prediction, but your rule didn't do what you expect. Expectations of a partial run"
        " are not judged."
    )


_ADDITIONS: Mapping[type[BaseModel], Sequence[str]] = {
    CampaignSection: tuple(_defect_lines()),
    ThresholdSection: (*_limit_lines(), *_expectation_lines()),
    ServiceFailures: ("", "Services: `subscription`, `coupon`, `referral`, `handler`."),
}


def _reason_lines() -> Iterator[str]:
    yield "## How to reach each reason"
    yield ""
    yield (
        "A message that is Not Sent has one reason: the reason of the first check that blocks it,"
        " in this order. A defect is a share in `[campaigns.defects]`."
    )
    yield ""
    yield "| step | reason | reached by |"
    yield "|---|---|---|"
    for step in (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, None):
        for reason in Reason:
            if reason.step is step:
                yield f"| {step or 'any'} | `{reason.slug}` | {_how_to_reach(reason)} |"


def _how_to_reach(reason: Reason) -> str:
    if reason in _HOW_TO_REACH:
        return _HOW_TO_REACH[reason]
    channels = [
        channel
        for channel in Channel
        if explain_unplantable(reason, channel, _ALL_REQUIREMENTS) is None
    ]
    text = "a defect" if len(channels) == len(Channel) else f"a defect ({channels[0]} only)"
    why_not = explain_unplantable(reason, channels[0], ())
    return text if why_not is None else f"{text}, {why_not.replace('expected', 'with')}"


def _type(key: Mapping[str, Any]) -> str:
    """Return the type of a key in the reference, from its JSON Schema."""
    if "$ref" in key:
        return _type_of_reference(key["$ref"].removeprefix("#/$defs/"))
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(_type(choice) for choice in key["anyOf"]))
    if "const" in key:
        return f"`{_to_toml(key['const'])}`"
    if "enum" in key:
        return " or ".join(f"`{_to_toml(value)}`" for value in key["enum"])
    kind = key.get("type")
    if key.get("format") == "date-time":
        return "date and time"
    if kind == "string":
        return _STRING_TYPES.get(key.get("pattern", "")[:4], "string")
    if kind in ("integer", "number"):
        return _number_type(key)
    if kind == "array":
        return f"array of {_type(key['items'])}s"
    return {"object": "table", "boolean": "boolean"}.get(str(kind), str(kind))


_STRING_TYPES = {
    "^(\\d": "duration",
    "^[0-": "size",
    "^[A-": "name",
    "^\\+": '`"+"` and a duration',
}
"""Types of strings by the beginning of their patterns."""


def _type_of_reference(name: str) -> str:
    for choices in (Channel, ReplyKind):
        if name == choices.__name__:
            return " or ".join(f'`"{choice}"`' for choice in choices)
    return "table"


def _number_type(key: Mapping[str, Any]) -> str:
    lowest, highest = key.get("minimum"), key.get("maximum")
    if key["type"] == "number" and (lowest, highest) == (0, 1):
        return "share"
    above, below = key.get("exclusiveMinimum"), key.get("exclusiveMaximum")
    limits = [
        f"from {lowest:,g}" if lowest is not None else None,
        f"above {above:,g}" if above is not None else None,
        f"to {highest:,}" if highest is not None and highest < 2**31 - 1 else None,
        f"below {below:,g}" if below is not None and below < 2**31 else None,
    ]
    return " ".join([key["type"], *(limit for limit in limits if limit is not None)])


def _default(key: Mapping[str, Any]) -> str:
    default = key.get("default")
    if isinstance(default, dict) and all(isinstance(value, str) for value in default.values()):
        return f"`{_to_toml(default)}`" if default else ""
    return "" if default is None or isinstance(default, dict | list) else f"`{_to_toml(default)}`"


def _to_toml(value: object) -> str:
    """Return a value as TOML writes it inline, with _ between thousands."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}" if value % 1_000 == 0 else str(value)
        case float():
            return f"{value:g}"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case dict():
            keys = [key if key.replace("_", "").isalnum() else json.dumps(key) for key in value]
            pairs = ", ".join(
                f"{key} = {_to_toml(item)}" for key, item in zip(keys, value.values(), strict=True)
            )
            return f"{{ {pairs} }}"
        case list() | tuple():
            return f"[{', '.join(_to_toml(item) for item in value)}]"
    return str(value)
