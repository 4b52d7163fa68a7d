"""Lines about what a run finds on its machine: memory, shared memory, disk, ports, files in /tmp.

The texts are those of Python 3.11, torch 1.13 to 2.9, dash 0.5.12 and bash 5.2.
"""

from __future__ import annotations

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.known_lines import known

# In the order in which one line is tried: shared memory is a disk, too, and a worker may be killed by both.
SYSTEM_LINES = (
    known(
        Cause.SHARED_MEMORY_FULL,
        r"(?i)insufficient shared memory|out of shared memory|DataLoader worker .*bus error|"
        r"(?:/dev/shm|</?torch_\d).*no space left on device|no space left on device.*/dev/shm",
        "/dev/shm was full: workers hand over their batches through it",
        "raise --shm, or use fewer workers (num_workers)",
    ),
    known(
        Cause.BUS_ERROR,
        r"(?i)\bbus error\b|SIGBUS",
        "memory that it had mapped was gone: most often /dev/shm was full, through which workers hand over "
        "their batches; else a mapped file shrank, or the disk behind it was full",
        "raise --shm, or use fewer workers (num_workers); else replace a mapped file instead of writing "
        "into it, and free some room on its disk",
    ),
    known(
        Cause.DISK_FULL,
        r"(?i)no space left on device",
        "the disk that it wrote to is full",
        "free some room there, or write to another disk",
    ),
    known(
        Cause.PORT_IN_USE,
        r"(?i)EADDRINUSE|address already in use",
        "another process of the machine has the TCP port that it wants to listen on",
        "listen on the port that PORT in a service's environment names, or on 0 for any that is free; "
        "for torchrun leave --master_port out: on a yard each run has a free one, PET_MASTER_PORT",
    ),
    known(
        Cause.CHILD_KILLED,
        r"^Killed$|^\S+: (?:line \d+: +)?\d+ Killed\b|died with <Signals\.SIGKILL|"
        r"worker \(pid\(s\) [\d, ]+\) exited unexpectedly|worker \(pid \d+\) is killed by signal: Killed|"
        r"process in the process pool was terminated abruptly|Signal 9 \(SIGKILL\) received by PID",
        "a child process was killed, or ended without a word: most often because the memory was used up",
        "raise --memory, or use less (fewer workers, smaller batches); the node's kernel log names what was "
        "killed for memory",
    ),
    known(
        Cause.OWN_TMP,
        r"^(?=.*[Nn]o such file).*?(?P<path>(?<![\w/])/tmp/[^\s'\":>]+)",
        "the run has a /tmp of its own, empty at first: {path} of the machine isn't in it",
        "keep what runs share outside /tmp; or name it in workdir, command or env: then it is visible",
        "bring it along in the image, or in a volume",
    ),
)  # fmt: skip
