"""Format validation errors: the key, the value in the file, and the expected value."""

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simulator.values import InvalidKey, format_value
from tracker.text import suggest_similar

Table = TypeVar("Table", bound=BaseModel)

_EXPECTED_BY_TYPE = {
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer of fewer digits",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_pattern_mismatch": (
        "a name of letters, digits, dots, dashes and underscores, at most 100 characters"
    ),
    "too_short": "at least one element",
    "model_type": "a table",
    "dict_type": "a table",
    "model_attributes_type": "a table",
    "list_type": "an array",
    "tuple_type": "an array",
}
"""What is expected where pydantic reports an error of a type."""

_RELATIONS = {
    "greater_than_equal": "at least",
    "less_than_equal": "at most",
    "greater_than": "more than",
    "less_than": "less than",
}


def format_validation_errors(error: ValidationError, top: type[BaseModel]) -> list[str]:
    """Return one line for each wrong key of a file whose model is `top`."""
    return [_format_error(details, top) for details in _first_error_per_key(error.errors())]


def parse_table(model: type[Table], value: object) -> Table:
    """Return a table of a file, or raise InvalidKey for the first wrong key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        [line, *_] = format_validation_errors(error, model)
        key, _, message = line.partition(": ")
        raise InvalidKey(key, message) from None


def _first_error_per_key(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    by_key: dict[str, ErrorDetails] = {}
    for error in errors:
        by_key.setdefault(_format_key(error), error)
    return list(by_key.values())


def _format_key(error: ErrorDetails) -> str:
    key = ""
    for part in error["loc"]:
        if isinstance(part, int):
            key += f"[{part}]"
        elif part != "[key]":
            key += f".{part}" if key else str(part)
    return key


def _format_error(error: ErrorDetails, top: type[BaseModel]) -> str:
    key, context = _format_key(error), error.get("ctx", {})
    got = f"{key}: got {format_value(error['input'])}"
    error_type = error["type"]
    match error_type:
        case "extra_forbidden":
            known_keys = _list_keys(error["loc"], top)
            return f"{key}: unknown key{suggest_similar(str(error['loc'][-1]), known_keys)}"
        case "missing":
            return f"{key}: missing; this key is required"
        case "value_error":
            return _format_value_error(key, context["error"])
        case "enum" | "literal_error":
            return f"{got}; expected {context['expected']}"
        case _ if error_type in _RELATIONS:
            [limit] = context.values()
            if _is_share_limit(error_type, limit):
                return f"{got}; expected a share from 0 to 1"
            return f"{got}; expected {_RELATIONS[error_type]} {_format_limit(limit)}"
        case _ if error_type in _EXPECTED_BY_TYPE:
            return f"{got}; expected {_EXPECTED_BY_TYPE[error_type]}"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _is_share_limit(error_type: str, limit: object) -> bool:
    """Return whether a limit is one of a share, as opposed to that of a count."""
    is_limit = (error_type, limit) in (("greater_than_equal", 0.0), ("less_than_equal", 1.0))
    return is_limit and isinstance(limit, float)


def _format_limit(limit: float) -> str:
    return f"{int(limit):,}" if limit == int(limit) else f"{limit:,}"


def _format_value_error(key: str, cause: ValueError) -> str:
    """Return the message of a validator, which may concern a key below the validated one."""
    if isinstance(cause, InvalidKey):
        return f"{key}.{cause.key}: {cause.message}" if key else str(cause)
    return f"{key}: {cause}" if key else str(cause)


def _list_keys(location: tuple[int | str, ...], top: type[BaseModel]) -> list[str]:
    """Return the keys of the table that a key belongs to."""
    section = top
    for part in location[:-1]:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        field = fields.get(str(part))
        section = next(iter(_find_models(field.annotation if field else section)), section)
    return [field.alias or name for name, field in section.model_fields.items()]


def _find_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _find_models(argument)]
