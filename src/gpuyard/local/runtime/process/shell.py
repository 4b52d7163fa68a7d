"""The shell that starts a container: the same fixed script for every container, arguments as parameters.

It names itself in the journal (see `journal`), joins the cgroups and, with bubblewrap, becomes bubblewrap.
Without, it stays beside the container to write the exit code down.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# Descriptor 0 is the journal when the script starts: dash knows only descriptors of one digit, and
# subprocess gives only the first three a number of our choice. The subshell keeps its variable to itself,
# and has ended before the journal tells of the shell: whose first child is the command, for who stops it.
_PRELUDE = r"""
exec 3>&0 </dev/null
set -- "$(read -r line </proc/$$/stat && echo "$line")" "$@"
[ "$1" ] && echo "{ \"stat\": \"$1\" }" >&3 || exit 125
shift
while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done
shift
"""
_BECOME = _PRELUDE + 'exec "$@"\n'
# The shell's own remarks on how the command died don't belong into the container's log.
_STAY = (
    _PRELUDE
    + r"""
exec 4>&2 2>/dev/null
(exec "$@" 2>&4 3>&- 4>&-)
echo "{ \"exit-code\": $? }" >&3
"""
)

#: Where the journal is open for bubblewrap.
JOURNAL_FD = 3


def shell_argv(cgroups: Sequence[Path], command: Sequence[str], *, stay: bool) -> list[str]:
    """Runs `command` in these cgroups; `stay` makes the shell wait for it and record the exit code.

    The program has to be a path: a bare word could be a command of the shell's own.
    """
    procs = [str(cgroup / "cgroup.procs") for cgroup in cgroups]
    return ["/bin/sh", "-c", _STAY if stay else _BECOME, "gpuyard", *procs, "--", *command]
