"""The broker's URL, which two libraries read: kombu for Celery's tasks, redis for everything else.

They accept different options, and name the same ones differently. So only options are accepted
that both have, and each library gets them as it needs them.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit

from tracker.errors import UsageError
from tracker.text import join_with_or

INVALID_BROKER_URL = "broker URL: not a Redis URL; expected redis://HOST:PORT/0"

SSL_OPTIONS = (
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)

OPTIONS_BY_SCHEME = {"redis": (), "rediss": SSL_OPTIONS, "redis+socket": ("virtual_host",)}
"""The options of kombu's URLs; `virtual_host` is the number of the database."""

CERTIFICATE_REQUIREMENTS = ("none", "optional", "required")
"""Values of ssl_cert_reqs. kombu also accepts names such as CERT_NONE."""


def make_client_url(url: str) -> str:
    """Return the URL for the library redis that means the same as a URL for kombu.

    Raises:
        UsageError: the URL isn't one of Redis or Valkey, or has an option that it can't have.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UsageError(INVALID_BROKER_URL) from None
    options = OPTIONS_BY_SCHEME.get(parts.scheme)
    is_socket = parts.scheme == "redis+socket"
    is_database = not parts.path.strip("/") or parts.path.strip("/").isdecimal()
    if options is None or parts.fragment or not (is_socket or is_database):
        raise UsageError(INVALID_BROKER_URL)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in query.items():
        _validate_option(parts.scheme, name, value)
    if is_socket and "virtual_host" in query:
        query["db"] = query.pop("virtual_host")
    if "ssl_cert_reqs" in query:
        query["ssl_cert_reqs"] = _normalize_requirement(query["ssl_cert_reqs"])
    scheme = "unix" if is_socket else parts.scheme
    # `urlunsplit` would drop the slashes of a URL without a host.
    return f"{scheme}://{parts.netloc}{parts.path}{'?' if query else ''}{urlencode(query)}"


def _validate_option(scheme: str, name: str, value: str) -> None:
    options = OPTIONS_BY_SCHEME[scheme]
    if name not in options:
        expected = f"expected {join_with_or(options)}" if options else "expected none"
        raise UsageError(f"broker URL: unknown option {name!r} for {scheme}://; {expected}")
    if name == "virtual_host" and not value.isdecimal():
        raise UsageError("broker URL: virtual_host: expected the number of a database")
    if name == "ssl_cert_reqs" and _normalize_requirement(value) not in CERTIFICATE_REQUIREMENTS:
        expected = join_with_or(CERTIFICATE_REQUIREMENTS)
        raise UsageError(f"broker URL: ssl_cert_reqs: expected {expected}")


def _normalize_requirement(value: str) -> str:
    return value.removeprefix("CERT_").lower()
