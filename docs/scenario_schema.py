"""The JSON Schema of scenario files.

Keys, types and defaults come from the tables of `simulator/scenario`; descriptions from the
docstrings of the tables and of their keys.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from simulator.audience.formats import AudienceSection
from simulator.scenario.faults import FaultKind, FaultSection
from simulator.scenario.gateways import GatewaySection, HttpSection, ReplyRuleSection
from simulator.scenario.load import (
    BLAST_KEYWORD,
    LoadSection,
    RampSection,
    ShapeSection,
    SpikeSection,
    StepSection,
)
from simulator.scenario.message import MessageSection
from simulator.scenario.organizations import (
    ChannelSection,
    MessageLimitSection,
    OrganizationSection,
)
from simulator.scenario.sections import CampaignSection, ClockSection, CouponSeriesSection
from simulator.scenario.tables import ScenarioFile
from simulator.scenario.thresholds import ThresholdSection
from simulator.values import format_duration
from simulator.world.behaviour import (
    EngagementRates,
    GatewayBehaviour,
    LatencyDistribution,
    ReceiptFaultRates,
    ServiceFailures,
    SlowPeriod,
    TimeWindow,
)

SCHEMA_HEADER = "#:schema ../docs/scenario.schema.json"
"""First line of a scenario file, which tells TOML editors where its schema is."""

TABLES: Mapping[str, type[BaseModel]] = {
    "Top level": ScenarioFile,
    "`[organization]`, `[organizations.NAME]`": OrganizationSection,
    "`message_limit` of an organization": MessageLimitSection,
    "`email`, `sms` of an organization": ChannelSection,
    "`[[campaigns]]`": CampaignSection,
    "`audience` of a campaign, as a table": AudienceSection,
    "`message` of a campaign": MessageSection,
    "`load` of a campaign": LoadSection,
    "`shape` of a load": ShapeSection,
    "`ramp`": RampSection,
    "`steps`": StepSection,
    "`spike`": SpikeSection,
    "`[gateways.NAME]`": GatewaySection,
    "`replies` of a gateway": ReplyRuleSection,
    "`http` of a gateway": HttpSection,
    "`[gateways.NAME]` of kind simulated": GatewayBehaviour,
    "`latency`, `delay`": LatencyDistribution,
    "`receipts` of a gateway": ReceiptFaultRates,
    "`outage`": TimeWindow,
    "`slow` of a gateway": SlowPeriod,
    "`[coupon_series.NAME]`": CouponSeriesSection,
    "`[services.NAME]`": ServiceFailures,
    "`[engagement.email]`": EngagementRates,
    "`[clock]`": ClockSection,
    "`[[faults]]`": FaultSection,
    "`[thresholds]`": ThresholdSection,
}
"""Models of the tables of a scenario file, by their headings in the reference."""


def scenario_schema() -> str:
    """Return docs/scenario.schema.json."""
    return format_schema(build_schema())


def format_schema(schema: Mapping[str, Any]) -> str:
    """Return the text of a file with a JSON Schema."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def build_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file."""
    schema: dict[str, Any] = _without_null(ScenarioFile.model_json_schema())
    models = {"ScenarioFile": schema, **schema["$defs"]}
    for model in TABLES.values():
        definition = models.get(model.__name__)
        if definition is None:
            continue  # The keys of a base class are part of its subclasses.
        definition["description"] = _first_paragraph(model)
        for name, text in describe_keys(model).items():
            definition["properties"][name]["description"] = text
        for name, field in model.model_fields.items():
            if isinstance(field.default, timedelta):  # pydantic would write ISO 8601
                key = definition["properties"][field.alias or name]
                key["default"] = format_duration(field.default)
    models["LoadSection"]["properties"]["shape"] |= {
        "anyOf": [{"const": BLAST_KEYWORD}, {"$ref": "#/$defs/ShapeSection"}]
    }
    del models["LoadSection"]["properties"]["shape"]["$ref"]
    schema["$defs"]["AudienceSection"] = _describe_audience_section()
    schema["$defs"]["CampaignSection"]["properties"]["audience"]["anyOf"].append(
        {"$ref": "#/$defs/AudienceSection"}
    )
    models["ShapeSection"] |= {"minProperties": 1, "maxProperties": 1}
    models["FaultSection"]["oneOf"] = [{"required": [kind.value]} for kind in FaultKind]
    schema["properties"]["thresholds"] |= {
        "properties": {"abort": {"type": "boolean"}},
        "additionalProperties": {
            "anyOf": [{"type": "string"}, {"$ref": "#/$defs/ThresholdSection"}]
        },
    }
    schema["title"] = "sendtrace scenario"
    return schema


def _describe_audience_section() -> dict[str, Any]:
    """Return the JSON Schema of an audience file with its format."""
    definition: dict[str, Any] = _without_null(AudienceSection.model_json_schema())
    choices = definition.pop("$defs")
    for key in definition["properties"].values():
        if "$ref" in key:
            key |= choices[key.pop("$ref").removeprefix("#/$defs/")]
            key.pop("description", None)
    definition["description"] = _first_paragraph(AudienceSection)
    for name, text in describe_keys(AudienceSection).items():
        definition["properties"][name]["description"] = text
    return definition


def _without_null(node: Any) -> Any:
    """Return a schema without null, which TOML doesn't have."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {
        key: _without_null(value)
        for key, value in node.items()
        if value is not None and not (key == "title" and isinstance(value, str))
    }
    choices = [item for item in node.get("anyOf", ()) if item != {"type": "null"}]
    if len(choices) == 1:
        del node["anyOf"]
        node = {**choices[0], **node}
    elif choices:
        node["anyOf"] = choices
    return node


def describe_keys(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings of a model's keys, those of its base classes included, by alias."""
    described: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if owner is not BaseModel and issubclass(owner, BaseModel):
            described |= _read_key_docstrings(owner)
    return {
        field.alias or name: described[name]
        for name, field in model.model_fields.items()
        if name in described
    }


def _read_key_docstrings(model: type[BaseModel]) -> dict[str, str]:
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101  # mypy can't know
    docstrings = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(value=str(text))):
                docstrings[name] = " ".join(text.split())
    return docstrings


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].split())
