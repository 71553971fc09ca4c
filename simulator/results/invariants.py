"""All invariants: those of the record, and what gateway and driver can tell against it."""

from simulator.results import driver_invariants, ledger_invariants
from tracker.audit import invariants

INVARIANTS = (*invariants.INVARIANTS, *ledger_invariants.INVARIANTS, *driver_invariants.INVARIANTS)
