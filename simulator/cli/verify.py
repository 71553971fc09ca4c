"""The command `sendtrace verify`: the tracker's invariants and the simulator's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.cli import make_verify_command

if TYPE_CHECKING:
    from tracker.audit.invariants import QueryInvariant
    from tracker.store.database import Database


def _load_invariants() -> "Sequence[QueryInvariant]":
    from simulator.results.invariants import INVARIANTS

    return INVARIANTS


def _migrate(database: "Database") -> None:
    from simulator.schema import migrate_all_tables

    migrate_all_tables(database)


verify = make_verify_command(_load_invariants, _migrate)
