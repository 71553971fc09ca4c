"""All invariants: those of the record, and what gateway and driver can tell against it."""

from simulator import driver_audit, ledger_audit
from tracker import audit

INVARIANTS = (*audit.INVARIANTS, *ledger_audit.INVARIANTS, *driver_audit.INVARIANTS)
