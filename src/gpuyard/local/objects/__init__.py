"""The verbs of the yard's API over the store: what an object may be, and what is written of it."""
