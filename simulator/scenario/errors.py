"""What is wrong with a scenario file, in words: the key, what stood there, what was expected."""

from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tracker.text import suggest_similar

SHARE_LIMITS = {("greater_than_equal", 0.0), ("less_than_equal", 1.0)}

MAX_VALUE_CHARACTERS = 60
"""Characters of a wrong value that are shown."""


def format_validation_errors(error: ValidationError, top: type[BaseModel]) -> list[str]:
    """One line a key that is wrong in a file that should be a ``top``."""
    return [_format_error(each, top) for each in _first_error_per_key(error.errors())]


def shown(value: object) -> str:
    """A value as it may have stood in the file, cut short."""
    shown = repr(value) if isinstance(value, str | int | float) else str(value)
    return shown if len(shown) <= MAX_VALUE_CHARACTERS else f"{shown[:MAX_VALUE_CHARACTERS]}…"


def _first_error_per_key(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """One problem a key."""
    return list({_format_key(error): error for error in reversed(errors)}.values())[::-1]


def _format_key(error: ErrorDetails) -> str:
    key = ""
    for part in error["loc"]:
        if isinstance(part, int):
            key += f"[{part}]"
        elif part != "[key]":
            key += f".{part}" if key else str(part)
    return key


def _format_error(error: ErrorDetails, top: type[BaseModel]) -> str:
    key, value, context = _format_key(error), error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = _known_keys(error["loc"], top)
            return f"{key}: unknown key{suggest_similar(str(error['loc'][-1]), known)}"
        case "missing":
            return f"{key}: is missing"
        case "value_error":
            message = str(context["error"])
            return f"{key}: {message}" if key else message
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            limit = next(iter(context.values()))
            relation = error["type"].replace("_", " ").replace("than equal", "than or equal to")
            if (error["type"], limit) in SHARE_LIMITS and isinstance(limit, float):
                return f"{key}: {value!r} is out of range; expected a share from 0 to 1"
            return f"{key}: {value!r} is out of range; expected a number {relation} {limit:,}"
        case "float_type" | "float_parsing":
            return f"{key}: {shown(value)} is not a number"
        case "int_type" | "int_from_float" | "int_parsing":
            return f"{key}: {shown(value)} is not a whole number"
        case "bool_type":
            return f"{key}: {shown(value)} is neither true nor false"
        case "string_type":
            return f"{key}: {shown(value)} is not a text"
        case "string_pattern_mismatch":
            return (
                f"{key}: {shown(value)} is not a name;"
                " expected letters, digits, dots, dashes and underscores, 100 at most"
            )
        case "enum" | "literal_error":
            return f"{key}: {shown(value)} is not known; expected {context['expected']}"
        case "too_short":
            return f"{key}: is empty; expected at least one"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{key}: {shown(value)} is not a table"
        case "tuple_type":
            return f"{key}: {shown(value)} is not a list"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _known_keys(place: tuple[int | str, ...], top: type[BaseModel]) -> list[str]:
    """The keys of the table that ``place`` lies in."""
    section = top
    for part in place[:-1]:
        fields = {field.alias or key: field for key, field in section.model_fields.items()}
        field = fields.get(str(part))
        section = next(iter(_find_models(field.annotation if field else section)), section)
    return [field.alias or key for key, field in section.model_fields.items()]


def _find_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _find_models(argument)]
