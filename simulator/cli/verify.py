"""The command `sendtrace verify`: the tracker's invariants and the simulator's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.cli import make_verify_command

if TYPE_CHECKING:
    from tracker.audit.invariants import QueryInvariant


def _load_invariants() -> "Sequence[QueryInvariant]":
    from simulator.results.invariants import INVARIANTS

    return INVARIANTS


verify = make_verify_command(_load_invariants)
