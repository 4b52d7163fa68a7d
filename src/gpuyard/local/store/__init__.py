"""The yard's objects: one revision for all of them, durable writes, and a history to watch."""

from gpuyard.local.store.store import Store
from gpuyard.local.store.values import Change, Event, Stored
from gpuyard.local.store.watch import Watch

__all__ = ["Change", "Event", "Store", "Stored", "Watch"]
