"""Process 1 of the cluster's pid namespace: takes in orphans. When it ends, the kernel ends all the others.

Its argument, the cluster's folder, is only there to find it by.
"""

import os
import signal


def main() -> None:
    """Runs until SIGTERM."""
    waited = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    while signal.sigwait(waited) == signal.SIGCHLD:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
