"""The shell that starts a container: the same fixed script for every container, arguments as parameters.

It names itself in the journal (see `journal`), joins the cgroups and, with bubblewrap, becomes bubblewrap.
Without, it stays beside the container to write the exit code down.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime.values import DEFAULT_PATH

# Descriptor 2 is the journal when the script starts: dash knows only descriptors of one digit, and
# subprocess gives only the first three a number of our choice. The subshell keeps its variable to itself,
# and has ended before the journal tells of the shell: whose first child is the command, for who stops it.
_PRELUDE = r"""
exec 3>&2 2>&1
set -- "$(read -r line </proc/$$/stat && echo "$line")" "$@"
[ "$1" ] && echo "{ \"stat\": \"$1\" }" >&3 || exit 125
shift
while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done
shift
"""
_BECOME = 'exec "$@"\n'
# Opened anew by the leader of a session it becomes the session's terminal, which Ctrl-C and its like go to.
# The shell beside the command is in the terminal's foreground, too, and has to write its exit code down.
_TERMINAL = "exec </proc/self/fd/1 <&1; trap '' HUP INT QUIT\n"
# The session of a sandbox has another leader, and takes the terminal later.
_INPUT = "exec <&1\n"
# The shell's own remarks on how the command died don't belong into the container's log.
_STAY = r"""
exec 4>&2 2>/dev/null
(trap - HUP INT QUIT; exec "$@" 2>&4 3>&- 4>&-)
echo "{ \"exit-code\": $? }" >&3
"""

#: Where the journal is open for bubblewrap.
JOURNAL_FD = 3


def shell_argv(
    cgroups: Sequence[Path], command: Sequence[str], *, stay: bool, tty: bool = False
) -> list[str]:
    """Runs `command` in these cgroups; `stay` makes the shell wait for it and record the exit code.

    The program has to be a path: a bare word could be a command of the shell's own.

    Args:
        cgroups: folders.
        command: program and arguments.
        stay: see above.
        tty: standard output is a terminal; when the shell stays it becomes that of its session.
    """
    procs = [str(cgroup / "cgroup.procs") for cgroup in cgroups]
    terminal = (_TERMINAL if stay else _INPUT) if tty else ""
    script = _PRELUDE + terminal + (_STAY if stay else _BECOME)
    return ["/bin/sh", "-c", script, "gpuyard", *procs, "--", *command]


def in_session(command: Sequence[str]) -> list[str]:
    """The command of a sandbox in a session of its own, with standard input as its terminal.

    Raises:
        StartError: the host has no setsid.
    """
    setsid = shutil.which("setsid", path=DEFAULT_PATH)
    if setsid is None:
        raise errors.StartError(
            "no terminal can be given: setsid isn't installed", remedy="install util-linux"
        )
    return [setsid, "--ctty", "--", *command]
