"""Try the templates of a message before anything is sent."""

from collections.abc import Mapping

from tracker.status import Channel
from workers.message.rendering import CustomerValues, MessageFailed, MessageTemplates
from workers.message.source import MessageSource
from workers.message.variables import (
    ADDRESS_BY_CHANNEL,
    NAMESPACES,
    REQUIREMENT_BY_VARIABLE,
    UNSUBSCRIBE_URL,
    InvalidTemplate,
    find_requirements,
    list_variables,
)

SAMPLE_VALUE = "1"
"""Value of each variable of a sample customer: a text that is a number, too."""


def validate_message(
    source: MessageSource,
    channel: Channel,
    unsubscribe_url: str | None,
    campaign_values: Mapping[str, object],
) -> tuple[str, ...]:
    """Return what every customer needs for a message, after rendering it for sample customers.

    One sample has every value that the templates use, the other only those that they require.

    Raises:
        InvalidTemplate: a template can't be used. The message begins with its part.
    """
    templates = MessageTemplates(source, channel, unsubscribe_url)
    requirements = find_requirements(
        templates.parts, channel, has_unsubscribe_url=unsubscribe_url is not None
    )
    always = ("customer_id", ADDRESS_BY_CHANNEL[channel])
    required = [
        name
        for name in list_variables(templates.parts)
        if REQUIREMENT_BY_VARIABLE.get(name, name) in requirements
    ]
    used = list_variables(templates.parts) - campaign_values.keys() - {UNSUBSCRIBE_URL}
    for names in ({*always, *used}, {*always, *required}):
        try:
            message = templates.render({**campaign_values, **_make_sample(names)})
        except MessageFailed as error:
            raise InvalidTemplate(
                f"{error.template}: fails for a sample customer: {error.cause}"
            ) from None
        if message.unsubscribe_url is not None and " " in message.unsubscribe_url:
            raise InvalidTemplate(
                f"{UNSUBSCRIBE_URL}: gives {message.unsubscribe_url!r}; expected no spaces"
            )
    return requirements


def _make_sample(names: set[str]) -> dict[str, object]:
    """Return a value for each variable; the name of a tag or field begins with its namespace."""
    sample: dict[str, object] = {name: SAMPLE_VALUE for name in names if ":" not in name}
    for namespace in NAMESPACES:
        prefix = f"{namespace}:"
        by_name = {
            name.removeprefix(prefix): SAMPLE_VALUE for name in names if name.startswith(prefix)
        }
        sample[namespace] = CustomerValues(by_name)
    return sample
