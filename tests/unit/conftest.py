"""What holds for all unit tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says something of the machine's load, and nothing of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
