"""Templates of messages: their variables, what customers need, and the limits of the sandbox."""

import pytest

from tracker.status import Channel
from workers.message.rendering import (
    CustomerValues,
    MessageFailed,
    MessageTemplates,
    make_campaign_values,
    make_customer_values,
)
from workers.message.source import MessageSource
from workers.message.validation import validate_message
from workers.message.variables import InvalidTemplate

CAMPAIGN_VALUES = make_campaign_values(
    campaign="spring", title=None, organization="Acme", organization_title=None
)
URL = "https://shop.internal/leave?c={{ customer_id }}"


def find_needs(
    text: str, channel: Channel = Channel.EMAIL, unsubscribe_url: str | None = None
) -> tuple[str, ...]:
    """Return what customers need for a text."""
    return validate_message(MessageSource(text=text), channel, unsubscribe_url, CAMPAIGN_VALUES)


def render(source: MessageSource, unsubscribe_url: str | None = None, **values: object) -> object:
    """Return the message for a customer with these values."""
    templates = MessageTemplates(source, Channel.EMAIL, unsubscribe_url)
    return templates.render({**CAMPAIGN_VALUES, "customer_id": "c1", "email": "a@b.c", **values})


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("Hello", ()),
        ("{{ customer_id }} {{ email }} {{ campaign }} {{ title }} {{ organization }}", ()),
        ("{{ last_store }}{{ profile }}", ("last_store", "profile")),
        ("{{ coupon_id }} {{ referral }}", ("coupon", "referral")),
        ("{{ field.city }} {{ field['first name'] }}", ("field:city", "field:first name")),
        ('{{ tag["Größe"] | upper }}', ("tag:Größe",)),
        ("{% if tag.vip == 'yes' %}VIP{% endif %}", ("tag:vip",)),
        ("{% for char in field.items %}{{ char }}{% endfor %}", ("field:items",)),
        ("{{ field.city | default('you') }}{{ profile | d('x') }}", ()),
        ("{{ field.city is defined }}", ()),
        ("{{ field.city | default(field.town) }}", ("field:town",)),
        ("{{ (field.city | upper) | default('x') }}", ("field:city",)),
        ("{{ field.city | default('x') }} {{ field.city }}", ("field:city",)),
        ("{{ mobile | default('') }}", ()),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", ()),
        ("{# {{ field.no }} #}{% raw %}{{ field.no }}{% endraw %}", ()),
    ],
)
def test_a_template_tells_what_customers_need(text: str, needs: tuple[str, ...]) -> None:
    assert find_needs(text) == needs


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{{ cuopon_id }}", "text: unknown variable 'cuopon_id'; did you mean coupon_id"),
        ("{{ city }}", "text: unknown variable 'city'"),
        ("Hi {{ name", "text: line 1: "),
        ("\n{% if %}", "text: line 2: "),
        ("{{ title | uper }}", "text: line 1: unknown filter 'uper'; did you mean upper"),
        ("{{ field }}", 'text: line 1: field: expected field.NAME or field\\["NAME"\\]'),
        ("{{ field[title] }}", "text: line 1: field.*: expected a name in quotes"),
        ("{% set field = 3 %}", "text: line 1: field can't be set"),
        ("{% for title in 'ab' %}{% endfor %}", "text: line 1: title can't be set"),
        ("{% include 'x' %}", "text: line 1: include isn't available"),
        ("{% macro m() %}{% endmacro %}", "text: line 1: macro isn't available"),
        ("{{ mobile }}", "text: mobile: customers of a campaign on the channel email may have"),
        ("{{ unsubscribe_url }}", "text: unsubscribe_url: the organization has none"),
        ("\n{{ title.upper() }}", "text: line 2: calls aren't available in messages; use a filter"),
        ("{{ title.__class__ }}", "text: fails for a sample customer: SecurityError"),
        ("{{ 'a' * 1000000000 }}", "text: fails for a sample customer: SecurityError"),
        ("{{ 9 ** 9 ** 9 }}", "text: fails for a sample customer: SecurityError"),
        ("{{ '%999999999d' % 1 }}", "text: fails for a sample customer: SecurityError"),
        (
            "{{ range(1000000000) | join }}",
            "text: fails for a sample customer: OverflowError: range gives more",
        ),
        (
            "{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
            "text: fails for a sample customer: OverflowError: range gives more",
        ),
        (
            "{% for i in range(9999) %}" + 200 * "x" + "{% endfor %}",
            "text: fails for a sample customer: MessageTooLong: more than 1,000,000 characters",
        ),
        (
            "{{ title.upper }}",
            "text: fails for a sample customer: SecurityError: 'upper' of a str isn't avail",
        ),
        (
            "{{ [title] }}",
            "text: fails for a sample customer: TypeError: gives a value of type list",
        ),
        (
            "{{ 'ab' | unique }}",
            "text: fails for a sample customer: TypeError: gives a value of type generator",
        ),
        (
            "{{ none }}",
            "text: fails for a sample customer: TypeError: gives a value of type NoneType",
        ),
        ("{{ 1 / 0 }}", "text: fails for a sample customer: ZeroDivisionError: division by zero"),
        (
            "{{ 1 / (field.a | default(0) | int) }}",
            "text: fails for a sample customer: ZeroDivisionError: division by zero",
        ),
        ("{{ 1 / (field.a | default(0)) }}", "text: fails for a sample customer: "),
        (100_000 * "{% if 1 %}", "text: "),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_its_place(text: str, error: str) -> None:
    with pytest.raises(InvalidTemplate, match=error):
        find_needs(text)


@pytest.mark.parametrize(
    "text",
    [
        "{% set r = range(9999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        8 * "{% for a in 'abcdefghij' %}" + 8 * "{% endfor %}",
        "{% for i in range(9999) %}{% if i < 0 %}" + 999 * "x" + "{% endif %}{% endfor %}",
        "{% set a = 'aa' %}" + 40 * "{% set a = a + a %}",
        "{% set a = 'aa' %}" + 40 * "{% set a = a ~ a %}",
        "{% set a = 'aa' %}" + 40 * "{% set a %}{{ a }}{{ a }}{% endset %}",
        "{% set a = 'aaaa' %}" + 9 * "{% set a = a | replace('a', a) %}",
        "{% set a = 'aaaaaaaaaa' %}" + 20 * "{% set a = [a, a] | join(a) %}",
        "{% set n = 99 %}" + 40 * "{% set n = n * n %}",
        "{% set l = ['a'] %}" + 60 * "{% set l = [l, l] %}" + "{{ l == l }}",
    ],
)
def test_a_template_cannot_take_all_of_the_time_or_the_memory(text: str) -> None:
    with pytest.raises(InvalidTemplate, match="text: fails for a sample customer: TooMuchWork"):
        find_needs(text)


def test_the_limits_leave_the_meaning_of_a_template() -> None:
    text = (
        "{% set name = field.x ~ '!' %}{% for part in [name, title] %}{{ loop.index }}/"
        "{{ loop.length }} {{ part | replace('a', 'b', 1) }}{% if not loop.last %}, {% endif %}"
        "{% else %}none{% endfor %} {{ ['<', field.x] | join('|') }} {{ field.y | default('-') }}"
    )
    values = CustomerValues({"x": "<aa>"})
    message = render(MessageSource(text=text, html=text), field=values)
    assert message == (
        "spring",
        "1/2 <ba>!, 2/2 spring <|<aa> -",
        "1/2 &lt;ba&gt;!, 2/2 spring &lt;|&lt;aa&gt; -",
        None,
    )


def test_an_address_of_the_other_channel_needs_a_default() -> None:
    assert find_needs("{{ mobile }}", Channel.SMS) == ()
    with pytest.raises(InvalidTemplate, match="email: customers of a campaign on the channel sms"):
        find_needs("{{ email }}", Channel.SMS)


def test_values_are_escaped_in_html_and_quoted_in_the_address_to_unsubscribe() -> None:
    hostile = '<b>&"Ü'
    source = MessageSource(
        subject="{{ field.x }}\r\nBcc: all@shop.internal",
        text="{{ field.x }}",
        html="<i>{{ field.x }}</i> <a href='{{ unsubscribe_url }}'>",
    )
    message = render(
        source,
        "https://shop.internal/?c={{ field.x }}",
        field=CustomerValues({"x": hostile}),
    )
    url = "https://shop.internal/?c=%3Cb%3E%26%22%C3%9C"
    assert message == (
        f"{hostile} Bcc: all@shop.internal",
        hostile,
        f"<i>&lt;b&gt;&amp;&#34;Ü</i> <a href='{url}'>",
        url,
    )


def test_a_missing_value_is_an_error_and_never_an_empty_text() -> None:
    with pytest.raises(MessageFailed, match="template text: UndefinedError"):
        render(MessageSource(text="{{ field.city }}"), field=CustomerValues({}))


def test_an_empty_field_is_missing() -> None:
    row = {"customer_id": "c1", "email": "a@b.c", "mobile_e164": None, "last_store": ""}
    row |= {"profile": None, "custom": '{"field:city": "", "tag:vip": "yes"}'}
    message = render(
        MessageSource(
            subject="{{ last_store | default('no store') }}",
            text="{{ field.city | default('no city') }} {{ tag.vip }}",
        ),
        None,
        **make_customer_values(row),
    )
    assert message == ("no store", "no city yes", None, None)


def test_the_default_text_has_the_organization_and_where_to_unsubscribe() -> None:
    assert render(MessageSource(), URL) == (
        "spring",
        "spring\n\nAcme\n\nUnsubscribe: https://shop.internal/leave?c=c1\n",
        None,
        "https://shop.internal/leave?c=c1",
    )
    assert render(MessageSource()) == ("spring", "spring\n\nAcme\n", None, None)


def test_a_source_survives_the_record() -> None:
    source = MessageSource(subject="फ़ेस्टिवल", html="<p>", size=40_000)
    assert MessageSource.from_json(source.to_json()) == source
    assert MessageSource.from_json("{}") == MessageSource()
