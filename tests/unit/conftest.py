"""What holds for all unit tests."""

from __future__ import annotations

from hypothesis import settings

from tests.launchers import gang_port, start  # noqa: F401

# How long an example takes says something of the machine's load, and nothing of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
