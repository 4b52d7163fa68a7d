"""`python -m gpuyard.agent`: the process that owns the GPUs of one node."""

import os
import signal
import sys

# The first process of a container has no default for them: one that came while all below is read would be
# lost. Blocked, they wait until the command takes them.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
# Nothing here forks without exec, and gRPC's fork handlers cost threads and have deadlocked. It is read
# when gRPC is imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# Asyncio does without TLS when Python has none, and so does the agent, which knows unix sockets only:
# OpenSSL would be 2 MB of the 40 that the process may take.
sys.modules["ssl"] = None  # type: ignore[assignment]

from gpuyard.agent.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
