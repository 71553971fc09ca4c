"""The key of the hashes that suppression lists keep of erased customers.

It is a secret in the state folder: hashes can only be compared with addresses by this key.
"""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from tracker.errors import UsageError
from tracker.record.retention.erased import ERASED_PREFIX, Protect
from tracker.record.suppressions.entries import Recipient

KEY_FILE = "erasure.key"
"""Name of the file with the key, in the state folder."""


def create_key(home: Path) -> None:
    """Create the key in a state folder, unless it is there; only its owner may read it."""
    with suppress(FileExistsError):
        descriptor = os.open(home / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())


def load_key(home: Path) -> Protect:
    """Return the function that hashes addresses with the key of a state folder.

    Raises:
        UsageError: the folder has no key.
    """
    try:
        key = bytes.fromhex((home / KEY_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        raise UsageError(
            f"{home / KEY_FILE}: can't be read, and suppression lists have hashes of erased"
            " customers that only this key can compare; restore it from a backup"
        ) from None

    def protect(recipient: Recipient) -> Recipient:
        text = f"{recipient.channel}:{recipient.address}"
        digest = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return Recipient(recipient.channel, ERASED_PREFIX + digest)

    return protect
