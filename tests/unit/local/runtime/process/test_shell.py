from __future__ import annotations

import fcntl
import os
import subprocess

import pytest

from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.process.shell import shell_argv
from tests.waiting import until_async


@pytest.mark.parametrize("stay", [True, False])
async def test_a_shell_in_the_journal_has_no_child_but_the_command(stay: bool) -> None:
    """Whoever stops a container at this moment signals its first child, and no helper of the shell's."""
    reading, journal = os.pipe()
    os.set_blocking(journal, False)
    filled = 0
    try:
        while True:
            filled += os.write(journal, bytes(fcntl.fcntl(journal, fcntl.F_GETPIPE_SZ)))
    except BlockingIOError:
        pass
    os.set_blocking(journal, True)
    argv = shell_argv([], ["/bin/echo", "the command"], stay=stay)
    shell = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=journal,
        text=True,
        env={"line": "kept"},
    )
    os.close(journal)

    def waits_for_the_journal() -> bool:
        me = procfs.read_stat(shell.pid)
        return (
            me is not None and me.state == "S" and not procfs.descendants([shell.pid], procfs.all_processes())
        )

    with shell, os.fdopen(reading, "rb") as file:
        try:
            await until_async(waits_for_the_journal, "the shell waits for the journal")
            assert not any(file.read(filled))
            assert f'{{ "stat": "{shell.pid} (sh) '.encode() in file.read()
            assert shell.communicate()[0] == "the command\n"
        finally:
            shell.kill()


async def test_a_variable_of_the_command_is_left_alone() -> None:
    for stay in (True, False):
        argv = shell_argv([], ["/bin/sh", "-c", 'echo "$line"'], stay=stay)
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={"line": "kept"}, check=True
        )
        assert done.stdout == "kept\n"
