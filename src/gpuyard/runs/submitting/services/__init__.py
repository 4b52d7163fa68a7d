"""What a submit decides of a service where it goes: how it is updated, and what scales it."""
