"""Registries: the OCI distribution protocol over HTTP."""

import sys

# httpx imports its own command line, and with it rich, wherever rich is installed: 50 ms of each of our
# commands. A module that is None in sys.modules counts as not installed, which httpx allows for.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
