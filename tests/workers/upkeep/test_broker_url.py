"""The broker's URL, which Celery and the library redis read."""

from typing import Any

import pytest
from kombu import Connection
from redis.connection import parse_url

from tracker.errors import UsageError
from workers.upkeep.broker_url import OPTIONS_BY_SCHEME, make_client_url

PASSWORD = "p%40ss"  # noqa: S105  # an @ in it is quoted


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://here:6379/0", "redis://here:6379/0"),
        ("redis://here", "redis://here"),
        (f"redis://ann:{PASSWORD}@[::1]:1/15", f"redis://ann:{PASSWORD}@[::1]:1/15"),
        ("redis+socket:///run/b.sock", "unix:///run/b.sock"),
        ("redis+socket:///run/b.sock?virtual_host=3", "unix:///run/b.sock?db=3"),
        ("rediss://here/0?ssl_cert_reqs=CERT_NONE", "rediss://here/0?ssl_cert_reqs=none"),
        ("rediss://here/0?ssl_ca_certs=%2Fca.pem", "rediss://here/0?ssl_ca_certs=%2Fca.pem"),
    ],
)
def test_each_library_gets_the_url_that_it_understands(url: str, expected: str) -> None:
    assert make_client_url(url) == expected


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://:secret@here/0?visibility_timeout=3600", "'visibility_timeout'"),
        ("redis://:secret@here/0?virtual_host=shop", "'virtual_host'"),
        ("redis://:secret@here/0?socket_timeout=", "'socket_timeout'"),
        ("redis://:secret@here/0?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("redis://:secret@here/0?db=1", "'db'"),
        ("rediss://:secret@here/0?ssl_version=3", "'ssl_version'"),
        ("rediss://:secret@here/0?ssl_cert_reqs=maybe", "ssl_cert_reqs: expected none, optional"),
        ("redis+socket:///b.sock?virtual_host=shop", "virtual_host: expected the number"),
        ("redis://:secret@here/shop", "expected redis://HOST:PORT/0"),
        ("redis://:secret/word@here/0", "expected redis://HOST:PORT/0"),
        ("redis://:secret#word@here/0", "expected redis://HOST:PORT/0"),
        ("redis://:secret@here/0;redis://there/0", "expected redis://HOST:PORT/0"),
        ("unix:///b.sock", "expected redis://HOST:PORT/0"),
    ],
)
def test_what_a_library_would_misread_is_refused_and_named(url: str, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        make_client_url(url)
    assert named in str(refused.value)
    assert "secret" not in str(refused.value)


VALUES = {"virtual_host": "3", "ssl_cert_reqs": "optional", "ssl_check_hostname": "false"}


@pytest.mark.parametrize(
    ("scheme", "option"),
    [(scheme, option) for scheme, options in OPTIONS_BY_SCHEME.items() for option in options],
)
def test_both_libraries_accept_every_documented_option(scheme: str, option: str) -> None:
    place = "/here" if scheme == "redis+socket" else "here/0"
    url = f"{scheme}://{place}?{option}={VALUES.get(option, 'x')}"
    with Connection(url):
        pass
    parsed: dict[str, Any] = parse_url(make_client_url(url))  # type: ignore[no-untyped-call]
    connection_class = parsed.pop("connection_class")
    connection_class(**parsed)
