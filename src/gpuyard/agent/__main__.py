"""`python -m gpuyard.agent`: the process that owns the GPUs of one node."""

import signal
import sys

# The first process of a container has no default for them: one that came while all below is read would be
# lost. Blocked, they wait until the command takes them.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

from gpuyard.agent.unneeded import leave_out  # noqa: E402

leave_out()

from gpuyard.agent.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
