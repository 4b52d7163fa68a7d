"""Runs before the user's command: looks whether the GPUs asked for are there and usable, then becomes it.

What it looks for is in launcher_gpus.py, which lies beside this file, and is read where GPUYARD_GPUS=N says
how many GPUs were asked for; 0 or unset, nothing is checked.

What fails ends the run with exit code 78 and the reason on standard error. GPUYARD_ALLOW_CPU=1 goes on all
the same; GPUYARD_SIMULATED=1 (set with simulated GPUs) satisfies every check. GPUYARD_CUDA_INDEXES=1 puts
numbers in the place of UUIDs into CUDA_VISIBLE_DEVICES, for programs that read it as such.

    python launcher.py [--pythonpath FOLDERS] [--] COMMAND [ARGUMENT...]

--pythonpath puts folders (colons between them, relative to the working folder) before those of PYTHONPATH: a
script that travelled to an image finds the modules there as if it lay beside them.

A run of several pods starts when all are there, and ends when one has failed: see launcher_gang.py, which
is read where GPUYARD_GANG is set. So is launcher_grace.py for runs that say how they are to be ended
(GPUYARD_GRACE_S, GPUYARD_SIGNAL), launcher_idle.py for those that end when nobody uses them (GPUYARD_IDLE_S,
GPUYARD_TERMINAL), and launcher_sweep.py for tasks (GPUYARD_SWEEP).

It replaces itself by the command; 127 is the exit code when there is none, 126 when it can't run. As the
first process of a container, with which all others end, it stays and starts the command: see `stay`. So it
does in those runs.
Standard library only, Python 3.6 and later: it is copied into images, or travels in a ConfigMap.
"""
# pathlib would double the time that this takes.
# ruff: noqa: PTH100, PTH116, PTH118, PTH120, PTH123, PTH208

# Annotations are quoted, and not evaluated: older Pythons have no `list[str]`.
import os
import signal
import stat
import sys
import time

if False:  # typing would cost every run's start
    from typing import Any

EXIT_UNFIT = 78  # EX_CONFIG of sysexits.h
EXIT_USAGE = 64
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_UNUSED = 194

#: What a container is stopped with.
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: After it a stop isn't what a command ended of, unless it died of it: the usual grace of Kubernetes, where
#: GPUYARD_GRACE_S says no other.
_STOP_S = 30.0
#: How long the reader of a pipe may work on what is left in it.
_DRAIN_S = 5.0
#: How long what a stopped command left may take. Nodes kill it after a grace; a kill by hand has none.
_LEFT_S = 3600.0
#: The si_code of a signal by a terminal's key, which all of its process group gets.
_SI_KERNEL = 0x80


def main(argv: "list[str]", dev: str = "/dev") -> int:
    """Checks, then becomes the command of these arguments; returns only when it can't."""
    words = argv[1:]
    if len(words) > 1 and words[0] == "--pythonpath":
        # Absolute, since the command's own processes may work elsewhere.
        added = [os.path.abspath(folder) for folder in words[1].split(":")]
        os.environ["PYTHONPATH"] = ":".join(filter(None, [*added, os.environ.get("PYTHONPATH")]))
        words = words[2:]
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        _say("there is no command to start; write launcher.py COMMAND [ARGUMENT...]")
        return EXIT_USAGE
    is_simulated = _is_on("GPUYARD_SIMULATED")
    if _is_on("GPUYARD_CUDA_INDEXES"):
        _beside("launcher_gpus").use_indexes(_say, is_simulated=is_simulated)
    asked = os.environ.get("GPUYARD_GPUS", "")
    if asked.isdigit() and int(asked) and not is_simulated:
        gpus = _beside("launcher_gpus")
        try:
            gpus.check(int(asked), dev)
        except gpus.Unfit as reason:
            _say(f"this run asked for {asked} GPU{'' if asked == '1' else 's'}, and {reason}")
            if not _is_on("GPUYARD_ALLOW_CPU"):
                _say("GPU check failed; set GPUYARD_ALLOW_CPU=1 for a run that may go on without")
                return EXIT_UNFIT
            _say("going on without them, as GPUYARD_ALLOW_CPU says")
    return _become(command)


def _become(command: "list[str]") -> int:
    # Python ignores these two, and what is ignored stays so in the command.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - this is what a launcher is for
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = _why_missing(command[0]) if missing else f" can't be started: {error.strerror}"
        _say(command[0] + why)
        return EXIT_NOT_FOUND if missing else EXIT_NOT_EXECUTABLE


def _why_missing(command: str) -> str:
    """The system says the same of a program that isn't there and of one whose interpreter isn't."""
    for folder in [""] if "/" in command else os.get_exec_path():
        path = os.path.join(folder, command)
        try:
            with open(path, "rb") as file:
                line = file.readline(256)
        except OSError:
            continue
        if not line.startswith(b"#!"):
            return " can't be started: it is there, and its loader isn't: is it made for another C library?"
        if line.endswith(b"\r\n"):
            return " can't be started: its lines end as on Windows (CRLF); mend it with sed -i 's/\\r$//'"
        name = (line[2:].split() or [b""])[0].decode(errors="replace")
        return f" can't be started: its first line names {name}, which isn't there"
    return ": there is no such command"


def stay(run: "Any", gang: "Any" = None, make_grace: "Any" = None, unused: "Any" = None) -> int:
    """Runs it in a child, and gives its exit code, 128 + n after signal n. Zombies are reaped meanwhile.
    An elastic run's command is started so again and again.

    Signals go to the child alone: its workers are its own to stop. When it has died of one, as a shell does,
    or ended soon after a stop, what it started is told, and waited for: it may be saving.
    """
    _adopt_orphans()
    grace = make_grace() if make_grace is not None else None
    # Blocked, none is lost, not even one that process 1 doesn't handle. Faults of our own can't wait.
    taken = set(signal.Signals) - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    command = os.fork()
    if not command:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os._exit(int(run()))  # what else this process was about to do is its parent's
    passed: dict[int, float] = {}
    over: list[bool] = []
    # Who stops it first, the pod's own stop or the end of another: the command is told once.
    stopper: dict[str, str] = {}
    ended = _reap()

    def end() -> None:
        if stopper.setdefault("is", "another") == "another":
            passed[signal.SIGTERM] = time.monotonic()
            if grace is not None:
                grace.begin_end()
            _send(command, signal.SIGTERM)
        time.sleep(_grace_s())
        for pid in [] if over else _look()[0]:
            _send(pid, signal.SIGKILL)

    if gang is not None:
        gang.watch(end, passed)
    if grace is not None:
        grace.watch()
    if unused is not None:
        unused.watch(end)
    while command not in ended:
        got = signal.sigwaitinfo(taken)
        if got.si_signo != signal.SIGCHLD:
            passed[got.si_signo] = time.monotonic()
            if gang is not None and got.si_signo in _STOPPING:
                gang.leave()
            if grace is not None and got.si_signo == signal.SIGTERM:
                grace.begin_end()
            # A Job that has failed stops pods whose gang has told the command already.
            is_told = got.si_signo in _STOPPING and stopper.setdefault("is", "a signal") == "another"
            if got.si_code != _SI_KERNEL and not is_told:
                _send(command, got.si_signo)
        ended = _reap()
    code = _end_rest(ended[command], passed, grace, taken)
    if grace is not None:
        grace.close()
    over.append(True)
    return EXIT_UNUSED if unused is not None and unused.reason else code


def _adopt_orphans() -> None:
    if os.getpid() == 1:  # whose children all orphans are
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    except (ImportError, OSError, AttributeError):
        pass


def _end_rest(code: int, passed: "dict[int, float]", grace: "Any", taken: "set[signal.Signals]") -> int:
    """Ends what the command left where a signal ended it, and gives its exit code."""
    soon = time.monotonic() - _grace_s()
    told = [(at, by) for by, at in passed.items() if code == 128 + by or (by in _STOPPING and at > soon)]
    if told:
        by = max(told)[1]
        _end_children(by, taken)
        if grace is not None and grace.was_cut and code == 128 + signal.SIGKILL:
            code = 128 + by
    return code


def _grace_s() -> "float":
    """How long the container has from the signal of a stop to SIGKILL, as far as is known."""
    said = os.environ.get("GPUYARD_GRACE_S", "")
    return float(said) if said.isdecimal() else _STOP_S


def _end_children(by: int, taken: "set[signal.Signals]") -> None:
    """Tells what the command left by the signal of the stop or of a later one, and waits for it."""
    due: dict[int, float] = {}
    give_up_at = time.monotonic() + max(_LEFT_S, _grace_s())
    while _tell_children(by, due) and time.monotonic() < give_up_at:
        got = signal.sigtimedwait(taken, 0.02)
        if got and got.si_signo in _STOPPING and got.si_code != _SI_KERNEL:
            by = got.si_signo
            # Who has been told is told again; a reader keeps its time.
            due = {pid: at for pid, at in due.items() if at < float("inf")}
        _reap()


def _tell_children(by: int, due: "dict[int, float]") -> bool:
    """Signals each child at the time that `due` keeps here; False when there are none.

    Tee isn't told in `python train.py | tee log`: it ends with its last writer, whose last words count.
    What has another parent is told when that has ended: then it is our child.
    """
    (children, readers), now = _look(), time.monotonic()
    for pid, handled in children.items():
        if pid in readers:
            due[pid] = now + _DRAIN_S
        elif due.get(pid, now) <= now:
            _send(pid, by if handled >> (by - 1) & 1 else signal.SIGTERM)
            due[pid] = float("inf")
    return bool(children)


def _look() -> "tuple[dict[int, int], set[int]]":
    """Our children with the signals that they handle, and all who read from a pipe that others write to."""
    children: dict[int, int] = {}
    pipes: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/status", errors="replace") as file:
                status = dict(line.split(":", 1) for line in file)
            if int(status["PPid"]) == os.getpid() and status["State"].split()[0] not in "ZX":
                children[pid] = int(status.get("SigCgt", "0"), 16)
            for number in {"0", "1", "2"}.intersection(os.listdir(f"/proc/{pid}/fd")):
                found = os.stat(f"/proc/{pid}/fd/{number}")
                if stat.S_ISFIFO(found.st_mode):
                    pipes.setdefault((found.st_dev, found.st_ino), (set(), set()))[number > "0"].add(pid)
        except OSError:  # it has ended
            continue
    return children, {pid for reading, writing in pipes.values() for pid in reading if writing - {pid}}


def _reap() -> "dict[int, int]":
    """The exit codes of the children that have ended."""
    codes: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return codes
            codes[pid] = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    except ChildProcessError:
        return codes


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (PermissionError, ProcessLookupError):  # it became another user's, it has ended
        pass


def _beside(name: str) -> "Any":
    """Another file of the launcher's, which only some runs need."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    try:
        return __import__(name)
    except ImportError:
        _say(name + ".py isn't beside it: build the image again with this gpuyard")
        sys.exit(EXIT_USAGE)
    finally:
        del sys.path[0]


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def _say(text: str) -> None:
    print(f"gpuyard: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # The parent of a container's first process is outside.
    first = os.getpid() == 1 or os.getppid() == 0
    sweep = "GPUYARD_SWEEP" in os.environ
    words = _beside("launcher_sweep").become_task(sys.argv, _say) if sweep else sys.argv
    by_grace = os.environ.get("GPUYARD_GRACE_S") or os.environ.get("GPUYARD_SIGNAL")
    ending = _beside("launcher_grace").Grace if by_grace else None
    by_use = os.environ.get("GPUYARD_IDLE_S") or os.environ.get("GPUYARD_TERMINAL")
    used = _beside("launcher_idle").Unused(_say) if by_use else None

    def stay_in(gang: "Any" = None) -> int:
        """Of the command that this process was given."""
        make_grace = ending and (lambda: ending(_look, _send, _say))
        return stay(lambda: main(words), gang, make_grace, used)

    if os.environ.get("GPUYARD_GANG"):
        together = _beside("launcher_gang")
        is_elastic = ".." in os.environ["GPUYARD_GANG"]
        rank = _beside("launcher_elastic").ElasticRank if is_elastic else together.Rank
        sys.exit(together.stay_together(rank, stay_in, _say))
    sys.exit(stay_in() if first or by_grace or by_use else main(words))
