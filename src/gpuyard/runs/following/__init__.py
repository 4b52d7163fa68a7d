"""One run while it goes on: what it waits for, its output and its end, as a series of events."""
