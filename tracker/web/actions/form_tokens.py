"""Tokens of forms: only a form that this process has shown can be sent to it."""

import hashlib
import hmac
import secrets
import time

MAX_AGE_SECONDS = 3_600
"""Seconds after which a form must be opened again."""

MAX_SECOND_DIGITS = 12
"""Digits of a Unix time that are read; Python refuses to parse thousands."""


class FormTokens:
    """Issues and checks the tokens of forms. A token is for one address, and for an hour.

    Browsers send passwords and cookies with requests that other sites make. They can't send this.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def issue(self, address: str) -> str:
        """Return the token of a form that is sent to an address."""
        return self._sign(address, int(time.time()))

    def is_valid(self, address: str, token: str) -> bool:
        """Return whether a token was issued for an address within the last hour."""
        second = token.partition(".")[0]
        if not (second.isascii() and second.isdecimal() and len(second) <= MAX_SECOND_DIGITS):
            return False
        is_recent = 0 <= time.time() - int(second) <= MAX_AGE_SECONDS
        expected = self._sign(address, int(second)).encode()
        return hmac.compare_digest(expected, token.encode()) and is_recent

    def _sign(self, address: str, second: int) -> str:
        signature = hmac.new(self._key, f"{second} {address}".encode(), hashlib.sha256)
        return f"{second}.{signature.hexdigest()}"
