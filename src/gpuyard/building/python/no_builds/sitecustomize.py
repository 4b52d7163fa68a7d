"""Ends every Python that uv starts to build something; uv's environment names this folder in PYTHONPATH.

uv's own options don't hold: it builds what is installed with `-e`, and what a requirements file or a uv.toml
names under `no-binary`, even with `--only-binary :all:`. It builds in an environment in a folder
`builds-v0`; keyrings, which it asks too, run elsewhere. Standard library only, for any Python from 3.6 on.
"""

import os
import sys

if "builds-v" in sys.prefix:
    sys.stderr.write("gpuyard runs no builds unless it is told to: see --build-sources\n")
    sys.stderr.flush()
    os._exit(77)
