"""Registries: the OCI distribution protocol over HTTP."""

import sys

# What httpx and its transport import where it is installed and don't need here: httpx's own command line
# (and with it rich), HTTP/2 (which is off), and trio's detection, looked for anew with each lock. Together
# 60 ms of a build. A module that is None in sys.modules counts as not installed, which both allow for.
for _name in ("httpx._main", "h2", "sniffio"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
