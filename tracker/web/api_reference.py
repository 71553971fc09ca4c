"""The requests and objects of the API, read from its OpenAPI schema, for the reference."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

Schema = Mapping[str, Any]
"""An OpenAPI schema, or a JSON schema within one."""

VALIDATION_MODELS = ("HTTPValidationError", "ValidationError")
"""Objects that FastAPI adds, and that our error handlers replace."""


@dataclass(frozen=True, kw_only=True)
class TypeFormat:
    """How the parts of a type are written.

    Attributes:
        value: formats an allowed value.
        model: formats the name of an object.
        values: formats all allowed values together, where there are several.
    """

    value: Callable[[str], str]
    model: Callable[[str], str]
    values: Callable[[Sequence[str]], str]


_HTML = TypeFormat(
    value=lambda value: f"<code>{escape(value)}</code>",
    model=lambda name: f'<a href="#{escape(name)}">{escape(name)}</a>',
    values=lambda values: ", ".join(f"<code>{escape(value)}</code>" for value in values),
)


@dataclass(frozen=True, kw_only=True)
class ApiField:
    """A parameter of a request, or a field of an object; `place` is path, query or body."""

    name: str
    place: str
    schema: Schema
    is_required: bool
    description: str


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """A request of the API.

    Attributes:
        body_types: the media types of its body; none without one.
        is_list: whether the body is a list.
        fields: its parameters; for a JSON body, also its fields, or those of each item.
        returned: the schema of the response as JSON, empty for another response.
        responses: the meaning of each status.
    """

    title: str
    tag: str
    description: str
    body_types: Sequence[str]
    is_list: bool
    fields: Sequence[ApiField]
    returned: Schema
    responses: Mapping[str, str]


def list_requests(schema: Schema) -> Iterator[ApiRequest]:
    """Yield the requests of an OpenAPI schema, in its order."""
    models = schema.get("components", {}).get("schemas", {})
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            yield _read_request(f"{method.upper()} {path}", operation, models)


def list_models(schema: Schema) -> Mapping[str, Schema]:
    """Return the objects that requests return, by name."""
    models = schema.get("components", {}).get("schemas", {})
    return {
        name: model
        for name, model in models.items()
        if "properties" in model and name not in VALIDATION_MODELS
    }


def list_fields(model: Schema) -> list[ApiField]:
    """Return the fields of an object."""
    required = model.get("required", ())
    return [
        ApiField(
            name=name,
            place="body",
            schema=field,
            is_required=name in required,
            description=field.get("description", ""),
        )
        for name, field in model["properties"].items()
    ]


def format_type_as_html(schema: Schema) -> Markup:
    """Return the type that a JSON schema describes, with links to objects of the same page."""
    return Markup(format_type(schema, _HTML))  # noqa: S704  # its parts are escaped


def format_type(schema: Schema, style: TypeFormat) -> str:
    """Return the type that a JSON schema describes, in words."""
    match schema:
        case {"$ref": reference}:
            return style.model(reference.rpartition("/")[2])
        case {"anyOf": choices}:
            return " or ".join(format_type(choice, style) for choice in choices)
        case {"enum": values}:
            return style.values([str(value) for value in values])
        case {"const": value}:
            return style.value(str(value))
        case {"type": "array", "items": item}:
            name = format_type(item, style)
            return f"list of {name}s" if name.isalpha() else f"list of {name}"
        case {"type": "string", "format": "date-time"}:
            return "time"
    kind: str = schema.get("type", "")
    return kind


def _read_request(title: str, operation: Schema, models: Mapping[str, Schema]) -> ApiRequest:
    responses = operation["responses"]
    success = next(response for code, response in responses.items() if code.startswith("2"))
    content = operation.get("requestBody", {}).get("content", {})
    body: Schema = next((value["schema"] for value in content.values()), {})
    return ApiRequest(
        title=title,
        tag=next(iter(operation.get("tags", ())), ""),
        description=operation["description"],
        body_types=tuple(content),
        is_list=body.get("type") == "array",
        fields=[
            *map(_read_parameter, operation.get("parameters", ())),
            *list_fields(_find_model(body, models)),
        ],
        returned=success.get("content", {}).get("application/json", {}).get("schema", {}),
        responses={code: response["description"] for code, response in responses.items()},
    )


def _read_parameter(parameter: Schema) -> ApiField:
    return ApiField(
        name=parameter["name"],
        place=parameter["in"],
        schema=parameter["schema"],
        is_required=parameter["required"],
        description=parameter.get("description", ""),
    )


def _find_model(body: Schema, models: Mapping[str, Schema]) -> Schema:
    """Return the object that a body is, or of which it is a list; an empty one without any."""
    model: Schema = body.get("items", body)
    model = next(iter(model.get("anyOf", ())), model)  # the other choice is null: no body
    if "$ref" in model:
        return models[model["$ref"].rpartition("/")[2]]
    return model if "properties" in model else {"properties": {}}
