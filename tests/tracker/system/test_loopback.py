"""The names by which a machine reaches itself."""

import pytest

from tracker.system.loopback import is_loopback


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "shop.localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "127.0.0.1",
        "127.0.0.2",
        "127.255.255.254",
        "::1",
        "[::1]",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
    ],
)
def test_loopback_names_and_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "0.0.0.0",  # noqa: S104
        "::",
        "10.0.0.1",
        "128.0.0.1",
        "localhost.example",
        "127.0.0.1.example",
        "notlocalhost",
        "::ffff:10.0.0.1",
        "127.1",
    ],
)
def test_other_names_and_addresses(host: str) -> None:
    assert not is_loopback(host)
