"""Loopback: the names and addresses by which this machine reaches itself."""

from ipaddress import ip_address

LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"}
)
"""Names of loopback in the host files of common systems."""


def is_loopback(host: str) -> bool:
    """Return whether a host, with or without the brackets of a URL, is this machine's loopback."""
    name = host.strip("[]").removesuffix(".").lower()
    try:
        address = ip_address(name)
    except ValueError:
        return name in LOOPBACK_NAMES or name.endswith(".localhost")  # see RFC 6761
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
