"""Ownership of a run: its driver stops once another one has resumed the run."""

from simulator.run.observers.base import RunObserver, RunSnapshot
from simulator.setup.heartbeat import Heartbeat


class OwnershipCheck(RunObserver):
    """A check that ends a driver whose run was resumed while the driver seemed to be dead."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def ticked(self, _snapshot: RunSnapshot) -> None:
        """Raise RunSuperseded if another driver has resumed the run."""
        self._heartbeat.require_ownership()
