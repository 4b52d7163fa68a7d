"""Lines of a shell that isn't bash and was given what only bash understands.

The texts are those of dash 0.5.12.
"""

from __future__ import annotations

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.known_lines import known

SHELL_LINES = (
    known(
        Cause.NOT_BASH,
        r"^\S+: \d+: (?:set: Illegal option -o pipefail|"
        r"(?:source|\[\[|shopt|declare|typeset|function|pushd|popd|mapfile): not found|"
        r"(?:Bad substitution|Syntax error: \"\(\" unexpected|Syntax error: redirection unexpected))",
        "sh ran what only bash understands",
        "run it with bash: `gpuyard run --shell bash -- '…'`; a script starts with #!/bin/bash",
    ),
)  # fmt: skip
