"""Targets of the Makefile, run as a user does."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.paths import ROOT


def run_make(
    *arguments: str, settings: Mapping[str, str], limit: float = 300.0
) -> "subprocess.CompletedProcess[str]":
    """Run make with the current environment, which it must not rebuild.

    `settings` are environment variables; `limit` is in seconds.
    """
    # The MAKEFLAGS of `make test` are for its own run.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--old-file", ".venv/.ready", f"BIN={Path(sys.executable).parent}", *arguments],
        cwd=ROOT,
        env={**outer, **settings},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
