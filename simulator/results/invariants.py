"""All invariants: of the record, and of the record against the gateway's ledger and the driver."""

from simulator.results import driver_invariants, ledger_invariants
from tracker.audit import invariants

INVARIANTS = (*invariants.INVARIANTS, *ledger_invariants.INVARIANTS, *driver_invariants.INVARIANTS)
